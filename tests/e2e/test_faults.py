"""What dies comes back, and what ran goes on: daemons, machines, etcd, the engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .fixtures import starting
from .hosts import Host, Swarm, busybox_into, containers, wait_until
from .managers import Managers

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

HEARTBEAT_S = 1.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def formed(
    engine_socket: str, busybox_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Swarm]:
    """A manager and two workers with short heartbeats."""
    with starting(Swarm(tmp_path_factory.mktemp("a"), f"unix://{engine_socket}", workers=2)) as made:
        made.manager.docker("swarm update --dispatcher-heartbeat", f"{HEARTBEAT_S:g}s")
        yield made


@pytest.fixture
def own_swarm(formed: Swarm) -> Iterator[Swarm]:
    """The swarm, whole and empty again after each test."""
    yield formed
    for host in formed.hosts:
        if host.process is None:
            host.start()
    formed.manager.run("service rm s", check=False)
    wait_until("its containers are gone", lambda: not started(formed), 30)
    wait_until("all are ready", lambda: list(formed.nodes().values()) == ["Ready"] * 3)


def create(swarm: Swarm | Managers, image: str, replicas: int, *options: str) -> None:
    swarm.manager.docker(
        "service create -q --no-resolve-image --name s --replicas {} --stop-grace-period 1s",
        replicas,
        *options,
        image,
        "sleep",
        "1d",
    )


def started(swarm: Swarm | Managers) -> dict[str, str]:
    """Returns container id -> when it was started, of the service's running containers."""
    engine = swarm.engine.removeprefix("unix://")
    ids = [row["ID"] for row in containers(engine, "com.docker.swarm.service.name=s")]
    if not ids:
        return {}
    command = ["docker", "-H", swarm.engine, "inspect", *ids]
    # One may be deleted meanwhile: the client still prints the others.
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True).stdout)
    return {c["Id"]: c["State"]["StartedAt"] for c in found if c["State"]["Running"]}


def etcd_pid(host: Host) -> int:
    command = ["pgrep", "-f", f"etcd .*{host.state_dir}/"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return int(found[0]) if found else 0


def test_killed_daemons_adopt_their_containers(own_swarm: Swarm, busybox_image: str) -> None:
    create(own_swarm, busybox_image, 6)
    before = started(own_swarm)
    assert len(before) == 6
    for host in own_swarm.hosts:
        host.kill()
    time.sleep(0.5)
    for host in own_swarm.hosts:
        host.start()
    wait_until("all is seen running again", lambda: len(own_swarm.manager.running("s")) == 6)
    time.sleep(2 * HEARTBEAT_S)
    assert started(own_swarm) == before
    assert len(own_swarm.manager.tasks("s")) == 6


def test_a_stopped_daemon_leaves_its_containers_running(own_swarm: Swarm, busybox_image: str) -> None:
    create(own_swarm, busybox_image, 3)
    before = started(own_swarm)
    own_swarm.manager.stop()
    assert started(own_swarm) == before
    own_swarm.manager.start()
    wait_until("all is seen running again", lambda: len(own_swarm.manager.running("s")) == 3)
    assert started(own_swarm) == before


@pytest.mark.alone
def test_a_dead_workers_tasks_run_elsewhere_and_its_leftovers_are_stopped(
    own_swarm: Swarm, busybox_image: str
) -> None:
    create(own_swarm, busybox_image, 6)
    dead, manager = own_swarm.workers[0], own_swarm.manager
    left = {row["ID"] for row in manager.running("s") if row["Node"] == dead.name}
    assert len(left) == 2
    dead.kill()
    began = time.monotonic()
    wait_until("it is down", lambda: own_swarm.nodes()[dead.name] == "Down", 3 * HEARTBEAT_S + 3)
    assert time.monotonic() - began < 3 * HEARTBEAT_S + 2
    wait_until(
        "its tasks run elsewhere",
        lambda: (
            {row["Node"] for row in manager.running("s")} == {"mg0", "w1"} and len(manager.running("s")) == 6
        ),
    )
    assert len(started(own_swarm)) == 8, "nobody can stop what runs on a machine without a daemon"
    dead.start()
    wait_until("leftovers are stopped", lambda: len(started(own_swarm)) == 6)
    wait_until("it is ready again", lambda: own_swarm.nodes()[dead.name] == "Ready")
    assert not left & {row["ID"] for row in manager.running("s")}


def test_a_killed_etcd_is_started_again_and_nothing_is_lost(own_swarm: Swarm, busybox_image: str) -> None:
    create(own_swarm, busybox_image, 3)
    before = started(own_swarm)
    pid = etcd_pid(own_swarm.manager)
    os.kill(pid, signal.SIGKILL)
    wait_until("another etcd runs", lambda: etcd_pid(own_swarm.manager) not in (0, pid))
    own_swarm.manager.docker("service scale s=4")
    assert len(own_swarm.manager.running("s")) == 4
    assert before.items() <= started(own_swarm).items()


def test_a_restarted_engine_is_reconciled(short_dir: Path) -> None:
    """The engine ends its containers with it: their tasks are replaced, and nothing runs twice."""
    directory, bridge = short_dir / "e", f"skr{os.getpid() % 100000}"
    engine = [str(ROOT / "scripts/engine.sh")]
    subprocess.run([*engine, "start", str(directory), bridge], check=True)
    swarm = Swarm(short_dir, f"unix://{directory}/docker.sock", workers=1)
    try:
        image = busybox_into(f"{directory}/docker.sock")
        swarm.start()
        create(swarm, image, 4, "--restart-delay", "500ms")
        before = started(swarm)
        pid = int((directory / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until("the engine has ended", lambda: not Path(f"/proc/{pid}").exists())
        assert swarm.manager.run("ps", check=False).returncode == 1
        assert swarm.manager.docker("service ls -q"), "the swarm answers without its engine"
        subprocess.run([*engine, "start", str(directory), bridge], check=True)
        wait_until("all runs again", lambda: len(swarm.manager.running("s")) == 4, 60)
        wait_until("each once", lambda: len(started(swarm)) == 4)
        assert not before.keys() & started(swarm).keys()
        swarm.manager.docker("service rm s")
        wait_until("all is gone", lambda: not started(swarm))
    finally:
        try:
            swarm.stop()  # half a minute where the engine has lost hold of a container that it was making as it ended
        finally:
            subprocess.run([*engine, "stop", str(directory)], check=True)


@pytest.fixture
def three_managers(engine_socket: str, busybox_image: str, short_dir: Path) -> Iterator[Managers]:
    made = Managers(short_dir, managers=3, workers=1, engine=f"unix://{engine_socket}")
    try:
        yield made.start()
    finally:
        made.alive().run("service rm s", check=False)
        wait_until("its containers are gone", lambda: not started(made), 30)
        made.stop()


def test_the_leaders_death_touches_no_container(three_managers: Managers, busybox_image: str) -> None:
    swarm = three_managers
    create(swarm, busybox_image, 8)
    before = started(swarm)
    assert len(before) == 8
    leader, other = swarm.leader(), swarm.followers()[0]
    leader.kill()
    other.docker("service scale -d s=12")
    wait_until("12 run", lambda: len(started(swarm)) == 12)
    assert started(swarm).items() >= before.items()
    leader.start()
    swarm.wait_reachable(3)
    time.sleep(6)  # a heartbeat: what the daemon that came back found is settled
    assert started(swarm).items() >= before.items()
    assert len(started(swarm)) == 12
