"""What a node asks its engine for where a network of the swarm is to be there."""

from __future__ import annotations

from typing import Any

import pytest

from skep.agent.executor.bridges import Bridges
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.refusals import EngineError
from skep.model.network import COPY_LABEL, COPY_NAME_LABEL
from skep.rpc.messages import TaskNetwork

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

    async def networks(self, label: str) -> list[Json]:
        name, _, value = label.partition("=")
        return [each for each in self.made if each["Labels"].get(name) == value]

    async def configuration(self, name: str) -> Json | None:
        return PLAN if name == "plan" else None

    async def create_network(self, body: Json) -> None:
        assert "ConfigFrom" not in body
        self.made.append(body)


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
