"""Overlay networks of a swarm on three hosts, through the docker client: containers reach each other by address
and by name, wherever they are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.mesh_image import IMAGE

from .hosts import wait_until
from .mesh import MeshSwarm
from .overlay_tasks import REVERSE, Task, tasks_of, vip_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshSwarm]:
    made = MeshSwarm(tmp_path_factory.mktemp("o"))
    try:
        made.start()
        made.manager.docker("network", "create", "-d", "overlay", "--attachable", "back")
        yield made
    finally:
        made.stop()


def _create(swarm: MeshSwarm, name: str, *options: str, network: str = "back") -> None:
    create = ["service", "create", "-d", "--no-resolve-image", "--name", name, "--network", network]
    swarm.manager.docker(*create, *options, IMAGE, "-", "80")


def _wait_resolves(task: Task, name: str, addresses: set[str], within_s: float = 30) -> None:
    what = f"{name} is {addresses} on {task.host.name}"
    wait_until(what, lambda: task.resolve(name) == addresses, within_s)


def _wait_gone(task: Task, name: str) -> None:
    wait_until(f"{name} is gone on {task.host.name}", lambda: "error" in task.resolve(name), 5)


def _wait_answers(task: Task, address: str, begin: str) -> None:
    wait_until(f"{address} says {begin}", lambda: task.ask(address).startswith(begin))


def _remove_network(swarm: MeshSwarm, name: str) -> None:
    def is_gone() -> bool:
        return swarm.manager.run("network", "rm", name, check=False).returncode == 0

    wait_until(f"network {name} is in use no more", is_gone)


def _remove(swarm: MeshSwarm, *services: str) -> None:
    swarm.manager.docker("service", "rm", *services)


@pytest.fixture(scope="module")
def web(swarm: MeshSwarm) -> Iterator[list[Task]]:
    """A task on each host, which says the address of who connects."""
    _create(swarm, "web", "--mode", "global", "--label", "of=overlays")
    tasks = tasks_of(swarm, "web", 3)
    for each in tasks:
        _wait_resolves(each, "tasks.web", {each.address for each in tasks})
        _wait_resolves(each, "web", {vip_of(swarm, "web")})
    yield tasks
    _remove(swarm, "web")


def test_each_task_reaches_each_by_address_and_sees_who_it_is(swarm: MeshSwarm, web: list[Task]) -> None:
    for one in web:
        for other in web:
            assert other.ask(one.address).split()[1] == other.address, (other.host.name, one.host.name)


def test_names_lead_to_tasks_of_all_hosts(swarm: MeshSwarm, web: list[Task]) -> None:
    addresses = {each.address for each in web}
    for one in web:
        assert one.resolve("tasks.web") == addresses, one.host.name
        for name in ("web", "WEB", "web.back"):
            assert one.resolve(name) == {vip_of(swarm, "web")}, (one.host.name, name)
        for other in web:
            assert one.resolve(other.name) == {other.address}
            assert other.ask(one.name).split()[1] == other.address
            if one is not other:  # its own is in its file of hosts
                assert one.python(REVERSE % other.address) == f"{other.name}.back"
        assert "error" in one.resolve("nobody.example")


def test_a_services_own_address_leads_to_its_tasks_in_turn(swarm: MeshSwarm, web: list[Task]) -> None:
    hosts = {host.name for host in swarm.hosts}
    for one in web:
        # When it is its own turn the rules lead, to whose turn it is there.
        answers = [one.ask("web").split() for _ in range(24)]
        assert len({name for name, _ in answers}) == len(hosts), answers
        # Of itself it sees its host's address on the network.
        own = {name for name, client in answers if client != one.address}
        assert len(own) == 1, (one.address, answers)
        assert all(client != one.address for name, client in answers if name in own)


def test_single_containers_of_any_host_reach_services_by_name(swarm: MeshSwarm, web: list[Task]) -> None:
    for host in swarm.hosts:
        named = ["--name", f"lone-{host.name}", "--network-alias", f"alias.{host.name}"]
        run = ["run", "-d", "--rm", "--network", "back", *named, "--entrypoint", "/usr/bin/python3", IMAGE]
        container = host.docker(*run, "-I", "-S", "/server.py", "single", "80")
        try:
            single = Task(host, container, "back")
            assert single.resolve("tasks.web") == {each.address for each in web}
            assert "error" not in single.ask("web")
            for each in web:
                assert single.ask(each.name).split()[1] == single.address
                _wait_answers(each, single.address, "single")
                for name in (
                    f"lone-{host.name}",
                    f"lone-{host.name}.back",
                    f"alias.{host.name}",
                    container[:12],
                ):
                    _wait_resolves(each, name, {single.address})
        finally:
            host.docker("kill", container)
    # The last one is gone when its node looks again.
    wait_until("it is gone", lambda: "error" in web[0].resolve(f"lone-{host.name}"))


def test_names_and_addresses_follow_within_a_second(swarm: MeshSwarm, web: list[Task]) -> None:
    _create(swarm, "moving", "--replicas", "1", "--stop-grace-period", "1s")
    try:
        tasks_of(swarm, "moving", 1)
        for count in (3, 1, 4):
            swarm.manager.docker("service", "scale", "-d", f"moving={count}")
            tasks = tasks_of(swarm, "moving", count)
            began = time.monotonic()
            addresses = {each.address for each in tasks}
            for each in web:
                _wait_resolves(each, "tasks.moving", addresses, 1 + 2)
                for task in tasks:
                    assert "error" not in each.ask(task.address)
            print(f"{count} tasks: names the same on all nodes after {time.monotonic() - began:.2f} s")
    finally:
        _remove(swarm, "moving")
    for each in web:
        _wait_gone(each, "moving")


def test_another_network_is_another_world(swarm: MeshSwarm, web: list[Task]) -> None:
    swarm.manager.docker("network", "create", "-d", "overlay", "--internal", "other")
    _create(swarm, "apart", "--mode", "global", network="other")
    try:
        tasks = tasks_of(swarm, "apart", 3, "other")
        addresses = {each.address for each in tasks}
        for each in tasks:
            _wait_resolves(each, "tasks.apart", addresses)
            assert "error" not in each.ask("apart")
            assert "error" in each.resolve("web")
            assert "error" in each.ask(web[0].address)
            for other in tasks:
                assert each.ask(other.name).split()[1] == each.address
        assert "error" in web[0].resolve("apart")
        assert "error" in web[0].ask(tasks[0].address)
    finally:
        _remove(swarm, "apart")
    _remove_network(swarm, "other")


def test_a_service_on_two_networks_with_an_alias_answers_on_both(swarm: MeshSwarm, web: list[Task]) -> None:
    swarm.manager.docker("network", "create", "-d", "overlay", "front")
    networks = ["--network", "name=front,alias=door", "-p", "8090:80"]
    _create(swarm, "both", *networks, "--mode", "global", network="name=back,alias=room")
    _create(swarm, "guest", "--replicas", "1", "--dns", "127.0.0.1", network="front")
    try:
        tasks = tasks_of(swarm, "both", 3)
        (guest,) = tasks_of(swarm, "guest", 1, "front")
        inside = {each.address for each in tasks}
        outside = {Task(each.host, each.container, "front").address for each in tasks}
        _wait_resolves(guest, "tasks.both", outside)
        _wait_resolves(web[0], "tasks.both", inside)
        _wait_resolves(guest, "door", {vip_of(swarm, "both", "front")})
        _wait_resolves(web[0], "room", {vip_of(swarm, "both")})
        assert "error" in guest.resolve("room")
        assert guest.ask("both").split()[1] == guest.address
        swarm.wait_answers(8090, 3)  # the routing mesh beside
    finally:
        _remove(swarm, "both", "guest")
    _remove_network(swarm, "front")


def test_all_goes_on_without_the_daemons_and_is_the_same_after(swarm: MeshSwarm, web: list[Task]) -> None:
    for host in swarm.hosts:
        host.kill()
    for one in web:
        for other in web:
            assert other.ask(one.address).split()[1] == other.address
    before = [host.rules() for host in swarm.hosts]
    for host in swarm.hosts:
        host.start()
    addresses = {each.address for each in web}
    for one in web:
        _wait_resolves(one, "tasks.web", addresses, 60)
        assert "error" not in one.ask("web")
        for other in web:
            assert other.ask(one.address).split()[1] == other.address
    after = [host.rules() for host in swarm.hosts]
    # What is of networks that were removed a moment before goes.
    kept = [set(now.split()) <= set(then.split()) for now, then in zip(after, before, strict=True)]
    assert all(kept), (before, after)


def test_nothing_is_left_when_nobody_is_on_a_network(swarm: MeshSwarm) -> None:
    before = [host.rules() for host in swarm.hosts]
    swarm.manager.docker("network", "create", "-d", "overlay", "short")
    _create(swarm, "brief", "--mode", "global", "--stop-grace-period", "1s", network="short")
    tasks_of(swarm, "brief", 3, "short")
    assert all(now != then for now, then in zip([h.rules() for h in swarm.hosts], before, strict=True))
    _remove(swarm, "brief")

    def left() -> list[set[str]]:
        """What was of networks that were removed a moment before may have gone meanwhile."""
        pairs = zip(swarm.hosts, before, strict=True)
        return [set(host.rules().split()) - set(then.split()) for host, then in pairs]

    wait_until("devices are gone", lambda: not any(left()), 60)
    swarm.manager.docker("network", "rm", "short")
