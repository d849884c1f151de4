"""A network of more containers than nodes are told of: three real hosts, and three thousand tasks of simulated
nodes beside. Nobody is told of anybody else before somebody asks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.mesh_image import IMAGE

from .fixtures import starting
from .hosts import wait_until
from .mesh import PORT, MeshHost, MeshSwarm
from .overlay_tasks import Task, tasks_of, vip_of
from .skep_cli import SKEP

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
CROWD = 3100  # a network is large from 3,000 on


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshSwarm]:
    with starting(MeshSwarm(tmp_path_factory.mktemp("l"))) as made:
        made.manager.docker("network create -d overlay --attachable --subnet 10.218.0.0/16 big")
        crowd = _simulate(made)
        try:
            made.manager.docker(
                "service create -d --no-resolve-image --name crowd --replicas {}"
                " --constraint engine.labels.sim==yes --network big {}",
                CROWD,
                IMAGE,
            )
            wait_until("the crowd runs", lambda: _running(made.manager, "crowd") == CROWD, 120)
            yield made
        finally:
            crowd.terminate()
            crowd.wait(30)


def _simulate(swarm: MeshSwarm) -> subprocess.Popen[bytes]:
    manager = swarm.manager
    token = manager.docker("swarm join-token -q worker")
    joining = ["--join", f"{manager.address}:{PORT}", "--token", token, "--label", "sim=yes"]
    command = [*manager.prefix, str(SKEP), "simulate", "--nodes", "3", "--overlay", *joining]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _running(manager: MeshHost, service: str) -> int:
    shown = manager.docker("service ls --filter name={} --format {{.Replicas}}", service)
    return int(shown.partition("/")[0] or 0)


@pytest.fixture(scope="module")
def few(swarm: MeshSwarm) -> Iterator[list[Task]]:
    """A task on each real host."""
    options = [
        "--mode",
        "global",
        "--constraint",
        "engine.labels.sim!=yes",
        "--network",
        "name=big,alias=door",
    ]
    create = ["service", "create", "-d", "--no-resolve-image", "--name", "few", *options, IMAGE, "-", "80"]
    swarm.manager.docker(*create)
    yield tasks_of(swarm, "few", 3, "big")
    swarm.manager.docker("service rm few")


def test_all_is_found_that_is_asked_for(swarm: MeshSwarm, few: list[Task]) -> None:
    addresses = {each.address for each in few}
    vip = vip_of(swarm, "few", "big")
    for one in few:
        assert one.resolve("few") == {vip}, one.host.name
        assert one.resolve("tasks.few") == addresses
        for name in ("few", "few.big", "door"):
            assert len({one.ask(name).split()[0] for _ in range(6)}) == 3, (one.host.name, name)
        assert one.lacks("nobody.example")
        assert one.lacks("nobody")


def test_who_is_asked_answers_whom_nobody_has_told_of(swarm: MeshSwarm, few: list[Task]) -> None:
    """The host of the one that answers knows no way to the other before its first packet."""
    for host in swarm.hosts:
        run = ["run", "-d", "--rm", "--network", "big", "--name", f"lone-{host.name}"]
        container = host.docker(
            *run, "--entrypoint", "/usr/bin/python3", IMAGE, "-I", "-S", "/server.py", "x", "80"
        )
        try:
            single = Task(host, container, "big")
            for each in few:
                assert single.ask(each.address).split()[1] == single.address, (host.name, each.host.name)
                assert single.ask(each.name).split()[1] == single.address
                assert each.ask(f"lone-{host.name}").split()[1] == each.address
        finally:
            host.docker("kill", container)


def test_the_crowd_is_known_in_part(swarm: MeshSwarm, few: list[Task]) -> None:
    for one in few:
        some = one.resolve("tasks.crowd")
        assert 30 < len(some) < 400, len(some)
        known = one.host.space.run("ip", "neigh", "show", "nud", "permanent").splitlines()
        assert len(known) < 2 * 400


def test_what_is_gone_is_led_to_no_more(swarm: MeshSwarm, few: list[Task]) -> None:
    swarm.manager.docker("service scale -d crowd=2900")
    gone, *stay = few
    swarm.manager.docker("node update --availability drain", gone.host.name)
    kept = {each.address for each in stay}
    for one in stay:
        wait_until("it is out of the names", lambda one=one: one.resolve("tasks.few") == kept, 30)
        assert {one.ask("few").split()[0] for _ in range(4)} == {each.hostname for each in stay}
    swarm.manager.docker("node update --availability active", gone.host.name)


def test_it_goes_on_without_the_daemons(swarm: MeshSwarm, few: list[Task]) -> None:
    one, other = tasks_of(swarm, "few", 3, "big")[1:]
    assert "error" not in one.ask(other.address)
    for host in swarm.hosts:
        host.kill()
    assert "error" not in one.ask(other.address)
    for host in swarm.hosts:
        host.start()
    wait_until("names are answered", lambda: one.resolve("few") == {vip_of(swarm, "few", "big")}, 60)
    assert "error" not in one.ask("few")
    (network,) = json.loads(swarm.manager.docker("network inspect big"))
    assert network["Name"] == "big"
