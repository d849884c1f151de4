"""Bodies that are right but for a member or three: what the schema cannot know of, the deciders must bear."""

from __future__ import annotations

import base64
import copy
import json
import random
from typing import Any

import pytest

from .target import Target, check

pytestmark = pytest.mark.timeout(600)
ROUNDS = 600
HOSTILE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**32,
        2**53,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63),
        10**40,
        1.5,
        -0.0,
        1e308,
    ),
    *(
        "",
        " ",
        "a",
        "\x00",
        "\ud800",
        "é",
        "😀",
        "a" * 70,
        "a" * 5000,
        "../../etc/passwd",
        "/",
        "%s%n",
        "{{",
        "}}",
    ),
    *(
        "{{.Service.Name}}",
        '{{index .Service.Labels "x"}}',
        "{{range .X}}",
        "node.id==x",
        "=",
        "\n",
        "a=b",
        "::",
        "0",
    ),
    *("10.0.0.0/8", "256.0.0.1", "fe80::1/64", "9" * 400),
    *(
        [],
        [None],
        [[]],
        [{}],
        ["a"],
        ["a", "a"],
        [1],
        ["x"] * 3000,
        {},
        {"a": None},
        {"a": "b"},
        {"": ""},
        {"a": {}},
    ),
    {str(number): "x" for number in range(3000)},
]

