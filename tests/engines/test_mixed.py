"""One swarm of three engines, each of another Debian: what crosses hosts crosses engines, too.

The data plane's own tests run on such a swarm with `./check --engines`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.hosts import wait_until
from tests.e2e.mesh import CLIENT, MeshHost, MeshSwarm, steady
from tests.e2e.overlay_tasks import Task, tasks_of, vip_of
from tests.e2e.test_no_request_fails import LISTENS
from tests.mesh_image import IMAGE

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
PORT = 8080
# A task without a check counts as serving before its server listens.
HEALTH = ("--health-cmd", LISTENS, "--health-interval", "500ms")


@pytest.fixture(scope="module")
def web(swarm: MeshSwarm) -> Iterator[list[Task]]:
    """A task on each host, published, with an alias; it says its name and who connects."""
    create = ["service", "create", "-d", "--no-resolve-image", "--name", "web", "--mode", "global"]
    options = ["--network", "name=back,alias=door", "-p", f"{PORT}:80", "--stop-grace-period", "1s"]
    order = ["--update-order", "stop-first", "--update-parallelism", "1"]
    named = ["--hostname", "v1-{{.Node.Hostname}}"]
    swarm.manager.docker(*create, *options, *order, *HEALTH, *named, IMAGE, "-", "80")
    tasks = tasks_of(swarm, "web", 3)
    for each in tasks:
        _wait_resolves(each, "tasks.web", {task.address for task in tasks})
    swarm.wait_answers(PORT, 3)
    yield tasks
    swarm.manager.docker("service rm web")


def _wait_resolves(task: Task, name: str, addresses: set[str]) -> None:
    wait_until(f"{name} is {addresses} on {task.host.name}", lambda: task.resolve(name) == addresses)


def _engine_version(host: MeshHost) -> tuple[int, int]:
    major, minor = host.on_engine("version --format {{.Server.Version}}").split(".")[:2]
    return int(major), int(minor)


def _mac(task: Task) -> str:
    found = json.loads(task.host.on_engine("inspect", task.container))
    return str(found[0]["NetworkSettings"]["Networks"]["back"]["MacAddress"])


def _mac_of_address(address: str) -> str:
    """Returns what engines gave a container of that address before 28.0."""
    return ":".join(["02", "42", *(f"{int(part):02x}" for part in address.split("."))])


def test_each_engine_is_of_another_release_and_the_swarm_knows_which(swarm: MeshSwarm) -> None:
    versions = [_engine_version(host) for host in swarm.hosts]
    assert versions[:2] == [(20, 10), (26, 1)]
    assert versions[2] >= (28, 0)
    shown = ["node", "inspect", "--format", "{{.Description.Engine.EngineVersion}}"]
    for host, (major, minor) in zip(swarm.hosts, versions, strict=True):
        assert swarm.manager.docker(*shown, host.name).startswith(f"{major}.{minor}.")


def test_tasks_reach_each_other_by_address_and_by_every_name(swarm: MeshSwarm, web: list[Task]) -> None:
    assert {each.host.name for each in web} == {"d12", "d13", "testing"}
    for one in web:
        for name in ("web", "door"):
            assert one.resolve(name) == {vip_of(swarm, "web")}, (one.host.name, name)
        for other in web:
            said = f"v1-{other.host.name} {one.address}"
            assert one.ask(other.address) == said
            assert one.ask(other.name) == said
        for name in ("web", "door"):
            assert {one.ask(name).split()[0] for _ in range(6)} == {f"v1-{each.host.name}" for each in web}


def test_every_host_leads_to_every_task_and_each_sees_the_client(swarm: MeshSwarm, web: list[Task]) -> None:
    for host in swarm.hosts:
        answers = Counter(swarm.ask(host, PORT, 9))
        assert answers == {f"v1-{each.host.name} {CLIENT}": 3 for each in web}, host.name
        for address in ("127.0.0.1", host.address):
            names = Counter(answer.split()[0] for answer in host.ask(address, PORT, 6))
            assert names == {f"v1-{each.host.name}": 2 for each in web}, (host.name, address)


def test_addresses_of_devices_are_of_no_account(swarm: MeshSwarm, web: list[Task]) -> None:
    """Up to 27 an engine makes a MAC address of the container's address, and from 28 on by chance, anew at each
    start. What containers have learnt of each other must be as good after it."""
    by_host = {each.host.name: each for each in web}
    for name in ("d12", "d13"):
        assert _mac(by_host[name]) == _mac_of_address(by_host[name].address)
    one = by_host["testing"]
    assert _mac(one) != _mac_of_address(one.address)
    lone = _lone(one.host)
    try:
        for other in web:
            assert other.ask(lone.address) == f"alone {other.address}"
        before = _mac(lone)
        one.host.docker("restart -t 1", lone.container)
        assert _mac(lone) != before
        for other in web:
            said = f"alone {other.address}"
            wait_until(f"it answers {other.host.name}", lambda: other.ask(lone.address) == said, 10)  # noqa: B023
            assert lone.ask(other.address) == f"v1-{other.host.name} {lone.address}"
    finally:
        lone.host.docker("rm -f", lone.container)


def _lone(host: MeshHost) -> Task:
    """Returns a single container, which says its name and who connects."""
    run = [
        "run",
        "-d",
        "--network",
        "back",
        "--name",
        f"lone-{host.name}",
        "--network-alias",
        f"as.{host.name}",
    ]
    container = host.docker(
        *run, "--entrypoint", "/usr/bin/python3", IMAGE, *["-I", "-S", "/server.py", "alone", "80"]
    )
    return Task(host, container, "back")


def test_single_containers_of_every_engine_are_on_the_network(swarm: MeshSwarm, web: list[Task]) -> None:
    singles: list[Task] = []
    try:
        singles += [_lone(host) for host in swarm.hosts]
        for single in singles:
            assert single.resolve("tasks.web") == {each.address for each in web}
            assert "-" in single.ask("web").split()[0]
            for each in web:
                assert single.ask(each.name) == f"v1-{each.host.name} {single.address}"
                for name in (f"lone-{single.host.name}", f"as.{single.host.name}"):
                    _wait_resolves(each, name, {single.address})
                    assert each.ask(name) == f"alone {each.address}"
            for other in singles:
                if other is not single:
                    wait_until(
                        f"{single.host.name} reaches {other.host.name}",
                        lambda: single.ask(f"lone-{other.host.name}") == f"alone {single.address}",  # noqa: B023
                    )
    finally:
        for single in singles:
            single.host.docker("rm -f", single.container)


def test_an_update_goes_over_all_engines_and_no_connection_fails(swarm: MeshSwarm, web: list[Task]) -> None:
    """The last test: the tasks are others afterwards."""
    update = ["service", "update", "-d", "--no-resolve-image", "--hostname", "v2-{{.Node.Hostname}}", "web"]

    def is_done() -> bool:
        (found,) = swarm.manager.json("service inspect web")
        return str((found.get("UpdateStatus") or {}).get("State")) == "completed"

    with steady(swarm.client, swarm.manager.address, PORT) as answers:
        swarm.manager.docker(*update)
        wait_until("the update is done", is_done, 120)
        wait_until("all are new", lambda: _serving(swarm) == {f"v2-{host.name}" for host in swarm.hosts})
    assert len(answers) > 50
    assert [each for each in answers if not each.endswith(CLIENT)] == []
    tasks = tasks_of(swarm, "web", 3)
    for one in tasks:
        _wait_resolves(one, "tasks.web", {each.address for each in tasks})
        for other in tasks:
            assert one.ask(other.name) == f"v2-{other.host.name} {one.address}"


def _serving(swarm: MeshSwarm) -> set[str]:
    """Returns who answers by any of the hosts."""
    return {answer.split()[0] for host in swarm.hosts for answer in swarm.ask(host, PORT, 6)}
