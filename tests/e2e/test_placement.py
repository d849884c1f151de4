"""Placement as a user asks for it and is told of it: generic resources, constraints, limits, explain, events."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from .hosts import Swarm, wait_until
from .skep_cli import SKEP, skep, skep_ok

pytestmark = pytest.mark.timeout(120)
GPU_NODES = {"sim00000", "sim00001", "sim00002"}
SSD_NODES = {"sim00010", "sim00011"}


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A manager that takes no tasks, three nodes with two named resources each, two with a count."""
    made = Swarm(tmp_path_factory.mktemp("p"), "simulated", workers=0)
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        made.start()
        made.manager.docker("node update --availability drain mg0")
        token = made.manager.docker("swarm join-token -q worker")
        join = [str(SKEP), "simulate", "--join", made.address, "--token", token]
        gpus = ["--generic-resource", "gpu=U1", "--generic-resource", "gpu=U2", "--label", "disk=ssd"]
        nodes.append(subprocess.Popen([*join, "--nodes", "3", *gpus]))
        nodes.append(
            subprocess.Popen([*join, "--nodes", "2", "--first", "10", "--generic-resource", "ssd=3"])
        )
        wait_until("all are ready", lambda: list(made.nodes().values()).count("Ready") == 6)
        yield made
    finally:
        for process in nodes:
            process.terminate()
            process.wait(20)
        made.stop()


@pytest.fixture
def service(swarm: Swarm, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for a service that is removed after the test."""
    name = request.node.name.removeprefix("test_")[:40].strip("_")
    yield name
    swarm.manager.run("service rm", name, check=False)


def create(swarm: Swarm, name: str, *options: str) -> None:
    swarm.manager.docker("service create -q -d --name", name, *options, "image")


def running(swarm: Swarm, name: str, count: int) -> Counter[str]:
    """Waits until as many run; returns how many on which node."""
    rows: list[dict[str, str]] = []

    def as_many() -> bool:
        rows[:] = swarm.manager.running(name)
        return len(rows) == count

    wait_until(f"{count} run", as_many)
    return Counter(row["Node"] for row in rows)


def explained(swarm: Swarm, name: str) -> Any:
    return json.loads(skep_ok("explain --json", name, on=swarm.manager))


def test_named_resources_are_given_once_and_come_back(swarm: Swarm, service: str) -> None:
    manager = swarm.manager
    create(swarm, service, "--replicas", "7", "--generic-resource", "gpu=1")
    assert running(swarm, service, 6) == dict.fromkeys(GPU_NODES, 2)
    tasks = manager.json("inspect", "--type", "task", *manager.docker("service ps -q", service).split())
    given = [
        (task["NodeID"], each["NamedResourceSpec"]["Value"])
        for task in tasks
        for each in task.get("GenericResources", [])
    ]
    assert len(given) == len(set(given)) == 6
    said = explained(swarm, service)
    assert "6 of 7 replicas run; 6 have a node, 1 wait for one." in said["Sentences"]
    texts = [group["Text"] for group in said["Nodes"]]
    assert "3 nodes (sim00000, sim00001, sim00002): 1 gpu reserved, 0 free" in texts
    assert "2 nodes (sim00010, sim00011): 1 gpu reserved, there is none" in texts
    assert "1 node (mg0): drained" in texts
    manager.docker("service scale -d {}=2", service)
    running(swarm, service, 2)
    manager.docker("service scale -d {}=6", service)
    assert running(swarm, service, 6) == dict.fromkeys(GPU_NODES, 2)
    node = manager.json("node inspect sim00000")[0]["Description"]
    assert node["Resources"]["GenericResources"][0] == {"NamedResourceSpec": {"Kind": "gpu", "Value": "U1"}}
    assert node["Engine"]["Labels"] == {"disk": "ssd"}


def test_counts_are_shared_by_all_services(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "4", "--generic-resource", "ssd=1")
    assert running(swarm, service, 4) == dict.fromkeys(SSD_NODES, 2)
    create(swarm, service + "2", "--replicas", "3", "--generic-resource", "ssd=1")
    assert running(swarm, service + "2", 2) == dict.fromkeys(SSD_NODES, 1)
    swarm.manager.docker("service rm", service)
    running(swarm, service + "2", 3)
    swarm.manager.docker("service rm", service + "2")


def test_constraints_preferences_and_limits(swarm: Swarm, service: str) -> None:
    manager = swarm.manager
    for node, zone in (("sim00000", "a"), ("sim00001", "a"), ("sim00002", "b")):
        manager.docker("node update --label-add zone={} {}", zone, node)
    options = ["--constraint", "engine.labels.disk==SSD", "--placement-pref", "spread=node.labels.zone"]
    options += ["--update-monitor", "100ms"]
    create(swarm, service, "--replicas", "4", *options)
    assert running(swarm, service, 4) == {"sim00000": 1, "sim00001": 1, "sim00002": 2}
    manager.docker("service update -d -q --replicas 3 --replicas-max-per-node 1", service)
    # The crowded node lets one go; nothing has to be replaced for the new limit.
    wait_until(
        "one on each",
        lambda: Counter(r["Node"] for r in manager.running(service)) == dict.fromkeys(GPU_NODES, 1),
    )
    manager.docker("service scale -d {}=4", service)
    (waiting,) = wait_until(
        "one waits",
        lambda: [r for r in manager.tasks(service) if r["CurrentState"].startswith("Pending")],
    )
    assert "max replicas per node limit exceed" in waiting["Error"]
    shown = skep_ok("explain", waiting["Name"], on=manager)
    assert "at most 1 of the service's tasks per node, 1 there already" in " ".join(shown.split())
    assert "Spread over node.labels.zone: node.labels.zone b has 1" in skep_ok(
        "explain", next(r["ID"] for r in manager.running(service) if r["Node"] == "sim00002"), on=manager
    )


def test_a_host_port_is_held_by_name(swarm: Swarm, service: str) -> None:
    port = ["--publish", "mode=host,target=80,published=18080", "--constraint", "node.hostname==sim00000"]
    create(swarm, service, *port)
    running(swarm, service, 1)
    create(swarm, service + "2", *port)
    texts = wait_until(
        "it is said who holds it",
        lambda: [
            g["Text"] for g in explained(swarm, service + "2.1")["Nodes"] if g["Filter"] == "host-ports"
        ],
    )
    assert texts == [f"1 node (sim00000): port 18080/tcp is held by service {service}"]
    swarm.manager.docker("service rm", service)
    running(swarm, service + "2", 1)
    swarm.manager.docker("service rm", service + "2")


def test_nothing_of_that_name(swarm: Swarm) -> None:
    done = skep("explain nothing", on=swarm.manager)
    assert (done.returncode, done.stderr) == (1, "Error: there is no service and no task nothing\n")
    assert "name a service or a task" in skep("explain ''", on=swarm.manager).stderr


def test_events_of_tasks_are_for_who_asks(swarm: Swarm, service: str) -> None:
    manager = swarm.manager
    with (
        manager.stream("events --filter type=task --filter service={}", service) as lines,
        manager.stream("events") as all_of_docker,
    ):
        create(swarm, service, "--constraint", "node.hostname==sim00001")
        made = lines.first("task create")
        assert f"service.name={service}" in made
        assert "state=assigned" in made
        assert "node.name=sim00001" in lines.first("state=running")
        manager.docker("service rm", service)
        lines.first("task remove")
        all_of_docker.first("service remove")
        assert not [line for line in all_of_docker.seen if " task " in line]
