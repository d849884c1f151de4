"""What nodes say of their hosts' networks, to a real leader under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.model.host_network import HostNetwork
from skep.model.network import IPAM, OVERLAY, IPAMConfig, NetworkSpec
from skep.rpc.messages import HOST_NETWORKS, HostNetworks, Register, Registered, encode
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Denied
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Member, Put
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from skep.store.overlaps import overlaps
from tests.clusters import new_cluster

from .test_leader_parts import Line, new_node

LAN = HostNetwork("10.0.0.0/24", "eth0")
CLUSTER = new_cluster()


async def lead(own: Sequence[HostNetwork] = ()) -> Leader:
    """Returns manager `a`, whose host has these networks, of a new swarm; `w` is a worker."""
    state = MemoryState()
    stored = {
        codec.SCHEMA_KEY: str(codec.SCHEMA_VERSION).encode(),
        codec.CLUSTER_KEY: codec.encode_object(CLUSTER),
        **{codec.node_key(name): codec.encode_object(new_node(name)) for name in "aw"},
    }
    state.write([Put(key, value) for key, value in stored.items()])
    state.members = {"a": Member(0, "a", False)}
    store, clock = MemoryStore(state), LoopClock(0)
    leadership = await Campaign(store, codec.LEADER_KEY, "a").win()

    async def probe(node_id: str) -> bool:
        return True

    async def own_networks() -> Sequence[HostNetwork]:
        return own

    names = (f"id{n}" for n in range(100))
    team = ManagerIdentity("a", MemoryMembers(store, state), probe, own_networks=own_networks)
    hub = EventHub(clock)
    return await Leader.start(
        store,
        leadership,
        LeaderContext(clock, lambda: next(names), str, hub, ["10.0.0.1:1"], lambda *asked: b"", team),
    )


def subnet_of(leader: Leader, name: str) -> str:
    return leader.view.networks[leader.view.network_ids[name]].pools[0].subnet


async def create(leader: Leader, name: str, subnet: str = "") -> None:
    ipam = IPAM(config=[IPAMConfig(subnet=subnet)]) if subnet else None
    await leader.networks.create(NetworkSpec(name=name, driver=OVERLAY, ipam=ipam))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_the_first_network_is_made_around_what_the_first_host_has() -> None:
    async def scenario() -> None:
        leader = await lead([LAN])
        assert subnet_of(leader, "ingress") == "10.0.1.0/24"
        leader.sessions.stop()

    run(scenario)


def test_a_host_that_has_all_of_the_pools_keeps_no_swarm_from_its_mesh() -> None:
    """Other nodes may have room for it; the host says that it has not."""

    async def scenario() -> None:
        leader = await lead([HostNetwork("10.0.0.0/8", "tun0")])
        assert subnet_of(leader, "ingress") == "10.0.0.0/24"
        assert len(overlaps(leader.view, "a")) == 1
        leader.sessions.stop()

    run(scenario)


def test_what_a_node_says_holds_for_new_networks_and_is_said_of_old_ones() -> None:
    async def scenario() -> None:
        leader = await lead()
        await create(leader, "back")
        assert [subnet_of(leader, name) for name in ("ingress", "back")] == ["10.0.0.0/24", "10.0.1.0/24"]
        line = Line("w")
        handler = leader.sessions.open(line)
        handler.frame(encode(Register(new_node("w").description)))
        (registered,) = [each for each in line.sent if isinstance(each, Registered)]
        assert HOST_NETWORKS in registered.features
        handler.frame(encode(HostNetworks([LAN, HostNetwork("10.0.2.0/23", "vpn")])))
        assert overlaps(leader.view, "w") == [
            "the routing mesh's network ingress (10.0.0.0/24) overlaps its host's own network 10.0.0.0/24 (eth0)"
        ]
        await create(leader, "front")
        assert subnet_of(leader, "front") == "10.0.4.0/24"
        await create(leader, "aside", "10.0.2.128/25")  # the leader's own host has room
        assert leader.view.hosts.clashing[leader.view.network_ids["aside"]].keys() == {"w"}
        leader.view.hosts.put_node(leader.node_id, [HostNetwork("10.0.2.0/23", "vpn")])
        before = set(leader.view.networks)
        with pytest.raises(
            Denied, match=r"10\.0\.3\.0/24 overlaps hosts' own .* 10\.0\.2\.0/23 of node w \(vpn\)"
        ):
            await create(leader, "side", "10.0.3.0/24")
        assert set(leader.view.networks) == before
        handler.closed("its cable")  # its host comes back with the same networks
        with pytest.raises(Denied):
            await create(leader, "side", "10.0.3.0/24")
        leader.view.hosts.put_node(leader.node_id, [])
        await create(leader, "side", "10.0.3.0/24")
        leader.sessions.stop()

    run(scenario)


def test_what_cannot_be_ends_the_session_and_changes_nothing() -> None:
    async def scenario() -> None:
        leader = await lead()
        line = Line("w")
        handler = leader.sessions.open(line)
        handler.frame(encode(Register(new_node("w").description)))
        handler.frame(encode(HostNetworks([LAN])))
        handler.frame(encode(HostNetworks([HostNetwork("0.0.0.0/0", "eth0")])))
        assert line.is_closed
        assert "host's network '0.0.0.0/0' is none of IPv4" in leader.view.node_state("w").message
        assert len(overlaps(leader.view, "w")) == 1
        leader.sessions.stop()

    run(scenario)
