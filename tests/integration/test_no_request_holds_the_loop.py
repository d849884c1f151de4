"""No request holds the loop, whatever is in it: bodies as large as they may be, filters as long as a line may be.

What is measured is the longest piece of work between two looks at the loop's timers and sockets, in time of
this thread: other processes may have the processor meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import json
import time
from asyncio import events
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import pytest

from skep.model.bounds import BODY_MAX_BYTES, ELEMENTS_MAX
from tests.api_process import Api, running_api
from tests.fuzz.test_mutations import BLOB, NETWORK, NODE, SERVICE, SWARM
from tests.unit.builders import add_node

pytestmark = pytest.mark.timeout(120)

STALL_MAX_S = 0.5
NODES = 1000
ROOM = BODY_MAX_BYTES - 10_000  # for the rest of the body
CONTAINER = "TaskTemplate.ContainerSpec."
PLACEMENT = "TaskTemplate.Placement."


class LoopWork:
    """The longest call-back that the loop ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.worst_s, self.what = 0.0, ""
        run = events.Handle._run

        def timed(handle: events.Handle) -> None:
            began = time.thread_time()
            run(handle)
            if (seconds := time.thread_time() - began) > self.worst_s:
                self.worst_s, self.what = seconds, repr(handle)[:300]

        monkeypatch.setattr(events.Handle, "_run", timed)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as made:
        for number in range(NODES):
            add_node(made.leader.view, f"node{number}")
        gc.collect()
        gc.freeze()  # as skepd sets aside what stays; this process has far more than it
        yield made
        gc.unfreeze()


def few(form: str, count: int) -> str:
    """Returns a list in JSON; %d in the form is the element's number."""
    return "[" + ",".join(form % ((number,) * form.count("%d")) for number in range(count)) + "]"


