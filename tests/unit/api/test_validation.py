"""What Docker's swarm refuses, in its words and with its status: noted from an engine 20.10 that was asked the
same, but where a comment says otherwise. The whole API answers, with a real leader, on the store in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skep.manager.control.validate import check_dns_name, is_image
from skep.model.network import VXLAN_OPTION
from skep.model.task import PendingTask
from skep.runtime.errors import Invalid
from tests.api_process import Answer, Api, running_api

pytestmark = pytest.mark.real_time  # the API answers at a socket

INVALID = "rpc error: code = InvalidArgument desc = "
BEFORE = "rpc error: code = FailedPrecondition desc = "
Row = tuple[dict[str, Any] | bytes, str]


def service(**parts: Any) -> dict[str, Any]:
    """A service; the parts' names are paths: `task__Resources`, `container__Image`, `Name`."""
    spec: dict[str, Any] = {"Name": "v", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}}
    for path, value in parts.items():
        where, _, name = path.rpartition("__")
        task = spec["TaskTemplate"]
        {"": spec, "task": task, "container": task["ContainerSpec"]}[where][name] = value
    return spec


def port(**parts: Any) -> dict[str, Any]:
    return {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host", **parts}


def health(**parts: Any) -> dict[str, Any]:
    return service(container__HealthCheck={"Test": ["CMD", "x"], **parts})


def limits(**parts: Any) -> dict[str, Any]:
    return service(task__Resources={"Limits": parts})


def constraint(text: str) -> dict[str, Any]:
    return service(task__Placement={"Constraints": [text]})


def credentials(**parts: str) -> dict[str, Any]:
    return service(container__Privileges={"CredentialSpec": parts})


SERVICES: list[Row] = [
    ({"Name": "v"}, "mismatched Runtime and *Spec fields"),
    ({}, "mismatched Runtime and *Spec fields"),
    (service(container__Image=""), INVALID + "ContainerSpec: image reference must be provided"),
    (service(container__Image="No Ref!"), INVALID + 'ContainerSpec: "No Ref!" is not a valid repository/tag'),
    (service(container__Image="UPPER/x"), INVALID + 'ContainerSpec: "UPPER/x" is not a valid repository/tag'),
    (service(Name="no good!"), INVALID + "name must be valid as a DNS name component"),
    (service(Name="-a"), INVALID + "name must be valid as a DNS name component"),
    (service(Name="-" + "a" * 64), INVALID + "name must be valid as a DNS name component"),
    (service(Name="a.b"), INVALID + "name must be valid as a DNS name component"),
    (
        service(Mode={"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 18_001}}),
        "18001 completions are more than this version accepts (18000)",  # skep's own
    ),
    (service(Name="a" * 64), INVALID + "name must be 63 characters or fewer"),
    (
        service(container__Mounts=[{"Type": "tmpfs", "Target": "/a"}] * 2),
        INVALID + "ContainerSpec: duplicate mount point: /a",
    ),
    (health(Interval=1000), INVALID + "ContainerSpec: Interval in HealthConfig cannot be less than 1ms"),
    (health(Interval=-1), INVALID + "ContainerSpec: Interval in HealthConfig cannot be less than 1ms"),
    (health(Timeout=1000), INVALID + "ContainerSpec: Timeout in HealthConfig cannot be less than 1ms"),
    (health(StartPeriod=1), INVALID + "ContainerSpec: StartPeriod in HealthConfig cannot be less than 1ms"),
    (
        health(StartInterval=1),
        INVALID + "ContainerSpec: StartInterval in HealthConfig cannot be less than 1ms",
    ),
    (health(Retries=-1), INVALID + "ContainerSpec: Retries in HealthConfig cannot be negative"),
    (limits(NanoCPUs=1000), INVALID + "invalid cpu value 1e-06: Must be at least 0.001"),
    (limits(NanoCPUs=-1), INVALID + "invalid cpu value -1e-09: Must be at least 0.001"),
    (limits(MemoryBytes=1000), INVALID + "invalid memory value 1000: Must be at least 4MiB"),
    (
        service(task__Resources={"Reservations": {"MemoryBytes": -1}}),
        INVALID + "invalid memory value -1: Must be at least 4MiB",
    ),
    (service(task__RestartPolicy={"Delay": -1}), INVALID + "TaskSpec: restart-delay cannot be negative"),
    (service(task__RestartPolicy={"Window": -1}), INVALID + "TaskSpec: restart-window cannot be negative"),
    (service(task__RestartPolicy={"Condition": "some"}), 'invalid RestartCondition: "some"'),
    (service(UpdateConfig={"Delay": -1}), INVALID + "TaskSpec: update-delay cannot be negative"),
    (service(UpdateConfig={"Monitor": -1}), INVALID + "TaskSpec: update-monitor cannot be negative"),
    (
        service(UpdateConfig={"MaxFailureRatio": 1.5}),
        INVALID + "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
    ),
    (  # Docker takes it, and rolls back all the same
        service(RollbackConfig={"MaxFailureRatio": -0.5}),
        INVALID + "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
    ),
    (service(UpdateConfig={"FailureAction": "bogus"}), "unrecognized update failure action bogus"),
    (service(RollbackConfig={"FailureAction": "bogus"}), "unrecognized update failure action bogus"),
    (service(UpdateConfig={"Order": "bogus"}), "unrecognized update order bogus"),
    (
        service(EndpointSpec={"Mode": "dnsrr", "Ports": [port(PublishMode="ingress")]}),
        INVALID + "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
    ),
    (service(EndpointSpec={"Mode": "bogus"}), 'invalid resolution mode: "bogus"'),
    (
        service(EndpointSpec={"Ports": [port(), port(TargetPort=81)]}),
        INVALID + "EndpointSpec: duplicate published ports provided",
    ),
    (
        service(EndpointSpec={"Ports": [port(), port(PublishMode="ingress")]}),
        INVALID + "EndpointSpec: duplicate published ports provided",
    ),
    # skep's own words from here: Docker's API takes what no network can have.
    *(
        (
            service(EndpointSpec={"Ports": [port(), port(**{which: number})]}),
            f"invalid request body: {what} - at `$.EndpointSpec.Ports[1].{which}`",
        )
        for which in ("TargetPort", "PublishedPort")
        for number, what in ((65536, "Expected `int` <= 65535"), (-1, "Expected `int` >= 0"))
    ),
    (
        service(EndpointSpec={"Ports": [port(TargetPort=0, PublishMode="ingress")]}),
        INVALID + "EndpointSpec: a port of the routing mesh has no target port (1 to 65535)",
    ),
    *(
        (
            service(task__Networks=[{"Target": "n", "Aliases": ["web", alias]}]),
            INVALID + f"the alias {ascii(alias)[:100]} is no name that DNS can be asked for: at most"
            " 253 bytes, 63 between dots, without blanks",
        )
        for alias in ("", "a b", "a\nb", "a..b", "a" * 64, "a." * 126 + "aa")
    ),
    (service(container__Mounts=[{"Type": "Sideways"}]), 'invalid MountType: "Sideways"'),
    (
        service(container__Mounts=[{"Type": "BIND", "BindOptions": {"Propagation": "Sideways"}}]),
        'invalid MountPropagation: "Sideways"',
    ),
    *(
        (
            service(container__OomScoreAdj=score),
            f"Invalid value {score}, range for oom score adj is [-1000, 1000]",
        )
        for score in (1001, -1001)
    ),
    (service(EndpointSpec={"Mode": "DNSRR"}), 'invalid resolution mode: "DNSRR"'),
    (service(task__RestartPolicy={"Condition": "Any"}), 'invalid RestartCondition: "Any"'),
    (service(UpdateConfig={"Order": "Stop-First"}), "unrecognized update order Stop-First"),
    (service(Mode={"Replicated": {}, "Global": {}}), "must specify only one service mode"),
    (service(task__Runtime="bogus"), "unsupported runtime"),
    (
        {"TaskTemplate": {"Runtime": "attachment", "NetworkAttachmentSpec": {"ContainerID": "x"}}},
        "unsupported runtime",
    ),
    (
        credentials(),
        'invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec',
    ),
    (
        credentials(File="a", Registry="b"),
        'invalid CredentialSpec: cannot specify both "file" and "registry" credential specs',
    ),
    (
        credentials(Config="abc"),
        "rpc error: code = InvalidArgument desc = CredentialSpec references config 'abc', but that config isn't"
        " in config references with RuntimeTarget",
    ),
    # Docker's own status for these is 500: it forgot to say whose fault it is.
    (constraint("bogus"), "rpc error: code = Unknown desc = constraint expected one operator from ==, !="),
    (constraint("==x"), "rpc error: code = Unknown desc = key '' is invalid"),
    (constraint("node.id=="), "rpc error: code = Unknown desc = value '' is invalid"),
    (constraint("node.id==a b!"), "rpc error: code = Unknown desc = value 'a b!' is invalid"),
]

MESH = {"Name": "mesh", "Driver": "overlay", "Ingress": True}
OF_PLAN = {"Name": "n", "Driver": "bridge", "Scope": "swarm", "ConfigFrom": {"Network": "plan"}}
OWN = "user specified configurations are not supported if the network depends on a configuration network"
NETWORKS: list[tuple[dict[str, Any], int, str]] = [
    ({"Name": "a" * 64, "Driver": "overlay"}, 400, INVALID + "name must be 63 characters or fewer"),
    ({"Name": "a.b", "Driver": "overlay"}, 400, INVALID + "name must be valid as a DNS name component"),
    ({**OF_PLAN, "Labels": {"a": "b"}, "Options": {"a": "b"}}, 403, OWN),
    ({**OF_PLAN, "EnableIPv6": True}, 403, OWN),
    ({**OF_PLAN, "IPAM": {"Config": [{"Subnet": "172.28.9.0/24"}]}}, 403, OWN),
    ({**OF_PLAN, "IPAM": {"Driver": "default"}}, 201, ""),
    (
        {**OF_PLAN, "Options": {"a": "b"}},
        403,
        "network driver options are not supported if the network depends on a configuration network",
    ),
]

# Docker takes these, and so do we; what cannot be done its tasks say.
TAKEN: list[dict[str, Any]] = [
    constraint("node.foo==1"),
    service(Name=""),
    service(EndpointSpec={"Ports": [{"PublishedPort": 8081, "PublishMode": "host"}]}),
    service(container__Isolation="bogus"),
    service(container__Ulimits=[{"Name": "nofile", "Soft": 9, "Hard": 1}]),
    service(container__OomScoreAdj=1000),
    service(container__OomScoreAdj=-1000),
    service(container__Hosts=["a"]),
    service(container__CapabilityAdd=["bogus"]),
    service(container__StopSignal="BOGUS"),
    service(container__DNSConfig={"Nameservers": ["none"]}),
    service(container__Env=["=x", "A"]),
    service(container__Hostname="a" * 300),
    service(container__Sysctls={"bogus": "x"}),
    service(container__Image="sha256:abc"),
    service(task__LogDriver={"Name": "bogus"}),
    service(task__Placement={"Preferences": [{"Spread": {"SpreadDescriptor": "bogus"}}, {}]}),
    service(RollbackConfig={"FailureAction": "rollback"}),
    service(Mode={"Global": {}}, task__Placement={"MaxReplicas": 2}),
    service(Labels={"": "x"}),
    {**service(), "Sise": 3},
]

PATHS: list[tuple[str, str, int, str]] = [
    ("GET", "/services/nope", 404, "service nope not found"),
    ("DELETE", "/services/nope", 404, "service nope not found"),
    ("POST", "/services/nope/update?version=1", 404, "service nope not found"),
    ("POST", "/services/nope/update?version=-1", 400, "invalid service version '-1'"),
    ("POST", "/services/nope/update?version=99999999999999999999", 400, "invalid service version"),
    ("POST", "/services/nope/update", 400, "invalid service version ''"),
    ("POST", "/nodes/nope/update?version=x", 400, "invalid node version 'x'"),
    ("GET", "/tasks/nope", 404, "task nope not found"),
    ("GET", '/tasks?filters={"service":["nope"]}', 404, "service nope not found"),
    ("GET", '/tasks?filters={"node":["nope"]}', 404, "node nope not found"),
    ("GET", '/tasks?filters={"desired-state":["x"]}', 500, "Invalid desired-state filter: 'x'"),
    (
        "GET",
        '/tasks?filters={"desired-state":["allocated"]}',
        500,
        "Invalid desired-state filter: 'allocated'",
    ),
    ("GET", '/tasks?filters={"x":["x"]}', 400, "invalid filter 'x'"),
    ("GET", "/nodes/nope", 404, "node nope not found"),
    ("DELETE", "/nodes/nope", 404, "node nope not found"),
    ("GET", '/nodes?filters={"role":["x"]}', 500, "Invalid role filter: 'x'"),
    ("GET", '/nodes?filters={"membership":["x"]}', 500, "Invalid membership filter: 'x'"),
    ("GET", '/nodes?filters={"x":["x"]}', 400, "invalid filter 'x'"),
    ("GET", '/services?filters={"x":["x"]}', 400, "invalid filter 'x'"),
    ("GET", '/services?filters={"mode":["x"]}', 200, ""),
    ("GET", "/services?filters={x", 400, "invalid filters"),  # 20.10 has 500 on all others
    (
        "GET",
        "/services?status=bogus",
        400,
        'invalid value for status: bogus: strconv.ParseBool: parsing "bogus": invalid syntax',
    ),
    ("GET", "/services/nope?insertDefaults=bogus", 400, "invalid value for insertDefaults: bogus: strconv"),
    ("GET", "/networks/nope", 404, "network nope not found"),
    ("POST", "/swarm/update?version=1&rotateWorkerToken=bogus", 400, "invalid value for rotateWorkerToken"),
    ("POST", "/swarm/update?version=x", 400, "invalid swarm version 'x'"),
    ("GET", "/v1.99/services", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
    ("GET", "/v1.2/services", 400, "client version 1.2 is too old. Minimum supported API version is 1.24,"),
    ("GET", "/v2/services", 400, "client version 2.0 is too new."),
    ("PUT", "/services", 404, "page not found"),
    ("GET", "/services/", 404, "page not found"),
]


def wrong(what: object, answer: Answer, status: int, message: str) -> list[str]:
    if answer.status == status and answer.message.startswith(message):
        return []
    return [f"{what}: {answer.status} {answer.message!r}, not {status} {message!r}"]


async def test_services_that_are_wrong_are_refused_in_dockers_words() -> None:
    found: list[str] = []
    async with running_api() as api:
        for body, message in SERVICES:
            answer = await api.ask("POST", "/services/create", body)
            found += wrong(body, answer, 400, message)
            if answer.message != message:
                found.append(f"more than {message!r}: {answer.message!r}")
        assert (await api.ask("GET", "/services")).json == []
    assert not found, "\n".join(found)


async def test_networks_that_are_wrong_are_refused_in_dockers_words() -> None:
    found: list[str] = []
    async with running_api() as api:
        for body, status, message in NETWORKS:
            found += wrong(body, await api.ask("POST", "/networks/create", body), status, message)
    assert not found, "\n".join(found)


async def test_what_docker_takes_is_taken() -> None:
    found: list[str] = []
    async with running_api() as api:
        for body in TAKEN:
            answer = await api.ask("POST", "/services/create", body)
            found += wrong(body, answer, 201, "")
            if answer.status == 201:
                assert (await api.ask("DELETE", f"/services/{answer.json['ID']}")).status == 200
    assert not found, "\n".join(found)


async def test_paths_versions_filters_and_queries() -> None:
    found: list[str] = []
    async with running_api() as api:
        for method, path, status, message in PATHS:
            answer = await api.ask(method, path, service() if method == "POST" else None)
            if method == "POST" and path.startswith("/swarm"):
                answer = await api.ask(method, path, {"Name": "default"})
            found += wrong((method, path), answer, status, message if status >= 400 else "")
    assert not found, "\n".join(found)


async def test_values_of_filters_have_no_case_and_may_be_empty() -> None:
    async with running_api() as api:
        (node,) = [each["ID"] for each in (await api.ask("GET", "/nodes")).json]
        for text, is_found in (
            *(('"role":["Manager"]', True), ('"role":[""]', True), ('"role":["WORKER",""]', False)),
            *(('"membership":["ACCEPTED"]', True), ('"membership":["Pending"]', False)),
        ):
            answer = await api.ask("GET", f"/nodes?filters={{{text}}}")
            assert [each["ID"] for each in answer.json] == ([node] if is_found else []), text
        answer = await api.ask("POST", "/services/create", service())
        assert answer.status == 201
        for text in ("Running", "", "NEW", "remove", "orphaned", "preparing", "ready", "accepted"):
            answer = await api.ask("GET", f'/tasks?filters={{"desired-state":["{text}"]}}')
            assert len(answer.json) == (text in ("Running", "")), text


async def test_bodies_that_are_no_json_are_400() -> None:
    found: list[str] = []
    deep = b'{"Labels":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with running_api() as api:
        for body in (b"hello", b'{"Name":', b"[]", b"null", b"3", b'"x"', b'{"Name":"\xff"}', deep):
            answer = await api.ask("POST", "/services/create", body)
            found += wrong(body[:30], answer, 400, "")
        for number in ("1e999", "9" * 30, "9" * 5000, "-9223372036854775809", "18446744073709551615"):
            body = b'{"TaskTemplate":{"ContainerSpec":{"Image":"i"},"ForceUpdate":%s}}' % number.encode()
            found += wrong(number[:30], await api.ask("POST", "/services/create", body), 400, "")
    assert not found, "\n".join(found)


async def named(api: Api, name: str, **parts: Any) -> str:
    body = service(Name=name, Mode={"Replicated": {"Replicas": 0}}, **parts)
    answer = await api.ask("POST", "/services/create", body)
    assert answer.status == 201, answer.message
    return str(answer.json["ID"])


async def test_what_is_there_decides() -> None:
    found: list[str] = []
    async with running_api() as api:
        service_id = await named(api, "web")
        taken = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service {} already exists"
        for name in ("web", "WEB"):
            answer = await api.ask("POST", "/services/create", service(Name=name))
            found += wrong(name, answer, 409, taken.format(name))
        found += wrong("by id's beginning", await api.ask("GET", f"/services/{service_id[:12]}"), 200, "")
        found += wrong("another case", await api.ask("GET", "/services/WEB"), 404, "service WEB not found")
        version = await api.version_of("/services/web")
        unimplemented = "rpc error: code = Unimplemented desc = "
        for query, body, status, message in (
            (
                "version=1",
                service(Name="web"),
                500,
                "rpc error: code = Unknown desc = update out of sequence",
            ),
            ("version=1", service(Name="web2"), 501, unimplemented + "renaming services is not supported"),
            (
                f"version={version}",
                service(Name=""),
                501,
                unimplemented + "renaming services is not supported",
            ),
            (
                f"version={version}",
                service(Name="web", Mode={"Global": {}}),
                501,
                unimplemented + "service mode change is not allowed",
            ),
            (
                f"version={version}&rollback=previous",
                service(Name="web"),
                400,
                BEFORE + f"service {service_id} does not have a previous spec",
            ),
            (
                f"version={version}&rollback=previous&registryAuthFrom=foo",
                service(Name="web"),
                500,
                "unsupported registryAuthFrom value",
            ),
            (
                f"version={version}&rollback=sideways",  # 500 there
                service(Name="web"),
                400,
                "unrecognized rollback option sideways",
            ),
        ):
            answer = await api.ask("POST", f"/services/web/update?{query}", body)
            found += wrong(query, answer, status, message)
        assert (await api.ask("DELETE", "/services/web")).status == 200
        assert (await api.ask("POST", "/services/create", service(Name="WEB"))).status == 201
    assert not found, "\n".join(found)


async def test_the_last_manager_and_the_swarms_settings() -> None:
    found: list[str] = []
    async with running_api() as api:
        node = api.leader.node_id
        version = await api.version_of(f"/nodes/{node}")
        spec = {"Role": "manager", "Availability": "active"}
        for given, body, status, message in (
            (1 << 40, spec, 500, "rpc error: code = Unknown desc = update out of sequence"),
            (version, {**spec, "Role": "king"}, 400, 'invalid Role: "king"'),
            (version, {"Availability": "active"}, 400, 'invalid Role: ""'),
            (version, {**spec, "Availability": "sideways"}, 400, 'invalid Availability: "sideways"'),
            (version, {"Role": "manager"}, 400, 'invalid Availability: ""'),
            (version, {**spec, "Role": "worker"}, 400, BEFORE + "attempting to demote the last manager"),
        ):
            answer = await api.ask("POST", f"/nodes/{node}/update?version={given}", body)
            found += wrong(body, answer, status, message)
        message = BEFORE + f"node {node} is a cluster manager and is a member of the raft cluster."
        for query in ("", "?force=1"):
            found += wrong("rm", await api.ask("DELETE", f"/nodes/{node}{query}"), 400, message)
        for body, status, message in (
            ({"Name": "other"}, 400, 'swarm spec must be named "default"'),
            (
                {"Name": "default", "CAConfig": {"NodeCertExpiry": 60}},
                400,
                INVALID + "minimum certificate expiry time is: 1h0m0s",
            ),
            ({"Name": "default"}, 500, "rpc error: code = Unknown desc = update out of sequence"),
        ):
            answer = await api.ask("POST", "/swarm/update?version=1", body)
            found += wrong(body, answer, status, message)
    assert not found, "\n".join(found)


async def test_an_ids_beginning_that_fits_several_is_ambiguous() -> None:
    async with running_api() as api:
        ids = [await named(api, f"s{number}") for number in range(40)]
        first = max({i[0] for i in ids}, key=lambda c: sum(i.startswith(c) for i in ids))
        count = sum(i.startswith(first) for i in ids)
        assert count > 1
        answer = await api.ask("GET", f"/services/{first}")
        assert (answer.status, answer.message) == (
            400,
            f"service {first} is ambiguous ({count} matches found)",
        )


async def test_fields_that_came_later_are_blanked_for_older_clients() -> None:
    spec = service(
        Mode={"Replicated": {"Replicas": 0}},
        task__Placement={"MaxReplicas": 3},
        task__Resources={"Limits": {"Pids": 7}},
        container__Sysctls={"a": "b"},
        container__CapabilityAdd=["NET_ADMIN"],
        container__HealthCheck={"Test": ["NONE"], "StartInterval": 2_000_000},
        container__Privileges={"NoNewPrivileges": True},
        container__OomScoreAdj=5,
        container__Mounts=[
            {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"Subpath": "s"}},
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Mode": 448, "Options": [["exec"]]}},
            {"Type": "bind", "Source": "/", "Target": "/b", "BindOptions": {"ReadOnlyForceRecursive": True}},
        ],
    )
    later = {
        "OomScoreAdj": "1.46",
        "exec": "1.46",
        "Subpath": "1.45",
        "StartInterval": "1.44",
        "NoNewPrivileges": "1.44",
        "ReadOnlyForceRecursive": "1.44",
        "Pids": "1.41",
        "CapabilityAdd": "1.41",
        "MaxReplicas": "1.40",
        "Sysctls": "1.40",
    }
    async with running_api() as api:
        for version in ("1.24", "1.39", "1.40", "1.41", "1.43", "1.44", "1.45", "1.46", "1.51"):
            created = await api.ask("POST", f"/v{version}/services/create", spec)
            text = json.dumps((await api.ask("GET", f"/services/{created.json['ID']}")).json)
            text = text.replace('"NoNewPrivileges": false', "")  # shown where it is unset, too
            has = {word for word in later if f'"{word}"' in text}
            minor = int(version.split(".")[1])
            assert has == {word for word, since in later.items() if int(since.split(".")[1]) <= minor}, (
                version
            )
            await api.ask("DELETE", f"/services/{created.json['ID']}")


async def test_words_without_a_case_are_stored_in_lower_case() -> None:
    bind = {"Type": "BIND", "Source": "/a", "Target": "/a", "BindOptions": {"Propagation": "RShared"}}
    body = service(
        container__Mounts=[bind, {"Type": "Volume", "Target": "/b"}],
        container__Isolation="Default",
        EndpointSpec={"Ports": [port(Protocol="TCP", PublishMode="Host"), port(Protocol="Udp")]},
    )
    async with running_api() as api:
        assert (await api.ask("POST", "/services/create", body)).status == 201
        spec = (await api.ask("GET", "/services/v")).json["Spec"]
        container = spec["TaskTemplate"]["ContainerSpec"]
        assert container["Isolation"] == "default"
        assert [each["Type"] for each in container["Mounts"]] == ["bind", "volume"]
        assert container["Mounts"][0]["BindOptions"]["Propagation"] == "rshared"
        ports = [(each["Protocol"], each["PublishMode"]) for each in spec["EndpointSpec"]["Ports"]]
        assert ports == [("tcp", "host"), ("udp", "host")]
        (node,) = (await api.ask("GET", "/nodes")).json
        path = f"/nodes/{node['ID']}/update?version={node['Version']['Index']}"
        assert (await api.ask("POST", path, {"Role": "Manager", "Availability": "Pause"})).status == 200
        spec = (await api.ask("GET", f"/nodes/{node['ID']}")).json["Spec"]
        assert (spec["Role"], spec["Availability"]) == ("manager", "pause")


async def test_an_empty_value_of_a_label_is_any_but_for_networks() -> None:
    network = {"Name": "n", "Driver": "overlay", "Labels": {"a": "b", "empty": ""}}
    async with running_api() as api:
        body = service(Labels={"a": "b", "empty": None}, container__Labels={"c": None})
        assert (await api.ask("POST", "/services/create", body)).status == 201
        assert (await api.ask("POST", "/networks/create", network)).status == 201
        spec = (await api.ask("GET", "/services/v")).json["Spec"]
        assert spec["Labels"] == {"a": "b", "empty": ""}
        assert spec["TaskTemplate"]["ContainerSpec"]["Labels"] == {"c": ""}
        for text, services, networks in (("a=", 1, 0), ("a", 1, 1), ("empty=", 1, 1), ("x=", 0, 0)):
            for kind, count in (("services", services), ("tasks", services), ("networks", networks)):
                answer = await api.ask("GET", f'/{kind}?filters={{"label":["{text}"]}}')
                assert len(answer.json) == count, (kind, text)


async def test_no_port_is_published_in_a_mesh_that_was_removed() -> None:
    found: list[str] = []
    no_mesh = BEFORE + "service needs ingress network, but no ingress network is present"
    async with running_api() as api:
        await named(api, "on-hosts", EndpointSpec={"Ports": [port()]})
        await named(api, "plain")
        assert (await api.ask("DELETE", "/networks/ingress")).status == 204
        for ports in ([port(PublishMode="ingress")], [{"TargetPort": 80}]):
            body = service(Name="x", EndpointSpec={"Ports": ports})
            message = (
                no_mesh if ports[0].get("PublishMode") is None else INVALID + "port '8080' is already in"
            )
            found += wrong(body, await api.ask("POST", "/services/create", body), 400, message)
        body = service(Name="plain", EndpointSpec={"Ports": [port(PublishedPort=1, PublishMode="ingress")]})
        path = f"/services/plain/update?version={await api.version_of('/services/plain')}"
        found += wrong(path, await api.ask("POST", path, {**body, "Mode": {"Replicated": {}}}), 400, no_mesh)
        await named(api, "later", EndpointSpec={"Ports": [port(PublishedPort=8081)]})
        assert (await api.ask("POST", "/networks/create", MESH)).status == 201
        await named(api, "x", EndpointSpec={"Ports": [{"TargetPort": 80}]})
    assert not found, "\n".join(found)


async def test_objects_have_dockers_envelope() -> None:
    async with running_api() as api:
        await named(api, "web")
        for path in ("/services", "/nodes"):
            found = (await api.ask("GET", path)).json[0]
            assert len(found["ID"]) == 25
            assert found["Version"]["Index"] > 0
            assert found["CreatedAt"].endswith("Z")
            assert found["UpdatedAt"].endswith("Z")
            assert found["Spec"]


async def test_no_way_of_writing_a_path_reaches_the_engines_own_swarm() -> None:
    """Without an engine, what would be passed on is a 503."""
    async with running_api() as api:
        for path in ("/v1.41/swarm%2Finit", "//swarm/init", "/v1.41//swarm/init", "/x/%2e%2e/swarm/init"):
            answer = await api.ask("POST", path, {})
            assert (answer.status, answer.message) == (404, "page not found"), path
        for path in ("/v1.41.0/services", "/v2/services", "/%73ervices", "/V1.41/services"):
            assert (await api.ask("GET", path)).status != 503 or path.startswith("/V"), path


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5000])
async def test_numbers_that_are_too_long_are_refused(digits: str) -> None:
    """Python reads none of more than 4,300 digits."""
    too_large = f'strconv.ParseInt: parsing "{digits[:100]}": value out of range'
    async with running_api() as api:
        await named(api, "web")
        for query, message in {
            f"since={digits}": f"could not parse since timestamp: {too_large}",
            "since=1.x": 'could not parse since timestamp: strconv.ParseInt: parsing "x": invalid syntax',
            f"tail={digits}": 'tail value must be a positive integer or "all"',
        }.items():
            answer = await api.ask("GET", f"/services/web/logs?stdout=1&{query}")
            assert (answer.status, answer.message) == (500, message)
        events = await api.ask("GET", f"/events?since={digits}")
        assert (events.status, events.message) == (500, too_large)
        update = await api.ask("POST", f"/services/web/update?version={digits}", service())
        assert update.status == 400
        network = {"Name": "n", "Driver": "overlay", "Options": {VXLAN_OPTION: digits}}
        assert f"invalid {VXLAN_OPTION}" in (await api.ask("POST", "/networks/create", network)).message


def test_names_take_no_time_however_they_end() -> None:
    """Docker's own pattern would have taken Python for ever."""
    for name in ("a" * 62 + "!", "a" * 64, "a-", "a\n"):
        with pytest.raises(Invalid):
            check_dns_name(name)
    check_dns_name("a" * 63)
    check_dns_name("a--_b")
    assert not is_image("a/" * 511 + "!")
    assert not is_image("a" + "-" * 1000 + "!")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("busybox", True),
        ("busybox:1.36", True),
        ("library/busybox:latest@sha256:" + "a" * 64, True),
        ("registry.example:5000/a/b_c/d__e-f:tag.x-y", True),
        ("localhost/x", True),
        ("LOCAL.example/x", True),
        ("[::1]:5000/x", True),
        ("Busybox", False),
        ("a" * 64, False),  # an image's id
        ("a" * 65, True),
        ("a" * 256, False),
        ("x:" + "t" * 129, False),
        ("x@sha256:short", False),
        ("a//b", False),
        ("a_", False),
        ("", False),
        ("x\n", False),
    ],
)
def test_images_are_named_as_dockers_grammar_says(text: str, is_one: bool) -> None:
    assert is_image(text) is is_one


