"""`docker service logs`: what a user sees of tasks on several nodes, and what it costs when he does not look."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from .hosts import Host, Lines, Swarm, containers, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

# The pauses keep the two streams in order.
TALK = "echo out-$SLOT-a; sleep 0.1; echo err-$SLOT >&2; sleep 0.1; echo out-$SLOT-b; sleep 1d"
COUNT = "n=0; while true; do echo tick-$n-; n=$((n+1)); sleep 0.2; done"
PREFIX = re.compile(
    r"^(?P<name>[\w-]+)\.(?P<slot>\d)\.(?P<task>\w{12})@(?P<node>mg0|w0|w1) +\| (?P<text>.*)$"
)
BULK_BYTES = 50_000_000


def create(swarm: Swarm, name: str, image: str, script: str, *options: str) -> None:
    options = ("--stop-grace-period", "0s", *options)
    swarm.manager.docker("service create -d --name", name, *options, image, "sh", "-c", script)


@pytest.fixture(scope="module")
def talkers(swarm: Swarm, busybox_image: str) -> Iterator[str]:
    """A service with a task on each node; each says three lines."""
    swarm.manager.docker("swarm update --dispatcher-heartbeat 1s")
    create(swarm, "talk", busybox_image, TALK, "--replicas", "3", "--env", "SLOT={{.Task.Slot}}")
    expected = {
        f"{kind}-{slot}{end}" for slot in "123" for kind, end in (("out", "-a"), ("out", "-b"), ("err", ""))
    }
    wait_until("all said", lambda: expected == set(both(swarm.manager, "--raw", "talk")))
    yield "talk"
    swarm.manager.run("service rm talk", check=False)


@pytest.fixture
def counters(swarm: Swarm, busybox_image: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A service that goes on talking, a task on each node."""
    name = request.node.name.replace("test_", "")[:30].strip("_").replace("_", "-")
    create(swarm, name, busybox_image, COUNT, "--replicas", "3")
    yield name
    swarm.manager.run("service rm", name, check=False)


def both(host: Host, *arguments: str) -> list[str]:
    """Returns the lines of stdout and stderr."""
    done = host.run("service logs", *arguments)
    return (done.stdout + done.stderr).splitlines()


def get(host: Host, path: str) -> tuple[int, dict[str, str], bytes]:
    command = ["curl", "-s", "-i", "-m", "20", "--unix-socket", str(host.socket), f"http://docker{path}"]
    head, _, body = subprocess.run(command, check=True, capture_output=True).stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def test_lines_of_all_nodes_with_where_they_come_from(swarm: Swarm, talkers: str) -> None:
    done = swarm.manager.run("service logs", talkers)
    out = [PREFIX.fullmatch(line) for line in done.stdout.splitlines()]
    err = [PREFIX.fullmatch(line) for line in done.stderr.splitlines()]
    assert all(out)
    assert all(err)
    said = [(found["name"], found["slot"], found["text"]) for found in out if found]
    for slot in "123":
        mine = [text for _, of, text in said if of == slot]
        assert mine == [f"out-{slot}-a", f"out-{slot}-b"], "a task's lines are in order"
    assert {found["text"] for found in err if found} == {"err-1", "err-2", "err-3"}
    assert {found["node"] for found in out if found} == {"mg0", "w0", "w1"}
    tasks = {row["ID"][:12]: (row["Name"], row["Node"]) for row in swarm.manager.tasks(talkers)}
    for found in (*out, *err):
        assert found is not None
        assert tasks[found["task"]] == (f"{found['name']}.{found['slot']}", found["node"])


def test_options(swarm: Swarm, talkers: str) -> None:
    manager = swarm.manager
    assert len(both(manager, "--tail", "1", talkers)) == 3, "of each task"
    assert both(manager, "--tail", "0", talkers) == []
    times = sorted(line.split(" ")[0] for line in both(manager, "-t", talkers))
    assert len(both(manager, "--since", times[5], talkers)) == 4, "to the nanosecond, with the line of then"
    assert len(both(manager, "--since", "1h", talkers)) == 9
    for line in both(manager, "-t", talkers):
        time_of, _, rest = line.partition(" ")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", time_of)
        assert PREFIX.fullmatch(rest)
    assert all("|  " in line for line in both(manager, "--details", talkers)), "no driver says more"
    details = both(manager, "--raw", "--details", talkers)
    assert all(line.startswith("com.docker.swarm.node.id=") for line in details)
    task = manager.tasks(talkers)[0]
    assert len(both(manager, task["ID"])) == 3