def full(form: str, members: int = 0) -> str:
    """Returns the same with as many as a body may have: by its elements and members, and by its bytes."""
    by_count = (ELEMENTS_MAX - 500) // (1 + members)
    return few(form, min(by_count, ROOM // (len(form % ((99_999,) * form.count("%d"))) + 1)))


def members(form: str = '"%d":""') -> str:
    return "{" + full(form)[1:-1] + "}"


def body(path: str, text: str, base: dict[str, Any] = SERVICE) -> bytes:
    """Returns a body with that JSON in one place."""
    made: Any = copy.deepcopy(base)
    inside = made
    *way, last = path.split(".")
    for step in way:
        inside = inside.setdefault(step, {})
    inside[last] = "@"
    return json.dumps(made).replace('"@"', text).encode()


SERVICES: dict[str, tuple[str, Callable[[], str]]] = {
    "environment": (CONTAINER + "Env", lambda: full('"A=b"')),
    "templates": (CONTAINER + "Env", lambda: full('"A={{1}}"')),
    "as much environment as may be": (CONTAINER + "Env", lambda: few('"A%d={{.Task.Slot}}"', 7000)),
    "as many mounts as may be": (CONTAINER + "Mounts", lambda: few('{"Type":"tmpfs","Target":"/%d"}', 4500)),
    "arguments": (CONTAINER + "Args", lambda: full('""')),
    "labels": ("Labels", members),
    "devices": ("Labels", lambda: members('"skep.device.%d":"/dev/a"')),
    "one label of devices": ("Labels", lambda: '{"skep.device":"' + "/d," * (ROOM // 3) + '"}'),
    "one label of GPUs": ("Labels", lambda: '{"skep.gpus":"device=' + "a," * (ROOM // 2) + 'a"}'),
    "empty mounts": (CONTAINER + "Mounts", lambda: few("{}", ROOM // 3)),
    "mounts": (CONTAINER + "Mounts", lambda: full('{"Type":"tmpfs","Target":"/%d"}', 2)),
    "volumes": (CONTAINER + "Mounts", lambda: full('{"Type":"volume","Target":"/%d","VolumeOptions":{"Labels":{"a":"b"}}}', 5)),
    "configs": (CONTAINER + "Configs", lambda: full('{"ConfigID":"a","ConfigName":"b","File":{"Name":"%d"}}', 4)),
    "hosts": (CONTAINER + "Hosts", lambda: full('"1.2.3.4 a"')),
    "limits": (CONTAINER + "Ulimits", lambda: full('{"Name":"%d"}', 1)),
    "unknown": (CONTAINER + "Unknown", members),
    "constraints": (PLACEMENT + "Constraints", lambda: full('"node.id!=%d"')),
    "constraints that a spec has room for": (PLACEMENT + "Constraints", lambda: few('"node.id!=%d"', 10_000)),
    "all constraints": (PLACEMENT + "Constraints", lambda: few('"node.id!=%d"', 100)),
    "a long constraint": (PLACEMENT + "Constraints", lambda: '["node.id==' + "a" * ROOM + '!"]'),
    "a long key": (PLACEMENT + "Constraints", lambda: '["' + "a-" * (ROOM // 2) + '==b"]'),
    "preferences": (PLACEMENT + "Preferences", lambda: full('{"Spread":{"SpreadDescriptor":"node.labels.a%d"}}', 2)),
    "all preferences": (PLACEMENT + "Preferences", lambda: few('{"Spread":{"SpreadDescriptor":"node.labels.a%d"}}', 16)),
    "platforms": (PLACEMENT + "Platforms", lambda: full('{"OS":"x%d"}', 1)),
    "all platforms": (PLACEMENT + "Platforms", lambda: few('{"OS":"x%d"}', 100)),
    "generic resources": ("TaskTemplate.Resources.Reservations.GenericResources", lambda: full('{"DiscreteResourceSpec":{"Kind":"%d","Value":1}}', 3)),
    "all generic resources": ("TaskTemplate.Resources.Reservations.GenericResources", lambda: few('{"DiscreteResourceSpec":{"Kind":"%d","Value":1}}', 16)),
    "networks": ("TaskTemplate.Networks", lambda: full('{"Target":"n%d"}', 1)),
    "automatic ports": ("EndpointSpec.Ports", lambda: few('{"TargetPort":1}', 2760)),
    "too many automatic ports": ("EndpointSpec.Ports", lambda: few('{"TargetPort":1}', 10_000)),
    "host ports": ("EndpointSpec.Ports", lambda: few('{"TargetPort":1,"PublishedPort":%d,"PublishMode":"host"}', 10_000)),
    "ingress ports": ("EndpointSpec.Ports", lambda: few('{"TargetPort":1,"PublishedPort":%d}', 10_000)),
    "an image": (CONTAINER + "Image", lambda: json.dumps("a-" * 500 + "!")),
    "an image of parts": (CONTAINER + "Image", lambda: json.dumps(("a" * 60 + ".") * 15 + "!")),
    "a name": ("Name", lambda: json.dumps("a-" * (ROOM // 2) + "!")),
    "replicas": ("Mode", lambda: '{"Replicated":{"Replicas":100000}}'),
}  # fmt: skip


@pytest.mark.parametrize("what", SERVICES)
async def test_services(api: Api, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path, text = SERVICES[what]
    sent = body(path, text(), {**SERVICE, "Name": "f"})
    work = LoopWork(monkeypatch)
    answer = await api.ask("POST", "/services/create", sent)
    assert answer.status < 500, answer.message[:1000]
    await asyncio.sleep(0.3)  # what was taken is decided
    for version in range(2 if answer.status == 201 else 0):
        at = await api.version_of("/services/f")
        changed = body(path, text(), {**SERVICE, "Name": "f", "Labels": {"v": str(version)}})
        assert (await api.ask("POST", f"/services/f/update?version={at}", changed)).status < 501
        assert (await api.ask("GET", "/services?status=1")).status == 200
        assert (await api.ask("GET", "/tasks")).status == 200
        assert (await api.ask("GET", "/skep/v1/services/f/explain")).status == 200
        await asyncio.sleep(0.1)
    assert work.worst_s < STALL_MAX_S, work.what


JSON = {
    "lists in lists": b"[" * ROOM,
    "objects in objects": b'{"a":' * (ROOM // 5),
    "digits": b'{"Name":' + b"9" * ROOM + b"}",
    "a fraction": b'{"Name":' + b"9" * ROOM + b".5}",
    "an exponent": b'{"Name":1e' + b"9" * ROOM + b"}",
    "escapes": b'{"Name":"' + b"\\u0041" * (ROOM // 6) + b'"}',
    "one member again and again": b"{" + b'"Name":"a",' * (ROOM // 11) + b'"Name":"a"}',
    "nothing": b" " * ROOM,
    "unknown members": members('"%d":1').encode(),
    "too long": b'{"Name":"' + b"x" * BODY_MAX_BYTES + b'"}',
}
OTHERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    **{f"{what}": ("/services/create", lambda what=what: JSON[what]) for what in JSON},  # type: ignore[misc]
    "a secret": ("/secrets/create", lambda: body("Data", json.dumps(base64.b64encode(b"x" * 511_999).decode()), BLOB)),
    "a config": ("/configs/create", lambda: body("Data", json.dumps(base64.b64encode(b"x" * 1_023_999).decode()), BLOB)),
    "bad base64": ("/configs/create", lambda: body("Data", json.dumps("a\n" * (ROOM // 3) + "!"), BLOB)),
    "a secret's name": ("/secrets/create", lambda: body("Name", json.dumps("a" * ROOM + "!"), BLOB)),
    "a secret's labels": ("/secrets/create", lambda: body("Labels", members(), BLOB)),
    "subnets": ("/networks/create", lambda: body("IPAM.Config", full('{"Subnet":"10.%d.0.0/24"}', 1), NETWORK)),
    "a large subnet": ("/networks/create", lambda: body("IPAM.Config", '[{"Subnet":"11.0.0.0/8"}]', NETWORK)),
    "addresses": ("/networks/create", lambda: body("IPAM.Config", '[{"Subnet":"12.0.0.0/8","AuxiliaryAddresses":' + members('"%d":"12.1.1.1"') + "}]", NETWORK)),
    "a network's labels": ("/networks/create", lambda: body("Labels", members(), NETWORK)),
    "a network's name": ("/networks/create", lambda: body("Name", json.dumps("a-" * (ROOM // 2) + "!"), NETWORK)),
    "a node's labels": ("/nodes/{}/update", lambda: body("Labels", members(), NODE)),
    "the swarm's labels": ("/swarm/update", lambda: body("Labels", members(), SWARM)),
    "certificate authorities": ("/swarm/update", lambda: body("CAConfig.ExternalCAs", full('{"URL":"%d"}', 1), SWARM)),
    "a certificate": ("/swarm/update", lambda: body("CAConfig.SigningCACert", json.dumps("-----BEGIN CERTIFICATE-----\n" * (ROOM // 30)), SWARM)),
    "the swarm's log options": ("/swarm/update", lambda: body("TaskDefaults.LogDriver.Options", members(), SWARM)),
    "settings": ("/skep/v1/cluster/settings", lambda: members().encode()),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
async def test_other_bodies(api: Api, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path, text = OTHERS[what]
    if path.endswith("/update"):
        path = path.format((await api.ask("GET", "/nodes")).json[0]["ID"])
        path += f"?version={await api.version_of(path.removesuffix('/update'))}"
    sent = text()
    work = LoopWork(monkeypatch)
    answer = await api.ask("POST", path, sent)
    assert answer.status != 500, answer.message[:1000]
    await asyncio.sleep(0.1)
    kind = path.split("/")[1].split("?")[0]
    if kind != "skep":
        assert (await api.ask("GET", f"/{kind}")).status == 200
    assert work.worst_s < STALL_MAX_S, work.what


async def test_a_container_with_as_many_ports_as_there_are(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run -p 1-65535:1-65535/udp`: it is the engine's to refuse."""
    ports = [f"{number}/udp" for number in range(1, 65_536)]
    bindings = {port: [{"HostIp": "", "HostPort": port.removesuffix("/udp")}] for port in ports}
    sent = {
        "Image": "i",
        "ExposedPorts": {port: {} for port in ports},
        "HostConfig": {"PortBindings": bindings},
    }
    work = LoopWork(monkeypatch)
    answer = await api.ask("POST", "/containers/create", sent)
    assert answer.status == 503, answer.message
    assert "engine" in answer.message
    assert work.worst_s < STALL_MAX_S, work.what


FILTERS = {
    "services": ("id", "name", "label", "mode", "runtime"),
    "tasks": ("id", "name", "label", "service", "node", "desired-state"),
    "nodes": ("id", "name", "label", "node.label", "role"),
    "networks": ("id", "name", "label", "driver"),
    "secrets": ("id", "name", "names", "label"),
    "events": ("service", "node", "label", "event", "type"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FILTERS for name in FILTERS[kind]])
async def test_filters(api: Api, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    """A line of a request has 8 kB."""
    if kind == "events":
        for number in range(4096):  # as many are kept
            api.node.hub.emit("node", "update", f"node{number}", name="x")
    spec = {**SERVICE, "Name": "web", "Mode": {"Replicated": {"Replicas": 20_000}}}
    spec["TaskTemplate"] = {**SERVICE["TaskTemplate"], "Placement": {}}
    assert (await api.ask("POST", "/services/create", spec)).status == 201
    await asyncio.sleep(1)
    work = LoopWork(monkeypatch)
    for form, count in (("%x", 1400), ("node%d", 700), ("a=%x", 1000), ("web", 1)):
        values = [form % number if "%" in form else form for number in range(count)]
        text = quote(json.dumps({name: values}, separators=(",", ":")), safe='{}[]":,=')
        until = f"&since=0&until={int(time.time())}" if kind == "events" else ""
        answer = await api.ask("GET", f"/{kind}?filters={text}{until}")
        assert answer.status < 501, answer.message[:1000]
    assert work.worst_s < STALL_MAX_S, work.what
