"""`skep top`: what real containers take, as Docker's own `stats` has it, and the screen that a user looks at."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .fixtures import swarm_fixture
from .hosts import Host, Swarm, wait_until
from .skep_cli import SKEP, skep, skep_ok

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

HELD_BYTES, ON_DISK_BYTES = 50_000_000, 60_000_000
# What is in a tmpfs is memory; what was written to a disk is memory that the kernel takes back when it likes.
HOLD = f"head -c {HELD_BYTES} /dev/zero >/held/x; head -c {ON_DISK_BYTES} /dev/zero >/x; sleep 1d"

swarm = swarm_fixture(lambda directory, engine: Swarm(directory, engine, workers=1), on_engine=True)


@pytest.fixture(scope="module")
def busy(swarm: Swarm, busybox_image: str) -> Iterator[Swarm]:
    """Services that spin, hold memory, and fail."""
    create = "service create -d -q --stop-grace-period 0s --name"
    manager = swarm.manager
    manager.docker(f"{create} spin", busybox_image, "sh", "-c", "while :; do :; done")
    held = ("--mount", "type=tmpfs,target=/held", "--limit-memory", "200m")
    manager.docker(f"{create} hold", *held, busybox_image, "sh", "-c", HOLD)
    manager.docker(f"{create} fails --restart-delay 100ms", busybox_image, "sh", "-c", "sleep 2; exit 1")
    wait_until("they run", lambda: all(manager.running(name) for name in ("spin", "hold", "fails")), 60)
    yield swarm
    manager.run("service rm spin hold fails", check=False)


def top(host: Host, line: str) -> list[dict[str, Any]]:
    printed = skep_ok(f"top {line} --once --format json", on=host)
    return [json.loads(row) for row in printed.splitlines()]


def one(host: Host, service: str) -> dict[str, Any]:
    """Returns the service's task and what it takes."""
    (found,) = top(host, f"tasks -f service={service}")
    return found


def docker_stats(engine_socket: str, container: str) -> tuple[float, float]:
    """Returns (processors, bytes) as Docker's own command says."""
    command = ["docker", "-H", f"unix://{engine_socket}", "stats", "--no-stream", "--format", "{{json .}}"]
    said = json.loads(
        subprocess.run([*command, container], check=True, capture_output=True, text=True).stdout
    )
    number, unit = re.fullmatch(r"([0-9.]+)(\w+)", said["MemUsage"].split(" / ")[0]).groups()  # type: ignore[union-attr]
    units = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return float(said["CPUPerc"].rstrip("%")) / 100, float(number) * units[unit]


def test_memory_is_what_docker_says(busy: Swarm, engine_socket: str) -> None:
    hold = wait_until(
        "it holds it", lambda: (t := one(busy.manager, "hold")) and t["MemoryBytes"] > HELD_BYTES and t
    )
    _, by_docker = docker_stats(engine_socket, f"hold.1.{hold['ID']}")
    assert HELD_BYTES < hold["MemoryBytes"] < HELD_BYTES + 10_000_000
    assert hold["MemoryBytes"] == pytest.approx(by_docker, rel=0.05)
    assert hold["MemoryLimitBytes"] == 200 << 20
    assert (hold["Name"], hold["State"], hold["Restarts"]) == ("hold.1", "running", 0)
    assert top(busy.manager, "tasks --sort memory")[0]["ID"] == hold["ID"]


def test_services_add_up_and_restarts_are_counted(busy: Swarm) -> None:
    services = wait_until(
        "it failed", lambda: (s := top(busy.manager, "services -s restarts")) and s[0]["Restarts"] and s, 60
    )
    assert services[0]["Name"] == "fails"
    of = {each["Name"]: each for each in services}
    assert (of["hold"]["TasksMeasured"], of["hold"]["TasksRunning"]) == (1, 1)
    assert of["hold"]["MemoryBytes"] > HELD_BYTES


