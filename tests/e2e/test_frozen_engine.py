"""A Docker Engine that stands still: its node is given up as if it were dead, and is back once it answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .hosts import Host, Swarm, busybox_into, containers, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

ENGINE = str(Path(__file__).parents[2] / "scripts/engine.sh")
DOWN_S = 20.0  # ten pings of a second, a ping under way, and a busy machine
ANSWER_S = 5.0  # a command of the client asks some three things, of which one waits for a second
WHY = "engine does not answer"


class OwnEngine:
    """The manager's own engine, which can be frozen."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "docker.sock")
        self._directory = directory

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        pid = int((self._directory / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def own_engine(short_dir: Path) -> Iterator[OwnEngine]:
    directory = short_dir / "e"
    subprocess.run([ENGINE, "start", str(directory), f"skz{os.getpid() % 100000}"], check=True)
    try:
        yield OwnEngine(directory)
    finally:
        subprocess.run([ENGINE, "stop", str(directory)], check=True)


@pytest.fixture
def swarm(engine_socket: str, busybox_image: str, own_engine: OwnEngine, short_dir: Path) -> Iterator[Swarm]:
    """A manager on its own engine and two workers on the shared one, with short heartbeats."""
    busybox_into(own_engine.socket)
    made = Swarm(short_dir, f"unix://{engine_socket}", workers=2)
    made.manager = Host(short_dir, "mg0", f"unix://{own_engine.socket}")
    try:
        made.start()
        made.manager.docker("swarm update --dispatcher-heartbeat 1s")
        yield made
    finally:
        made.manager.run("service rm s", check=False)
        made.stop()


def create(swarm: Swarm, image: str) -> None:
    swarm.manager.docker(
        ("service create -q --no-resolve-image --name s --replicas 6 --stop-grace-period 1s {} sleep 1d"),
        image,
    )


def started(engine_socket: str) -> dict[str, str]:
    """Returns container id -> when it was started, of the service's running containers on an engine."""
    ids = [row["ID"] for row in containers(engine_socket, "com.docker.swarm.service.name=s")]
    command = ["docker", "-H", f"unix://{engine_socket}", "inspect", *ids]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True).stdout)
    return {c["Id"]: c["State"]["StartedAt"] for c in found if c["State"]["Running"]}


def timed(host: Host, *arguments: str) -> str:
    began = time.monotonic()
    output = host.docker(*arguments)
    assert time.monotonic() - began < ANSWER_S, arguments
    return output


def stand_still_for_a_moment(swarm: Swarm, engine: OwnEngine) -> None:
    """It costs nothing."""
    before = started(engine.socket), started(swarm.engine.removeprefix("unix://"))
    with engine.frozen():
        time.sleep(6)
        assert set(swarm.nodes().values()) == {"Ready"}
    time.sleep(2)
    assert (started(engine.socket), started(swarm.engine.removeprefix("unix://"))) == before
    assert len(swarm.manager.tasks("s")) == 6


def test_a_frozen_engines_tasks_run_elsewhere_and_its_manager_manages(
    swarm: Swarm, own_engine: OwnEngine, engine_socket: str, busybox_image: str
) -> None:
    manager = swarm.manager
    create(swarm, busybox_image)
    elsewhere = started(engine_socket)
    assert (len(started(own_engine.socket)), len(elsewhere)) == (2, 4)
    stand_still_for_a_moment(swarm, own_engine)
    left = {row["ID"] for row in manager.running("s") if row["Node"] == "mg0"}
    with own_engine.frozen():
        timed(manager, "node", "ls")
        assert "does not answer" in timed(manager, "info", "--format", "{{.Warnings}}")
        wait_until("it is down", lambda: swarm.nodes()["mg0"] == "Down", DOWN_S)
        node = json.loads(timed(manager, "node", "inspect", "mg0"))[0]
        assert (node["Status"]["State"], node["Status"]["Message"]) == ("down", WHY)
        assert (node["ManagerStatus"]["Leader"], node["ManagerStatus"]["Reachability"]) == (True, "reachable")
        wait_until("six run elsewhere", lambda: len(started(engine_socket)) == 6)
        assert started(engine_socket).items() >= elsewhere.items()
        errors = {row["Error"].strip('"') for row in manager.tasks("s") if row["ID"] in left}
        assert errors == {WHY}
        manager.docker("service scale -d s=8")
        wait_until("it still manages", lambda: len(started(engine_socket)) == 8)
        elsewhere = started(engine_socket)
    wait_until("it is ready again", lambda: swarm.nodes()["mg0"] == "Ready", 10)
    wait_until("its leftovers are stopped", lambda: not started(own_engine.socket))
    assert started(engine_socket) == elsewhere
    assert {row["Node"] for row in manager.running("s")} == {"w0", "w1"}
    warnings = ("info", "--format", "{{.Warnings}}")
    wait_until("nothing is said of it", lambda: "does not answer" not in manager.docker(*warnings))


def test_a_daemon_starts_while_its_engine_stands_still(
    swarm: Swarm, own_engine: OwnEngine, busybox_image: str
) -> None:
    manager = swarm.manager
    create(swarm, busybox_image)
    before = started(own_engine.socket)
    assert len(before) == 2
    with own_engine.frozen():
        manager.kill()
        manager.start()
        wait_until("it says why", lambda: WHY in manager.docker("node inspect mg0"), DOWN_S)
    wait_until("it is ready again", lambda: swarm.nodes()["mg0"] == "Ready", 10)
    wait_until("its leftovers are stopped", lambda: not started(own_engine.socket))
    wait_until("six run elsewhere", lambda: len(manager.running("s")) == 6)
