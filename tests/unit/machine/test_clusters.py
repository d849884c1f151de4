"""Clusters: which machines make one up, what is to be done for it, and what others are told of it."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from skep.machine.cluster_plan import Made, decide, plan_lines
from skep.machine.clusters import ClusterRecords, MachineCluster
from skep.machine.inventory import ansible_lines, cloud_init_lines
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.store import MachineStore
from skep.machine.swarm_stats import read_stats, stats_lines
from skep.runtime.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable

DEMO = MachineCluster(("mg0", "mg1", "mg2"), ("w0", "w1"))


def test_what_is_missing_is_made_and_what_is_half_made_gone_on_with() -> None:
    made = {"mg0": Made.WHOLE, "mg1": Made.HALF, "mg2": Made.MISSING, "w0": Made.MISSING, "w1": Made.WHOLE}
    plan = decide(DEMO, made)
    assert (plan.create, plan.provision) == (("mg2", "w0"), ("mg1",))
    assert plan_lines(plan, "local") == [
        "create mg2 w0 (driver local)",
        "go on with mg1, half-made",
        "docker swarm init on mg0, where none of the managers is in a swarm",
        "join mg1 mg2 as managers, one after the other",
        "join w0 w1 as workers",
    ]


def test_an_even_number_of_managers_is_pointed_out() -> None:
    plan = decide(MachineCluster(("mg0", "mg1")), dict.fromkeys(("mg0", "mg1"), Made.WHOLE))
    assert plan_lines(plan, "local")[-1].startswith("Note: 2 managers bear no more losses")


def test_a_cluster_that_cannot_be() -> None:
    with pytest.raises(Invalid, match="a manager at least"):
        decide(MachineCluster(()), {})
    with pytest.raises(Conflict, match="mg0: to be a manager and a worker"):
        decide(MachineCluster(("mg0",), ("mg0",)), {"mg0": Made.MISSING})


def test_what_is_kept_of_a_cluster(tmp_path: Path) -> None:
    store = ClusterRecords(MachineStore(tmp_path / "machine"))
    assert store.names() == []
    store.save("demo", DEMO)
    assert store.load("demo") == DEMO
    assert store.names() == ["demo"]
    with pytest.raises(NotFound, match=r"no cluster other \(there is: demo\)"):
        store.load("other")
    (tmp_path / "machine/clusters/demo.json").write_text('{"Managers": ["../x"]}')
    with pytest.raises(Invalid, match="Invalid machine name"):
        store.load("demo")
    (tmp_path / "machine/clusters/demo.json").write_text("{")
    with pytest.raises(Corrupt, match=r"demo.json cannot be read"):
        store.load("demo")
    store.remove("demo")
    store.remove("demo")
    assert store.names() == []


def test_a_cluster_that_is_made_again_by_fewer_names_keeps_the_others(tmp_path: Path) -> None:
    """`skep cluster rm` would leave them, and what they cost."""
    machines = MachineStore(tmp_path / "machine")
    clusters = ClusterRecords(machines)
    clusters.add("demo", DEMO)
    for each in ("mg0", "mg1", "w0"):
        machines.add(a_machine(each, address="10.0.0.5"))
    clusters.add("demo", MachineCluster(("mg0",), ("w7",)))
    # mg2 and w1 are no machines any more.
    assert clusters.load("demo") == MachineCluster(("mg0", "mg1"), ("w0", "w7"))
    clusters.add("demo", MachineCluster(("w0",)))
    assert clusters.load("demo") == MachineCluster(("mg0", "mg1", "w0"), ()), "it is what it is now"


def test_a_machine_is_of_one_cluster(tmp_path: Path) -> None:
    """The removal of the other one would end its host."""
    machines = MachineStore(tmp_path / "machine")
    clusters = ClusterRecords(machines)
    clusters.add("demo", DEMO)
    machines.add(a_machine("w1", address="10.0.0.5"))
    with pytest.raises(Conflict, match="w1 is a machine of the cluster demo"):
        clusters.add("other", MachineCluster(("a0",), ("w1",)))
    assert clusters.names() == ["demo"]
    clusters.add("other", MachineCluster(("a0",), ("w0",)))  # which was removed meanwhile
    assert clusters.names() == ["demo", "other"]


def a_machine(name: str, **place: Any) -> Machine:
    return Machine(name=name, driver="generic", ssh=SshPlace(**place), engine=EngineWish())


def test_ansible_has_hosts_by_their_groups() -> None:
    machines = {
        "managers": [a_machine("mg0", address="10.0.0.5", key="/home/a b/id")],
        "workers": [a_machine("w0", address="fd00::1", user="ada", port=2222)],
        "none": [],
    }
    read = yaml.safe_load("\n".join(ansible_lines(machines)))
    assert read["all"]["children"] == {
        "managers": {
            "hosts": {
                "mg0": {
                    "ansible_host": "10.0.0.5",
                    "ansible_user": "root",
                    "ansible_port": 22,
                    "ansible_ssh_private_key_file": "/home/a b/id",
                    "docker_host": "tcp://10.0.0.5:2376",
                }
            }
        },
        "workers": {
            "hosts": {
                "w0": {
                    "ansible_host": "fd00::1",
                    "ansible_user": "ada",
                    "ansible_port": 2222,
                    "docker_host": "tcp://[fd00::1]:2376",
                }
            }
        },
    }
    assert yaml.safe_load("\n".join(ansible_lines({"machines": []}))) == {"all": {}}


def test_a_clouds_hosts_join_at_their_first_boot() -> None:
    unit = (files("skep.machine") / "skepd.service").read_text()
    text = "\n".join(cloud_init_lines(unit, "skep @ https://x/y z.whl", "SWMTKN-1-a-b", ["10.0.0.5:2377"]))
    assert text.startswith("#cloud-config\n")
    read = yaml.safe_load(text)
    assert read["write_files"] == [{"path": "/etc/systemd/system/skepd.service", "content": unit}]
    assert "/opt/skep/bin/pip install 'skep @ https://x/y z.whl'" in read["runcmd"]
    (join,) = [each for each in read["runcmd"] if "swarm join" in each]
    assert "swarm join --token SWMTKN-1-a-b 10.0.0.5:2377 && break" in join
    for each in read["runcmd"]:
        subprocess.run(["sh", "-n", "-c", each], check=True)


NODES: list[dict[str, Any]] = [
    {
        "ID": "a",
        "Spec": {"Availability": "drain"},
        "Status": {"State": "ready"},
        "ManagerStatus": {"Reachability": "reachable"},
    },
    {"ID": "b", "Spec": {"Availability": "active"}, "Status": {"State": "down"}},
]
SERVICES: list[dict[str, Any]] = [
    {"Spec": {"Name": "web"}, "ServiceStatus": {"RunningTasks": 3, "DesiredTasks": 3}},
    {"Spec": {"Name": "db"}, "ServiceStatus": {"RunningTasks": 0, "DesiredTasks": 1}},
]


def test_a_swarm_in_numbers() -> None:
    stats = read_stats(NODES, SERVICES)
    assert stats_lines(stats, None) == [
        "nodes      2 (1 down, 1 ready; 1 drained)",
        "managers   1 (1 reachable)",
        "services   2",
        "tasks      3 running of 4",
        "  db   0/1",
        "  web  3/3",
    ]
    assert stats_lines(stats, "web") == ["web 3/3"]
    with pytest.raises(NotFound, match="no such service: x"):
        stats_lines(stats, "x")
    with pytest.raises(Unavailable, match="no swarm's manager"):
        read_stats(NODES, json.loads('[{"Spec": {"Name": "web"}}]'))