def test_nodes_and_one_that_does_not_answer(busy: Swarm) -> None:
    nodes = {each["Hostname"]: each for each in top(busy.manager, "nodes")}
    assert set(nodes) == {"mg0", "w0"}
    assert nodes["mg0"]["Leader"]
    memory = nodes["w0"]["Usage"]["MemoryUsedBytes"]
    assert HELD_BYTES < memory < nodes["w0"]["MemoryBytes"]
    assert 0 < nodes["w0"]["Usage"]["CPUCores"] <= nodes["w0"]["NanoCPUs"] / 1e9 + 0.1
    worker = busy.workers[0].process
    assert worker is not None
    os.kill(worker.pid, 19)  # SIGSTOP
    try:
        time.sleep(2.1)  # what it said a moment ago is still good until then
        began = time.monotonic()
        done = skep("top -n 5", on=busy.manager)
        assert time.monotonic() - began < 10
        assert (done.returncode, done.stderr) == (0, "1 of 2 nodes did not answer\n")
        assert re.search(r"^w0 +\w+ +worker +\d", done.stdout, re.M)  # with what it said last
    finally:
        os.kill(worker.pid, 18)  # SIGCONT
    wait_until("it answers again", lambda: skep("top -n 5", on=busy.manager).stderr == "")


def test_what_is_asked_for_wrongly_is_said(busy: Swarm) -> None:
    for line, words in (
        ("top nodes --sort restarts", "nodes are not sorted by restarts: cpu, memory"),
        ("top services --filter node=w0", "filter 'node=w0' is none of services: service=NAME"),
        ("top tasks --filter service=nobody", "service nobody not found"),
        ("top nodes --filter node=nobody", "node nobody not found"),
    ):
        done = skep(line, on=busy.manager)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_screen_moves_takes_keys_and_ends(busy: Swarm) -> None:
    process, terminal = pty.fork()
    if not process:  # pragma: no cover
        os.environ["TERM"] = "xterm"
        os.execv(SKEP, ["skep", "top", "--host", busy.manager.url])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    os.set_blocking(terminal, False)
    seen = b""

    def shows(text: str) -> bool:
        nonlocal seen
        try:
            seen += os.read(terminal, 1 << 16)
        except BlockingIOError:
            pass
        return text.encode() in seen

    wait_until("nodes", lambda: shows("MEM USAGE / TOTAL"))
    os.write(terminal, b"s")
    wait_until("services", lambda: shows("RESTARTS"))
    os.write(terminal, b"t")
    wait_until("tasks", lambda: shows("hold.1"))
    frames = seen.count(b"skep top")
    wait_until("it moves by itself", lambda: shows("") and seen.count(b"skep top") > frames + 1)
    os.write(terminal, b"q")
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"\x1b[?1049l" in seen or b"\x1b[?1049h" in seen  # what was on the screen before is there again


def test_a_busy_loop_is_what_it_uses_of_one_processor(busy: Swarm, engine_socket: str) -> None:
    spin = one(busy.manager, "spin")
    name = f"spin.1.{spin['ID']}"
    command = ["docker", "-H", f"unix://{engine_socket}", "inspect", "--format", "{{.State.Pid}}", name]
    pid = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # What is left of a processor changes from one moment to the next, and these are not quite of the same.
    for _ in range(4):
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(2.5)
        used = (cpu_s(pid) - before) / (time.monotonic() - began)  # about one, where others leave it one
        spin = one(busy.manager, "spin")
        by_docker, _ = docker_stats(engine_socket, name)
        if abs(spin["CPUCores"] - used) < 0.2 and abs(spin["CPUCores"] - by_docker) < 0.4:
            break
    assert spin["CPUCores"] == pytest.approx(used, abs=0.2)
    assert spin["CPUCores"] == pytest.approx(by_docker, abs=0.4)
    assert 0.05 < spin["CPUCores"] < 1.1
    assert top(busy.manager, "tasks")[0]["ID"] == spin["ID"]


def cpu_s(pid: int) -> float:
    """Returns the seconds of processors that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
