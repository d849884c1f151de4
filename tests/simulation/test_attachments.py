"""Who gives out addresses for single containers, with a store that fails and is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from skep.manager.attachments import ASK_S, AttachmentKeeper
from skep.manager.confirmed_commit import DOUBT_S
from skep.manager.loading import load
from skep.model.network import OVERLAY, IPAMConfig, Network, NetworkSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.rpc import messages
from skep.runtime.errors import Deposed
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Delete, Fence, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.view import View
from tests.terms import term_of


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def new_network() -> Network:
    pools = [IPAMConfig(subnet="10.0.9.0/24", gateway="10.0.9.1")]
    spec = NetworkSpec(name="net", driver=OVERLAY, attachable=True)
    return Network(id="id-net", spec=spec, created_at=0, updated_at=0, pools=pools)


class Desk:
    """A keeper at work on a store; `told` is what nodes have heard."""

    def __init__(self, state: MemoryState, fence: Fence, view: View) -> None:
        self.store = MemoryStore(state)
        self.view = view
        self.told: list[messages.FromManager] = []
        self.keeper = AttachmentKeeper(
            term_of(self.store, fence, view),
            asyncio.Lock(),
            lambda node_id, message: self.told.append(message),
            lambda node_id, feature: True,
        )
        self.work = asyncio.ensure_future(self.keeper.run())

    @classmethod
    async def open(cls, state: MemoryState, name: str = "m") -> Desk:
        store = MemoryStore(state)
        fence = (await Campaign(store, codec.LEADER_KEY, name).win()).fence
        return cls(state, fence, await load(store))

    async def ask(self, node_id: str, address: str = "") -> messages.FromManager:
        self.told.clear()
        self.keeper.said(node_id, messages.Attach(1, "net", address))
        await asyncio.sleep(DOUBT_S + 2)
        return self.told[0]


def begun() -> MemoryState:
    state = MemoryState()
    description = NodeDescription(hostname="h")
    nodes = [
        Node(id=n, spec=NodeSpec(), description=description, created_at=0, updated_at=0) for n in ("n1", "n2")
    ]
    network = new_network()
    puts = [Put(codec.node_key(n.id), codec.encode_object(n)) for n in nodes]
    state.write([*puts, Put(codec.network_key(network.id), codec.encode_object(network))])
    return state


def test_the_next_leader_knows_who_has_what() -> None:
    async def scenario() -> None:
        state = begun()
        desk = await Desk.open(state)
        given = await desk.ask("n1")
        assert isinstance(given, messages.Attached)
        assert given.network.subnet == "10.0.9.0/24"
        desk.work.cancel()

        after = await Desk.open(state)
        (held,) = after.view.attached["n1"].values()
        assert held.address == given.address
        text = given.address.address.partition("/")[0]
        refused = await after.ask("n2", text)
        assert isinstance(refused, messages.NotAttached)
        assert (refused.kind, "already in use" in refused.reason) == ("Conflict", True)
        after.keeper.said("n1", messages.HasAddresses([]))
        again = await after.ask("n2", text)
        assert isinstance(again, messages.Attached)
        assert [pair.key for pair in state.prefix(codec.PREFIX + "attachments/")] == [
            codec.attachment_key("n2", next(iter(after.view.attached["n2"])))
        ]
        after.work.cancel()

    run(scenario)


def test_a_store_out_of_reach_gives_nothing_and_keeps_nothing() -> None:
    async def scenario() -> None:
        desk = await Desk.open(begun())
        desk.store.isolate()
        refused = await desk.ask("n1")
        assert isinstance(refused, messages.NotAttached)
        assert refused.kind == "OutcomeUnknown"
        assert desk.view.allocations.books["id-net"].holders == {}
        desk.store.reconnect()
        assert isinstance(await desk.ask("n1"), messages.Attached)
        desk.work.cancel()

    run(scenario)


def test_a_manager_that_leads_no_more_gives_nothing() -> None:
    async def scenario() -> None:
        state = begun()
        desk = await Desk.open(state)
        await desk.store.commit(Txn((Delete(codec.LEADER_KEY),)))
        desk.keeper.said("n1", messages.Attach(1, "net"))
        with pytest.raises(Deposed):
            await desk.work
        assert desk.told == []

    run(scenario)


def test_what_a_removed_node_had_is_forgotten_by_the_next_leader() -> None:
    async def scenario() -> None:
        state = begun()
        desk = await Desk.open(state)
        await desk.ask("n1")
        desk.work.cancel()
        await desk.store.commit(Txn((Delete(codec.node_key("n1")),)))
        after = await Desk.open(state)
        await asyncio.sleep(1)
        assert after.view.attached == {}
        assert state.prefix(codec.PREFIX + "attachments/") == []
        after.work.cancel()

    run(scenario)


def test_whoever_removes_a_network_waits_for_the_nodes_word_and_not_for_ever() -> None:
    async def scenario() -> None:
        desk = await Desk.open(begun())
        await desk.ask("n1")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await desk.keeper.refresh("id-net")
        assert loop.time() - began == pytest.approx(ASK_S), "the node says nothing"
        assert isinstance(desk.told[-1], messages.SayAddresses)
        refresh = asyncio.ensure_future(desk.keeper.refresh("id-net"))
        await asyncio.sleep(0.1)
        desk.keeper.said("n1", messages.HasAddresses([]))
        began = loop.time()
        await refresh
        assert loop.time() - began < 0.1
        assert desk.view.attached == {}
        desk.work.cancel()

    run(scenario)
