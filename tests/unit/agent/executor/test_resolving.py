"""Whom containers on the swarm's networks ask for names, and who is told of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from skep.agent.attachments import ContainerPlace
from skep.agent.executor.bridges import Bridges
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.container_config import attach_to, create_body
from skep.agent.executor.interfaces import TaskContext
from skep.agent.executor.resolving import Resolving
from skep.agent.executor.single import SingleContainers
from skep.api.decode import decode_body
from skep.api.routes.attachments import ContainerCreate, _placed, one_of_each
from skep.model.attachment import NODE_OPTION
from skep.model.container import NAMESERVERS_LABEL, ContainerSpec, DNSConfig
from skep.model.overlay import MTU_OPTION
from skep.model.spec import TaskSpec
from skep.model.states import RUNNING
from skep.model.task import TaskAddress
from skep.rpc.messages import AssignedTask, ServiceTemplate, TaskNetwork
from tests.unit.agent.executor.test_bridges import Engine

Json = dict[str, Any]
APP = TaskNetwork("app", "app", "overlay", "10.0.1.0/24", bridge="skb4098", aliases=["web", "tasks.web"])
BACK = TaskNetwork("back", "back", "overlay", "10.0.2.0/24", True, bridge="skb4099", aliases=["web", "www"])
INGRESS = TaskNetwork("ing", "ingress", "overlay", "10.255.0.0/16", bridge="skb4097")
OLD = replace(APP, bridge="")  # as an earlier manager tells of it
ADDRESSES = {
    "app": TaskAddress("app", "10.0.1.5/24", "10.0.1.2/24"),
    "back": TaskAddress("back", "10.0.2.5/24", "10.0.2.2/24"),
    "ing": TaskAddress("ing", "10.255.0.5/16", "10.255.0.2/16"),
}


class Server:
    """Fulfils `NameServer`."""

    def __init__(self) -> None:
        self.served: dict[str, tuple[str, bool]] = {}
        self.named: dict[str, list[str]] = {}

    def serve(self, network_id: str, gateway: str, is_internal: bool) -> None:
        self.served[network_id] = (gateway, is_internal)

    def stop(self, network_id: str) -> None:
        self.served.pop(network_id, None)

    def ask_for(self, address: str, nameservers: Iterable[str]) -> None:
        self.named[address] = [each for each in nameservers if each]


class Node:
    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answers: bool = True, resolv_conf: Path = Path(os.devnull)
    ) -> None:
        self.mtus: dict[str, int] = {}
        monkeypatch.setattr("skep.agent.executor.bridges.make_bridge", self._make_bridge)
        monkeypatch.setattr("skep.agent.executor.bridges.LINGER_S", 0)
        self.engine, self.server, self.resolving = Engine(), Server(), Resolving(resolv_conf)
        if answers:
            self.resolving.use(self.server)
        self.later: list[Any] = []
        calls = EngineCalls()
        self.bridges = Bridges(self.engine, calls, self.later.append, lambda: "n1", self.resolving)  # type: ignore[arg-type]
        self.single = SingleContainers(self.engine, calls, self.bridges, self.resolving, lambda: "n1")  # type: ignore[arg-type]

    def _make_bridge(self, name: str, mtu: int, subnet: str, address: str, is_new: bool) -> None:
        self.mtus[name] = mtu

    async def create(self, *networks: TaskNetwork, dns: DNSConfig | None = None) -> Json:
        """Returns what the engine is asked for where a task on these is created."""
        container = ContainerSpec(image="x", dns_config=dns)
        template = ServiceTemplate(
            "s", 1, "web", {}, TaskSpec(container_spec=container), networks=list(networks)
        )
        addresses = tuple(ADDRESSES[each.id] for each in networks)
        task = AssignedTask("t", "s", 1, 1, RUNNING, addresses=addresses)
        context = TaskContext(task, template, "n1", "h")
        found = await self.bridges.prepare(context)
        body = create_body(context)
        attach_to(body, *found[0])
        self.resolving.place_task(body, context)
        return body


def _endpoint(body: Json, network: str) -> Json:
    endpoint: Json = body["NetworkingConfig"]["EndpointsConfig"][network]
    return endpoint


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


async def test_a_task_asks_its_node_and_its_engine_has_no_names_of_the_swarms(node: Node) -> None:
    body = await node.create(APP, BACK, INGRESS)
    assert body["HostConfig"]["Dns"] == ["10.0.1.2"]
    assert "Aliases" not in _endpoint(body, "app")
    assert NAMESERVERS_LABEL not in body["Labels"]
    # Of the others' gateways nobody asks; the routing mesh's network has no names.
    assert node.server.served == {"app": ("10.0.1.2", False)}
    assert node.server.named == {"10.0.1.5": []}


async def test_an_internal_network_is_one(node: Node) -> None:
    await node.create(BACK)
    assert node.server.served == {"back": ("10.0.2.2", True)}


async def test_who_is_on_an_internal_network_first_asks_on_the_other_one(node: Node) -> None:
    body = await node.create(BACK, APP)
    assert body["HostConfig"]["Dns"] == ["10.0.1.2"]
    assert node.server.served == {"app": ("10.0.1.2", False)}, "which is known to lead outside now"


async def test_users_own_nameservers_are_asked_by_the_node_and_known_again(node: Node) -> None:
    dns = DNSConfig(nameservers=["192.0.2.1", "192.0.2.2"], search=["example"], options=["ndots:1"])
    body = await node.create(APP, dns=dns)
    host = body["HostConfig"]
    assert (host["Dns"], host["DnsSearch"], host["DnsOptions"]) == (
        ["10.0.1.2", "192.0.2.1", "192.0.2.2"],
        ["example"],
        ["ndots:1"],
    )
    assert node.server.named == {"10.0.1.5": ["192.0.2.1", "192.0.2.2"]}
    again = Server()
    node.resolving.use(again)
    node.resolving.adopt(_inspected(body))
    assert again.named == node.server.named
    assert again.served == node.server.served


def _inspected(body: Json) -> Json:
    return {
        "Config": {"Labels": body["Labels"]},
        "HostConfig": body["HostConfig"],
        "NetworkSettings": {"Networks": body["NetworkingConfig"]["EndpointsConfig"]},
    }


async def test_while_skepd_is_not_there_the_hosts_own_are_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(
        "".join(f"nameserver {each}\n" for each in ("127.0.0.53", "192.0.2.9", "192.0.2.8"))
    )
    node = Node(monkeypatch, resolv_conf=resolv_conf)
    body = await node.create(APP)
    assert body["HostConfig"]["Dns"] == ["10.0.1.2", "192.0.2.9", "192.0.2.8"]
    assert (await node.create(BACK))["HostConfig"]["Dns"] == ["10.0.2.2"], "of an internal network"


async def test_on_an_engine_that_nodes_share_the_gateway_is_the_one_that_is_there(node: Node) -> None:
    await node.bridges.ensure(APP, "10.0.1.77/24")  # another node's
    body = await node.create(APP)
    assert body["HostConfig"]["Dns"] == ["10.0.1.77"]
    assert node.server.served == {"app": ("10.0.1.77", False)}


@pytest.mark.parametrize("networks", [(INGRESS,), (OLD,), (OLD, INGRESS)])
async def test_where_the_swarm_knows_no_names_the_engine_is_asked(
    node: Node, networks: tuple[TaskNetwork, ...]
) -> None:
    body = await node.create(*networks, dns=DNSConfig(nameservers=["192.0.2.1"]))
    assert body["HostConfig"]["Dns"] == ["192.0.2.1"]
    assert node.server.served == node.server.named == {}
    assert _endpoint(body, networks[0].name).get("Aliases", []) == networks[0].aliases
    node.resolving.adopt(_inspected(body))
    assert node.server.served == {}, "nor is it later"


async def test_without_somebody_who_answers_the_engine_has_its_own_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(monkeypatch, answers=False)
    body = await node.create(APP)
    assert "Dns" not in body["HostConfig"]
    assert _endpoint(body, "app")["Aliases"] == ["web", "tasks.web"]


async def test_nobody_is_answered_where_nobody_is(node: Node) -> None:
    body = await node.create(APP)
    node.bridges.adopt("other", ("app",))
    node.bridges.leave("t")
    assert node.later == []
    node.bridges.leave("other")
    for work in node.later:
        await work
    assert (node.server.served, node.engine.made) == ({}, [])
    node.resolving.adopt(_inspected(body))
    assert node.server.served == {}, "what stood for the network is forgotten"


@pytest.mark.parametrize(
    ("said", "mtu"), [("1400", 1400), ("", 1450), ("x", 1450), ("9", 1450), ("70000", 1450)]
)
async def test_a_bridge_takes_what_its_user_says_it_may(node: Node, said: str, mtu: int) -> None:
    await node.bridges.ensure(replace(APP, options={MTU_OPTION: said} if said else {}), "10.0.1.2/24")
    assert node.mtus == {"skb4098": mtu}
    assert node.engine.made[0]["Options"][MTU_OPTION] == str(mtu)


# Single containers


async def test_a_single_container_asks_its_node_and_is_known_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = replace(APP, aliases=[])  # those are services' own
    prepared = await node.single.prepare(alone, ADDRESSES["app"])
    assert (prepared.name, prepared.nameservers) == ("app", ("10.0.1.2",))
    assert node.server.served == {"app": ("10.0.1.2", False)}
    body = {
        "Labels": {NAMESERVERS_LABEL: "192.0.2.1"},
        "HostConfig": {"Dns": ["10.0.1.2"]},
        "NetworkingConfig": {
            "EndpointsConfig": {
                "app": {"IPAMConfig": {"IPv4Address": "10.0.1.9"}, "DriverOpts": {NODE_OPTION: "n1"}}
            }
        },
    }

    async def inspect(container: str) -> Json:
        return _inspected(body)

    again = Server()
    node.resolving.use(again)
    node.engine.living = [{"Id": "c1", "Labels": {}}]
    monkeypatch.setattr(node.engine, "inspect", inspect, raising=False)
    assert [each.address.address for each in await node.single.in_use()] == ["10.0.1.9/24"]
    assert (again.served, again.named) == ({"app": ("10.0.1.2", False)}, {"10.0.1.9": ["192.0.2.1"]})
    assert (await node.single.prepare(OLD, ADDRESSES["app"])).nameservers == ()


def run(asked: Json, **places: ContainerPlace) -> Json:
    """Returns what the engine is asked for."""
    body = one_of_each(msgspec.json.encode(asked))
    wanted, _ = decode_body(body, ContainerCreate)
    endpoints: dict[str, Json] = {wanted.host_config.network_mode: {}}
    endpoints |= {name: each or {} for name, each in wanted.networking_config.endpoints_config.items()}
    found: Json = msgspec.json.decode(_placed(body, wanted, endpoints, places))
    return found


def test_docker_run_on_a_network_of_the_swarms_asks_the_node() -> None:
    place = ContainerPlace("app", "10.0.1.9", "n1", ("10.0.1.2",))
    found = run({"Image": "x", "HostConfig": {"NetworkMode": "app", "Memory": 1}}, app=place)
    assert found["HostConfig"] == {"NetworkMode": "app", "Memory": 1, "Dns": ["10.0.1.2"]}
    assert "Labels" not in found
    # Go does not look at the case of names, and takes the last.
    own = {"networkMode": "app", "DNS": ["192.0.2.9"], "dns": ["192.0.2.1", "192.0.2.2"]}
    found = run({"Image": "x", "labels": {"a": "b"}, "hostconfig": own}, app=place)
    assert [value for key, value in found["HostConfig"].items() if key.lower() == "dns"] == [
        ["10.0.1.2", "192.0.2.1", "192.0.2.2"]
    ]
    assert found["Labels"] == {"a": "b", NAMESERVERS_LABEL: "192.0.2.1,192.0.2.2"}
    assert {"labels", "hostconfig"}.isdisjoint(found)


def test_where_the_engine_knows_the_names_docker_run_is_as_it_was() -> None:
    asked = {"Image": "x", "HostConfig": {"NetworkMode": "app", "Dns": ["192.0.2.1"]}}
    assert run(asked, app=ContainerPlace("app", "10.0.1.9", "n1"))["HostConfig"] == asked["HostConfig"]


def test_of_several_networks_the_first_one_is_asked() -> None:
    places = {
        "back": ContainerPlace("back", "10.0.2.9", "n1", ("10.0.2.2",)),
        "app": ContainerPlace("app", "10.0.1.9", "n1", ("10.0.1.2",)),
    }
    asked = {
        "Image": "x",
        "HostConfig": {"NetworkMode": "app"},
        "NetworkingConfig": {"EndpointsConfig": {"back": {}, "app": None}},
    }
    assert run(asked, **places)["HostConfig"]["Dns"] == ["10.0.1.2"]