SERVICE: dict[str, Any] = {
    "Name": "f",
    "Labels": {"a": "b"},
    "Mode": {"Replicated": {"Replicas": 2}},
    "UpdateConfig": {"Parallelism": 1, "Delay": 1, "FailureAction": "pause", "Monitor": 1, "MaxFailureRatio": 0.1, "Order": "stop-first"},
    "RollbackConfig": {"Parallelism": 1, "Delay": 1, "FailureAction": "pause", "Monitor": 1, "MaxFailureRatio": 0.1},
    "EndpointSpec": {"Mode": "vip", "Ports": [{"Name": "p", "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]},
    "TaskTemplate": {
        "ForceUpdate": 0,
        "Runtime": "container",
        "LogDriver": {"Name": "json-file", "Options": {"a": "b"}},
        "Networks": [],
        "RestartPolicy": {"Condition": "any", "Delay": 1, "MaxAttempts": 1, "Window": 1},
        "Placement": {"Constraints": ["node.role==manager"], "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.a"}}], "MaxReplicas": 5, "Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
        "Resources": {
            "Limits": {"NanoCPUs": 10**9, "MemoryBytes": 8 << 20, "Pids": 10},
            "Reservations": {"NanoCPUs": 10**6, "MemoryBytes": 8 << 20, "GenericResources": []},
            "SwapBytes": 1,
            "MemorySwappiness": 1,
        },
        "ContainerSpec": {
            "Image": "i",
            "Labels": {"a": "b"},
            "Command": ["x"],
            "Args": ["x"],
            "Hostname": "h",
            "Env": ["A=b"],
            "Dir": "/",
            "User": "u",
            "Groups": ["g"],
            "Init": True,
            "StopSignal": "TERM",
            "StopGracePeriod": 1,
            "Hosts": ["1.2.3.4 a"],
            "DNSConfig": {"Nameservers": ["1.2.3.4"], "Search": ["a"], "Options": ["b"]},
            "Sysctls": {"a": "b"},
            "CapabilityAdd": ["NET_ADMIN"],
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "OomScoreAdj": 1,
            "HealthCheck": {"Test": ["CMD", "x"], "Interval": 10**9, "Timeout": 10**9, "Retries": 1, "StartPeriod": 10**9},
            "Privileges": {"NoNewPrivileges": True, "Seccomp": {"Mode": "default"}, "AppArmor": {"Mode": "default"}},
            "Mounts": [{"Type": "bind", "Source": "/", "Target": "/a", "ReadOnly": True, "BindOptions": {"Propagation": "rprivate"}}, {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1, "Mode": 448}}],
            "Secrets": [],
            "Configs": [],
        },
    },
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "Name": "n",
    "Driver": "overlay",
    "Attachable": True,
    "Internal": False,
    "EnableIPv6": False,
    "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1", "IPRange": "10.77.0.0/25"}]},
    "Options": {"a": "b"},
    "Labels": {"a": "b"},
}  # fmt: skip
BLOB: dict[str, Any] = {"Name": "s", "Labels": {"a": "b"}, "Data": base64.b64encode(b"x").decode()}
NODE: dict[str, Any] = {"Name": "", "Labels": {"a": "b"}, "Role": "manager", "Availability": "active"}
SWARM: dict[str, Any] = {
    "Name": "default",
    "Labels": {"a": "b"},
    "Orchestration": {"TaskHistoryRetentionLimit": 5},
    "Raft": {"SnapshotInterval": 10000, "ElectionTick": 10, "HeartbeatTick": 1},
    "Dispatcher": {"HeartbeatPeriod": 5 * 10**9},
    "CAConfig": {"NodeCertExpiry": 7776000 * 10**9},
    "EncryptionConfig": {"AutoLockManagers": False},
    "TaskDefaults": {"LogDriver": {"Name": "json-file"}},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of everything inside."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in [(*path, k), *places(v, (*path, k))]]
    if isinstance(value, list):
        return [p for k, v in enumerate(value) for p in [(*path, k), *places(v, (*path, k))]]
    return []


def mutated(rng: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(body)
    for _ in range(rng.choice((1, 1, 2, 3))):
        *way, last = rng.choice(places(body))
        inside: Any = made
        try:
            for step in way:
                inside = inside[step]
            inside[last] = copy.deepcopy(rng.choice(HOSTILE))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation took it away
    return made


def encoded(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=True).encode()


def post(target: Target, path: str, body: dict[str, Any]) -> int:
    reply = target.ask("POST", path, encoded(body), {"Content-Type": "application/json"})
    check(reply.status, reply.message, f"POST {path} {encoded(body)[:3000]!r}")
    return reply.status


def version(target: Target, path: str) -> int:
    return int(target.ask("GET", path).json()["Version"]["Index"])


def test_services(target: Target) -> None:
    """Made, listed, looked at, changed and removed."""
    rng = random.Random(4)
    assert post(target, "/services/create", {**SERVICE, "Name": "kept"}) == 201
    taken = 0
    for number in range(ROUNDS * target.factor):
        body = mutated(rng, {**SERVICE, "Name": f"f{number}"})
        if number % 3 == 0:
            body["Name"] = "kept"
            taken += (
                post(target, f"/services/kept/update?version={version(target, '/services/kept')}", body)
                == 200
            )
        else:
            taken += post(target, "/services/create", body) == 201
        if number % 20 == 0:
            for path in (
                "/services?status=1",
                "/tasks",
                "/services/kept?insertDefaults=1",
                "/skep/v1/services/kept/explain",
            ):
                reply = target.ask("GET", path)
                check(reply.status, reply.message, path)
                assert reply.status == 200
            target.tidy()
            assert post(target, "/services/create", {**SERVICE, "Name": "kept"}) == 201
    assert taken > ROUNDS // 10, "some must be taken, or only the door is tested"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/networks/create", NETWORK), ("/secrets/create", BLOB), ("/configs/create", BLOB)],
    ids=["networks", "secrets", "configs"],
)
def test_other_objects(target: Target, path: str, body: dict[str, Any]) -> None:
    rng = random.Random(path)
    for number in range(ROUNDS // 4 * target.factor):
        post(target, path, mutated(rng, body))
        if number % 20 == 0:
            reply = target.ask("GET", "/" + path.split("/")[1])
            assert reply.status == 200, reply.message
            target.tidy()


def test_nodes_and_the_swarm(target: Target) -> None:
    rng = random.Random(5)
    node = target.ask("GET", "/nodes").json()[0]["ID"]
    for _ in range(ROUNDS // 4 * target.factor):
        post(target, f"/nodes/{node}/update?version={version(target, f'/nodes/{node}')}", mutated(rng, NODE))
        post(target, f"/swarm/update?version={version(target, '/swarm')}", mutated(rng, SWARM))
    post(target, f"/nodes/{node}/update?version={version(target, f'/nodes/{node}')}", NODE)
    assert post(target, f"/swarm/update?version={version(target, '/swarm')}", SWARM) == 200
    assert target.ask("GET", "/info").status == 200
