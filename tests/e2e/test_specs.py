"""What a user stores comes back exactly; lists find what they are asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm, UnixConnection, wait_until

pytestmark = pytest.mark.timeout(60)
SECOND_NS = 10**9

FULL: dict[str, Any] = {
    "Name": "full",
    "Labels": {"a": "1", "b": ""},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "image:1",
            "Labels": {"c": "d"},
            "Command": ["/bin/x"],
            "Args": ["-a", ""],
            "Hostname": "{{.Service.Name}}",
            "Env": ["A=b", "EMPTY="],
            "Dir": "/tmp",
            "User": "1000:1000",
            "Groups": ["audio"],
            "Privileges": {
                "SELinuxContext": {"Disable": True},
                "Seccomp": {"Mode": "default"},
                "AppArmor": {"Mode": "default"},
                "NoNewPrivileges": True,
            },
            "TTY": True,
            "OpenStdin": True,
            "ReadOnly": True,
            "Mounts": [
                {"Type": "bind", "Source": "/srv", "Target": "/data", "ReadOnly": True},
                {
                    "Type": "volume",
                    "Source": "v",
                    "Target": "/v",
                    "VolumeOptions": {
                        "NoCopy": True,
                        "Labels": {"x": "y"},
                        "DriverConfig": {"Name": "local"},
                    },
                },
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 448}},
            ],
            "StopSignal": "SIGINT",
            "StopGracePeriod": 3 * SECOND_NS,
            "Healthcheck": {
                "Test": ["CMD", "true"],
                "Interval": SECOND_NS,
                "Timeout": SECOND_NS,
                "StartPeriod": SECOND_NS,
                "Retries": 3,
            },
            "Hosts": ["10.0.0.1 name"],
            "DNSConfig": {"Nameservers": ["10.0.0.2"], "Search": ["example.org"], "Options": ["ndots:1"]},
            "Isolation": "default",
            "Init": True,
            "Sysctls": {"net.core.somaxconn": "1024"},
            "CapabilityAdd": ["CAP_NET_ADMIN"],
            "CapabilityDrop": ["CAP_CHOWN"],
            "Ulimits": [{"Name": "nofile", "Hard": 100, "Soft": 100}],
        },
        "Resources": {
            "Limits": {"NanoCPUs": SECOND_NS, "MemoryBytes": 1 << 30, "Pids": 100},
            "Reservations": {"NanoCPUs": SECOND_NS // 2, "MemoryBytes": 8 << 20},
        },
        "RestartPolicy": {
            "Condition": "on-failure",
            "Delay": SECOND_NS,
            "MaxAttempts": 3,
            "Window": 10 * SECOND_NS,
        },
        "Placement": {
            "Constraints": ["node.role==manager", "node.labels.disk!=slow"],
            "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}],
            "MaxReplicas": 4,
            "Platforms": [{"Architecture": "x86_64", "OS": "linux"}],
        },
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}},
        "ForceUpdate": 2,
        "Runtime": "container",
    },
    "Mode": {"Replicated": {"Replicas": 2}},
    "UpdateConfig": {
        "Parallelism": 2,
        "Delay": SECOND_NS,
        "FailureAction": "rollback",
        "Monitor": SECOND_NS,
        "MaxFailureRatio": 0.25,
        "Order": "start-first",
    },
    "RollbackConfig": {
        "Parallelism": 1,
        "FailureAction": "pause",
        "Monitor": SECOND_NS,
        "MaxFailureRatio": 0,
        "Order": "stop-first",
    },
    "EndpointSpec": {
        "Mode": "vip",
        "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}],
    },
}


lone = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=2))


def ask(swarm: Swarm, method: str, path: str, body: object = None) -> Any:
    connection = UnixConnection(swarm.manager.socket)
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status < 300, content
    return json.loads(content) if content.strip() else None


def test_every_field_comes_back_exactly(lone: Swarm) -> None:
    created = ask(lone, "POST", "/services/create", FULL)
    try:
        assert ask(lone, "GET", f"/services/{created['ID']}")["Spec"] == FULL
        assert not created.get("Warnings")
    finally:
        ask(lone, "DELETE", "/services/full")


def test_fields_not_acted_on_are_stored_and_named(lone: Swarm) -> None:
    spread = {"Preferences": [{"Spread": {"SpreadDescriptor": "node.id"}}]}
    spec = {**FULL, "Name": "named", "TaskTemplate": {**FULL["TaskTemplate"], "Placement": spread}}
    created = ask(lone, "POST", "/services/create", spec)
    ask(lone, "DELETE", "/services/named")
    (text,) = created["Warnings"]
    assert text.startswith("TaskTemplate.Placement.Preferences: only a spread over node.labels.X")


def test_tasks_are_found_by_every_filter(lone: Swarm) -> None:
    wait_until("nothing of the tests before is left", lambda: ask(lone, "GET", "/tasks") == [])
    lone.manager.docker("service create -q -d --name s --replicas 4 image")
    try:
        wait_until("four run", lambda: len(lone.manager.running("s")) == 4)
        service, tasks = ask(lone, "GET", "/services/s"), ask(lone, "GET", "/tasks")
        one = tasks[0]

        def found(**filters: list[str]) -> set[str]:
            text = json.dumps({k.replace("__", "-"): v for k, v in filters.items()}).replace('"', "%22")
            return {task["ID"] for task in ask(lone, "GET", f"/tasks?filters={text.replace(' ', '')}")}

        everything = {task["ID"] for task in tasks}
        assert len(everything) == 4
        assert found(service=["s"]) == found(service=[service["ID"]]) == everything
        assert found(id=[one["ID"]]) == {one["ID"]}
        assert found(name=[f"s.{one['Slot']}"]) >= {one["ID"]}
        of_node = {task["ID"] for task in tasks if task["NodeID"] == one["NodeID"]}
        assert found(node=[one["NodeID"]]) == of_node
        assert found(desired__state=["running"]) == everything
        assert found(desired__state=["shutdown"]) == set()
        assert found(label=["none"]) == set()
        up_to_date = json.dumps({"_up-to-date": {"true": True}}).replace('"', "%22").replace(" ", "")
        assert len(ask(lone, "GET", f"/tasks?filters={up_to_date}")) == 4
    finally:
        lone.manager.docker("service rm s")


def test_nodes_are_labelled_listed_and_removed(lone: Swarm) -> None:
    manager = lone.manager
    manager.docker("node update --label-add disk=fast --label-add rack=1 w0")
    assert manager.json("node inspect w0")[0]["Spec"]["Labels"] == {"disk": "fast", "rack": "1"}
    assert manager.docker("node ls -q --filter node.label=disk=fast").count("\n") == 0
    manager.docker("node update --label-rm disk w0")
    assert "disk" not in manager.docker("node inspect --pretty w0")
    assert manager.docker("node ls --filter role=worker -q").count("\n") == 1
    done = manager.run("node rm w1", check=False)
    assert "is not down and can't be removed" in done.stderr
    manager.docker("node rm --force w1")
    assert set(lone.nodes()) == {"mg0", "w0"}
    wait_until(
        "it knows that it is out",
        lambda: lone.workers[1].docker("info --format {{.Swarm.LocalNodeState}}") != "active",
    )


def test_info_prints_the_swarm_as_docker_does(lone: Swarm) -> None:
    text = lone.manager.docker("info")
    section = text[text.index(" Swarm: active") : text.index("Manager Addresses")]
    names = [line.split(":")[0].strip() for line in section.splitlines()]
    # Which pool there is depends on the client: 20.10 sends none, newer ones an empty one.
    names = [name for name in names if name not in ("Default Address Pool", "SubnetSize")]
    assert names[:7] == [
        *("Swarm", "NodeID", "Is Manager", "ClusterID", "Managers", "Nodes", "Data Path Port")
    ]
    assert tuple(
        name for name in names if name in ("Orchestration", "Raft", "Dispatcher", "CA Configuration")
    ) == ("Orchestration", "Raft", "Dispatcher", "CA Configuration")