def test_answers_of_the_api_are_dockers(swarm: Swarm, talkers: str) -> None:
    manager = swarm.manager
    code, _, body = get(manager, f"/v1.41/services/{talkers}/logs")
    assert (code, json.loads(body)) == (
        500,
        {"message": "Bad parameters: you must choose at least one stream"},
    )
    for path, message in {
        "services/nope": "service nope not found",
        "tasks/nope": "task nope not found",
    }.items():
        code, _, body = get(manager, f"/v1.41/{path}/logs?stdout=1")
        assert (code, json.loads(body)) == (404, {"message": message})
    for query, message in {
        "tail=x": 'tail value must be a positive integer or "all"',
        "tail=-2": "negative tail values not supported",
        "since=zz": 'could not parse since timestamp: strconv.ParseInt: parsing "zz": invalid syntax',
    }.items():
        code, _, body = get(manager, f"/v1.41/services/{talkers}/logs?stdout=1&{query}")
        assert (code, json.loads(body)) == (500, {"message": message})
    code, headers, body = get(manager, f"/services/{talkers}/logs?stdout=1&tail=1")
    assert (code, headers["content-type"]) == (200, "application/vnd.docker.multiplexed-stream")
    assert sorted(body[n * 16 : n * 16 + 16] for n in range(3)) == [
        b"\x01\0\0\0\0\0\0\x08out-%d-b\n" % slot for slot in (1, 2, 3)
    ]
    _, headers, _ = get(manager, f"/v1.41/services/{talkers}/logs?stdout=1&tail=1")
    assert headers["content-type"] == "application/vnd.docker.raw-stream"


def test_docker_py(swarm: Swarm, talkers: str) -> None:
    client = docker.DockerClient(swarm.manager.url, version="auto")
    try:
        service = client.services.get(talkers)
        lines = b"".join(service.logs(stdout=True, stderr=True)).splitlines()
        assert len(lines) == 9
        assert set(b"".join(service.logs(stderr=True)).splitlines()) == {b"err-1", b"err-2", b"err-3"}
    finally:
        client.close()


def test_a_terminals_service_is_raw(swarm: Swarm, busybox_image: str) -> None:
    create(swarm, "term", busybox_image, "echo out; echo err >&2; sleep 1d", "--tty")
    try:
        refused = swarm.manager.run("service logs term", check=False)
        assert "tty service logs only supported with --raw" in refused.stderr
        wait_until("both lines", lambda: swarm.manager.docker("service logs --raw term") == "out\nerr")
        code, headers, body = get(swarm.manager, "/services/term/logs?stdout=1&stderr=1")
        assert (code, headers["content-type"], body) == (
            200,
            "application/vnd.docker.raw-stream",
            b"out\r\nerr\r\n",
        )
    finally:
        swarm.manager.docker("service rm term")


def test_logs_that_cannot_be_read_say_so(swarm: Swarm, busybox_image: str) -> None:
    create(swarm, "mute", busybox_image, "sleep 1d", "--log-driver", "none")
    try:
        (line,) = wait_until("it runs", lambda: both(swarm.manager, "mute"))
        assert "configured logging driver does not support reading" in line
        assert PREFIX.fullmatch(line.strip())
    finally:
        swarm.manager.docker("service rm mute")


def test_a_follower_sees_new_tasks_and_ends_with_the_service(swarm: Swarm, counters: str) -> None:
    manager, engine = swarm.manager, swarm.engine.removeprefix("unix://")
    with manager.stream("service logs -f --tail 0", counters) as lines:
        for slot in "123":
            lines.first(f"{counters}.{slot}.")
        manager.docker("service scale -d {}=4", counters)
        assert "tick-0-" in lines.first(f"{counters}.4."), "a new task is followed from its beginning"
        before = {row["ID"] for row in manager.tasks(counters)}
        victim = next(iter(containers(engine, f"com.docker.swarm.service.name={counters}")))
        subprocess.run(["docker", "-H", swarm.engine, "kill", victim["ID"]], check=True, capture_output=True)
        (new,) = wait_until("a new task", lambda: {row["ID"] for row in manager.running(counters)} - before)
        assert "tick-0-" in lines.first(new[:12])
        manager.docker("service rm", counters)
        wait_until("the follower ends", lambda: lines.ended, 20)