async def test_a_global_services_task_that_waits_has_its_node() -> None:
    """Of several nodes one could not tell which lacks what."""
    async with running_api() as api:
        created = await api.ask("POST", "/services/create", service(Mode={"Global": {}}))
        (node,) = (await api.ask("GET", "/nodes")).json
        why = "insufficient resources on 1 node"
        pending = PendingTask("t" * 25, created.json["ID"], 0, 1, 1.0, why, node_id=node["ID"])
        api.leader.view.put_pending(pending)
        for path in ("/tasks", f'/tasks?filters={{"node":["{node["ID"]}"]}}'):
            (task,) = (await api.ask("GET", path)).json
            assert (task["NodeID"], task["Status"]["State"]) == (node["ID"], "pending")
            assert task["Status"]["Err"] == why


async def test_a_rollback_to_a_network_that_was_removed_says_so() -> None:
    """Found by the simulation's seed 123521: the service was on a network that was gone."""
    async with running_api() as api:
        network = (await api.ask("POST", "/networks/create", {"Name": "n1", "Driver": "overlay"})).json["Id"]
        on_it = service(Name="web", task__Networks=[{"Target": "n1"}])
        assert (await api.ask("POST", "/services/create", on_it)).status == 201
        version = await api.version_of("/services/web")
        path = f"/services/web/update?version={version}"
        assert (await api.ask("POST", path, service(Name="web"))).status == 200
        assert (await api.ask("DELETE", f"/networks/{network}")).status == 204
        version = await api.version_of("/services/web")
        path = f"/services/web/update?version={version}&rollback=previous"
        answer = await api.ask("POST", path, service(Name="web"))
        assert (answer.status, answer.message) == (404, f"network {network} not found")
