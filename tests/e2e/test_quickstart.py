"""The first command of the README, as a new user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from .hosts import Host, wait_until
from .remains import task_files

ROOT = Path(__file__).parents[2]
NAMES = ("mg0", "mg1", "mg2", "w0", "w1")
STUBBORN = "trap '' TERM; while sleep 1; do :; done"


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SKEP_QUICKSTART_DIR": str(home)}
    command = [ROOT / "quickstart", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


def quickstart(home: Path, *arguments: str) -> str:
    done = run(home, *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def lines(*command: str) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def links() -> set[str]:
    return {line.split(": ")[1] for line in lines("ip", "-o", "link")}


def rules() -> set[str]:
    return {line for line in lines("iptables-save") if line.startswith("-A")}


def namespaces() -> set[str]:
    return lines("ip", "netns", "list")


def processes(home: Path) -> list[str]:
    return [line for line in lines("ps", "-eo", "args") if f"{home}/" in line]


def asked(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}:8080", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.root
@pytest.mark.timeout(300)
def test_quickstart_leaves_a_running_swarm_finds_it_again_and_takes_it_down(short_dir: Path) -> None:
    """Down takes all of it, also what a daemon that was killed ran."""
    home = short_dir / "q"
    hosts = {name: Host(home, name, "") for name in NAMES}
    looks: list[Callable[[], set[str]]] = [links, rules]
    before = [look() for look in looks]
    nodes: list[str] = []
    number = ""
    try:
        said = quickstart(home)
        last = said.splitlines()[-1]
        assert last == f"export DOCKER_HOST=unix://{home}/mg0.sock"
        shown = re.findall(r"curl http://([0-9.]+):8080    # \w+\nhello from task \d on \w+\n", said)
        assert len(set(shown)) == 2, said
        number = shown[0].split(".")[2]
        again = quickstart(home)
        assert again.splitlines()[-1] == last
        assert "service create" not in again
        states = hosts["mg0"].docker("service ps hello --format {{.CurrentState}}").split("\n")
        assert len([state for state in states if state.startswith("Running")]) == 3
        assert "service ls" in quickstart(home, "status")
        for address in (f"10.213.{number}.{place}" for place in range(1, 6)):
            assert len({asked(address) for _ in range(3)}) == 3
        _demoted(hosts["mg0"])
        again = quickstart(home)
        assert again.splitlines()[-1] == f"export DOCKER_HOST=unix://{home}/mg1.sock"
        assert "service create" not in again
        nodes = _stubborn_everywhere(hosts)
        for name in ("mg0", "w1"):
            os.kill(int((home / f"{name}.pid").read_text()), signal.SIGKILL)
        os.kill(int((home / "e-w0/pid").read_text()), signal.SIGKILL)
        dead = "skepd mg0 does not run"  # once the kernel has taken all of it away
        wait_until("it is gone", lambda: dead in quickstart(home, "status"), 20)
        status = quickstart(home, "status")
        assert "the Docker Engine of w0 does not answer" in status
        assert "service ls" in status, "another manager answers"
        assert status.splitlines()[-1] == f"export DOCKER_HOST=unix://{home}/mg1.sock"
    finally:
        quickstart(home, "down")
    assert not home.exists()
    assert [look() for look in looks] == before
    assert [each for each in namespaces() if each.startswith(f"skep{number}-")] == []
    assert processes(home) == []
    assert str(home) not in Path("/proc/self/mounts").read_text()
    assert [path for node in nodes for path in task_files(node)] == []


def _demoted(host: Host) -> None:
    host.docker("node demote", host.name)
    control = ("info", "-f", "{{.Swarm.ControlAvailable}}")
    wait_until("a worker it is", lambda: host.docker(*control) == "false")


def _stubborn_everywhere(hosts: dict[str, Host]) -> list[str]:
    """Runs what does not end by itself, with a secret and a network, on all nodes. Returns their ids."""
    first = hosts["mg1"]
    first.docker("network create -d overlay n")
    first.docker("secret create s -", data=b"secret")
    options = ["--name", "all", "--mode", "global", "--network", "n", "--secret", "s"]
    options += ["--no-resolve-image", "--stop-grace-period", "60s", "skep-quickstart", "sh", "-c", STUBBORN]
    first.docker("service create -q", *options)
    nodes = [host.docker("info -f {{.Swarm.NodeID}}") for host in hosts.values()]
    assert task_files(nodes[-1])
    return nodes


@pytest.mark.root
@pytest.mark.parametrize(
    "arguments", [("down", "--help"), ("down", "now"), ("status", "x"), ("",), ("downn",)]
)
def test_no_argument_is_taken_for_another(short_dir: Path, arguments: tuple[str, ...]) -> None:
    home = short_dir / "q"
    home.mkdir()
    (home / "lan").write_text("number 250\n")
    done = run(home, *arguments)
    assert done.returncode == (0 if "--help" in arguments else 1), done.stderr
    assert "Run again, both find what is there" in done.stdout or "unknown" in done.stderr
    assert (home / "lan").exists()


@pytest.mark.root
def test_a_swarm_of_an_earlier_skep_is_left_to_it(short_dir: Path) -> None:
    """It shared one engine: what is there would be taken for this one's, and nobody would end it."""
    home = short_dir / "q"
    (home / "mg0").mkdir(parents=True)
    for command in ((), ("down",)):
        done = run(home, *command)
        assert done.returncode == 1
        assert "is a swarm of an earlier skep" in done.stderr
    assert (home / "mg0").is_dir()
