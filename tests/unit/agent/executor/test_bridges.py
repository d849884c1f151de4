"""What a node asks its engine for where a network of the swarm is to be there."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from skep.agent.executor.bridges import BRIDGE_OPTION, Bridges
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.container_config import TASK_LABEL
from skep.agent.executor.refusals import EngineError
from skep.model.network import COPY_LABEL, COPY_NAME_LABEL
from skep.rpc.messages import TaskNetwork
from skep.runtime.errors import Conflict

Json = dict[str, Any]
IPAM = {"Driver": "default", "Options": {}, "Config": [{"Subnet": "172.30.9.0/24", "Gateway": "172.30.9.9"}]}
PLAN = {
    "Name": "plan",
    "ConfigOnly": True,
    "Driver": "null",
    "EnableIPv6": False,
    "IPAM": IPAM,
    "Labels": {"a": "b"},
    "Options": {"parent": "eth0"},
}


class Engine:
    """Has one network to copy from."""

    def __init__(self) -> None:
        self.made: list[Json] = []
        self.podman = False

        self.living: list[Json] = []

    async def is_podman(self) -> bool:
        return self.podman

    async def networks(self, label: str) -> list[Json]:
        name, _, value = label.partition("=")
        return [each for each in self.made if name in each["Labels"] and value in ("", each["Labels"][name])]

    async def configuration(self, name: str) -> Json | None:
        return PLAN if name == "plan" else None

    async def create_network(self, body: Json) -> None:
        assert "ConfigFrom" not in body
        self.made.append({"Id": body["Name"], **body})

    async def remove_network(self, network: str) -> None:
        self.made = [each for each in self.made if each["Id"] != network]

    async def containers_on(self, network: Json) -> list[Json]:
        return self.living


def bridges(engine: Engine) -> Bridges:
    return Bridges(engine, EngineCalls(), lambda later: later.close(), lambda: "node")  # type: ignore[arg-type]


@pytest.mark.parametrize("driver", ["bridge", "macvlan"])
async def test_a_network_has_what_its_configuration_says_and_is_known_again(driver: str) -> None:
    engine = Engine()
    network = TaskNetwork("id1", "br", driver, config_from="plan")
    made = bridges(engine)
    assert await made.ensure(network, "") == "br"
    assert await made.ensure(network, "") == "br"
    (body,) = engine.made
    assert (body["Driver"], body["IPAM"], body["Options"]) == (driver, IPAM, {"parent": "eth0"})
    assert body["Labels"] == {"a": "b", COPY_LABEL: "id1", COPY_NAME_LABEL: "br"}


async def test_a_configuration_that_is_not_on_the_node_is_named() -> None:
    engine = Engine()
    with pytest.raises(EngineError, match='configuration network "x" does not exist'):
        await bridges(engine).ensure(TaskNetwork("id1", "br", "bridge", config_from="x"), "")
    assert engine.made == []


async def test_a_network_of_before_gets_the_meshs_bridge_once_nobody_is_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skep.agent.executor.bridges.make_bridge", lambda *arguments: None)
    engine = Engine()
    network = TaskNetwork("id1", "ingress", "overlay", subnet="198.18.9.0/24")
    made = bridges(engine)
    await made.ensure(network, "198.18.9.2/24")
    of_the_mesh = replace(network, bridge="skb4097")
    engine.living = [{"Labels": {TASK_LABEL: "t1"}, "State": "running"}]
    await made.ensure(of_the_mesh, "198.18.9.2/24")
    assert BRIDGE_OPTION not in engine.made[0]["Options"]
    engine.living = [{"Labels": {TASK_LABEL: "t1"}, "State": "exited"}]
    for _ in range(2):
        await made.ensure(of_the_mesh, "198.18.9.2/24")
        (body,) = engine.made
        assert body["Options"][BRIDGE_OPTION] == "skb4097"


async def test_a_bridge_that_is_gone_from_under_an_engines_network_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    had: list[tuple[str, str, str, bool]] = []
    monkeypatch.setattr(
        "skep.agent.executor.bridges.make_bridge",
        lambda name, mtu, subnet, address, is_new: had.append((name, subnet, address, is_new)),
    )
    engine = Engine()
    network = TaskNetwork("id1", "net", "overlay", subnet="198.18.9.0/24", bridge="skb4098")
    made = bridges(engine)
    await made.ensure(network, "198.18.9.2/24")
    await made.ensure(network, "198.18.9.7/24")
    assert had == [
        ("skb4098", "198.18.9.0/24", "198.18.9.2/24", True),
        ("skb4098", "198.18.9.0/24", "198.18.9.2/24", False),
    ]


async def test_podman_finds_no_address_on_the_bridge_and_the_bridge_has_one_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    did: list[str] = []
    module = "skep.agent.executor.bridges"
    monkeypatch.setattr(
        f"{module}.make_bridge", lambda name, mtu, subnet, address, is_new: did.append(address)
    )
    monkeypatch.setattr(f"{module}.make_bare_bridge", lambda name: did.append("bare"))
    engine = Engine()
    engine.podman = True
    right = engine.create_network

    async def create(body: Json) -> None:
        did.append("create")
        await right(body)

    engine.create_network = create  # type: ignore[method-assign]
    network = TaskNetwork("id1", "net", "overlay", subnet="198.18.9.0/24", bridge="skb4098")
    await bridges(engine).ensure(network, "198.18.9.2/24")
    assert did[-3:] == ["bare", "create", "198.18.9.2/24"]


async def test_where_another_node_of_this_engine_is_faster_the_bridge_has_its_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    had: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        "skep.agent.executor.bridges.make_bridge",
        lambda name, mtu, subnet, address, is_new: had.append((address, is_new)),
    )
    engine = Engine()
    network = TaskNetwork("id1", "net", "overlay", subnet="198.18.9.0/24", bridge="skb4098")
    made = bridges(engine)
    right = engine.create_network

    async def create(body: Json) -> None:
        body["IPAM"]["Config"][0]["Gateway"] = "198.18.9.2"  # the other one's comes first
        await right(body)
        raise EngineError(409, "network with name net already exists")

    monkeypatch.setattr(engine, "create_network", create)
    assert await made.ensure(network, "198.18.9.7/24") == "net"
    assert had == [("198.18.9.7/24", True), ("198.18.9.2/24", True)]


async def test_where_another_swarm_has_the_bridge_the_engine_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def taken(*asked: object) -> None:
        raise Conflict("bridge skb4098 of this host has address 198.18.1.1/24 of another network")

    monkeypatch.setattr("skep.agent.executor.bridges.make_bridge", taken)
    engine = Engine()
    network = TaskNetwork("id1", "net", "overlay", subnet="198.18.9.0/24", bridge="skb4098")
    made = bridges(engine)
    for _ in range(2):  # it stays, though nobody is on it yet: another node's task may be about to
        assert await made.ensure(network, "198.18.9.2/24") == "net"
    (body,) = engine.made
    assert BRIDGE_OPTION not in body["Options"]
