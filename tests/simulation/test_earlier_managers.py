"""What is not set while a manager of an earlier skep is a member, which would lose it."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.model.data_path import HAS_IPVS, IPVS
from skep.rpc.messages import ATTACH, DATA_PATH, LOGS, SELF_REPORTED, Register, encode
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Conflict
from skep.sim.hosts import Host
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Member, Put
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from tests.clusters import new_cluster
from tests.simulation.test_cut_off_leader import Story, play
from tests.simulation.test_leader_parts import Line, new_node

pytestmark = pytest.mark.usefixtures("quiet")

CLUSTER = new_cluster()
EARLIER = [LOGS, ATTACH]


async def lead() -> Leader:
    """Returns manager `a`, which leads; `b` is another, and `w` a worker."""
    state = MemoryState()
    nodes = [replace(new_node(name), manager_addr=f"10.0.0.{n}:1") for n, name in enumerate("ab")]
    stored = {
        codec.SCHEMA_KEY: str(codec.SCHEMA_VERSION).encode(),
        codec.CLUSTER_KEY: codec.encode_object(CLUSTER),
        **{codec.node_key(node.id): codec.encode_object(node) for node in (*nodes, new_node("w"))},
    }
    state.write([Put(key, value) for key, value in stored.items()])
    state.members = {name: Member(n, name, False) for n, name in enumerate("ab")}
    store, clock = MemoryStore(state), LoopClock(0)
    leadership = await Campaign(store, codec.LEADER_KEY, "a").win()

    async def probe(node_id: str) -> bool:
        return True

    team = ManagerIdentity("a", MemoryMembers(store, state), probe)
    hub = EventHub(clock)
    return await Leader.start(
        store, leadership, LeaderContext(clock, str, str, hub, ["10.0.0.0:1"], lambda *asked: b"", team)
    )


def register(leader: Leader, node_id: str, features: list[str]) -> None:
    line = Line(node_id)
    said = Register(new_node(node_id).description, f"10.0.0.9:{len(features)}", features)
    leader.sessions.open(line).frame(encode(said))


def test_a_setting_that_an_earlier_manager_would_lose_is_refused() -> None:
    async def scenario() -> None:
        leader = await lead()
        register(leader, "w", EARLIER)  # workers write nothing back
        for _ in ("not there", "of an earlier skep"):
            with pytest.raises(Conflict, match=r"allow-self-reported-constraints .* skep.*: b; update skep"):
                await leader.swarm.allow(None, None, False)
            register(leader, "b", EARLIER)
        await leader.swarm.allow(True, None, True)
        register(leader, "b", [*EARLIER, SELF_REPORTED])
        cluster = await leader.swarm.allow(None, None, False)
        assert not cluster.allow_self_reported_constraints
        register(leader, "b", EARLIER)
        await leader.swarm.allow(None, True, False)  # it is so already
        able = leader.view.nodes["w"].description.having(HAS_IPVS)
        leader.view.put_node(replace(leader.view.nodes["w"], description=able))
        with pytest.raises(
            Conflict, match=r"data-path cannot be set to ipvs .* nftables again .*: b; update"
        ):
            await leader.swarm.allow(None, None, None, IPVS)
        register(leader, "b", [*EARLIER, SELF_REPORTED, DATA_PATH])
        assert (await leader.swarm.allow(None, None, None, IPVS)).data_path == IPVS
        register(leader, "b", EARLIER)
        assert (await leader.swarm.allow(None, None, None, "nftables")).data_path == "nftables"
        leader.sessions.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


class SetOff(Story):
    """Three managers of this skep, with real agents."""

    async def happens(self, leader: Host, workers: list[Host]) -> None:
        leading = self._world.leader()
        assert leading is not None
        cluster = await leading.swarm.allow(None, None, False)
        assert not cluster.allow_self_reported_constraints
        self.leaders.append("set")


def test_agents_say_that_their_managers_keep_the_setting() -> None:
    played, _ = play(SetOff, 3)
    assert "set" in played.leaders