def ticks(lines: Lines, node: str) -> list[int]:
    """Returns the numbers that the first task on that node has said so far."""
    found = [PREFIX.match(line.strip()) for line in lines.seen]
    mine = [each for each in found if each is not None and each["node"] == node and "tick-" in each["text"]]
    return [int(each["text"].split("-")[1]) for each in mine if each["task"] == mine[0]["task"]]


def test_a_node_that_hangs_delays_nobody_and_loses_nothing(swarm: Swarm, counters: str) -> None:
    manager, worker = swarm.manager, swarm.workers[0]
    assert worker.process is not None
    with manager.stream("service logs -f", counters, both=True) as lines:
        wait_until("lines of the worker", lambda: ticks(lines, "w0"))
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            reached = len(ticks(lines, "w1"))
            wait_until("the others go on", lambda: len(ticks(lines, "w1")) > reached + 5)
            warning = lines.first("no more logs from node w0: it is down")
            assert PREFIX.fullmatch(warning.strip()), warning
            began = time.monotonic()
            shown = both(manager, "--tail", "1", counters)
            assert time.monotonic() - began < 4, "it is known to be down: nobody waits for it"
            assert any("no logs from node w0: it is down" in line for line in shown)
            assert any("@w1 " in line and "tick-" in line for line in shown)
            before = len(ticks(lines, "w0"))
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)
        wait_until("the node is read on", lambda: len(ticks(lines, "w0")) > before)
        numbers = ticks(lines, "w0")
        assert numbers == list(range(len(numbers))), "each line once, none is missing"


def test_an_agent_that_starts_again_is_read_on(swarm: Swarm, counters: str) -> None:
    with swarm.manager.stream("service logs -f", counters) as lines:
        wait_until("lines of the worker", lambda: ticks(lines, "w1"))
        swarm.workers[1].kill()
        before = len(ticks(lines, "w1"))
        swarm.workers[1].start()
        wait_until("the node is read on", lambda: len(ticks(lines, "w1")) > before + 3)
        numbers = ticks(lines, "w1")
        assert numbers == list(range(len(numbers))), "each line once, none is missing"


def resident_mb(host: Host) -> float:
    assert host.process is not None
    pages = int(Path(f"/proc/{host.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_a_slow_reader_fills_nobodys_memory(swarm: Swarm, talkers: str, busybox_image: str) -> None:
    """50 MB of a worker's, first to a client that does not read, then to one that does."""
    manager, worker = swarm.manager, swarm.workers[0]
    script = f"yes {'x' * 999} | head -c {BULK_BYTES}; echo; sleep 1d"
    create(swarm, "bulk", busybox_image, script, "--constraint", "node.hostname==w0")
    wait_until("all is written", lambda: both(manager, "--raw", "--tail", "1", "bulk") == [""], 60)
    before = resident_mb(manager), resident_mb(worker)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(manager.socket))
        client.sendall(b"GET /v1.41/services/bulk/logs?stdout=1&follow=0 HTTP/1.0\r\n\r\n")
        assert client.recv(12).endswith(b" 200")
        time.sleep(4)  # more than three heartbeats
        grown = resident_mb(manager) - before[0], resident_mb(worker) - before[1]
        assert max(grown) < 30, grown
        began = time.monotonic()
        assert len(both(manager, talkers)) >= 9
        assert time.monotonic() - began < 3, "another reader is not held up"
        assert swarm.nodes()["w0"] == "Ready"
        size = 0
        while part := client.recv(1 << 20):
            size += len(part)
    assert size > BULK_BYTES * 1008 / 1000, "every line, with its frame's header"
    grown = resident_mb(manager) - before[0], resident_mb(worker) - before[1]
    assert max(grown) < 30, grown
    manager.docker("service rm bulk")


def test_another_manager_passes_them_on(swarm: Swarm, talkers: str, counters: str) -> None:
    """Also when the client goes: nothing stays open on the leader."""
    other = swarm.workers[0]
    swarm.manager.docker("node promote", other.name)
    try:
        wait_until("a manager", lambda: other.run("node ls", check=False).returncode == 0)
        assert len(both(other, talkers)) >= 9
        with other.stream("service logs -f --tail 0", counters) as lines:
            lines.first("@w1 ")
    finally:
        swarm.manager.docker("node demote", other.name)
