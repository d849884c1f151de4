"""A store that somebody else changes under a leader (`skep store rm`): it gives the lead up, and whoever leads
next loads what is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from skep.manager.asides import Asides, costs_lead
from skep.manager.commits import Committer
from skep.manager.node_writer import NodeWriter
from skep.model.change import PutService, PutTask
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.states import RUNNING
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Deposed
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Delete, Fence, KeyValue, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.view import View
from tests.terms import term_of
from tests.unit.builders import add_service, add_task


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(scenario(), 60))  # type: ignore[arg-type]


class Counted(MemoryStore):
    """Counts what is written; a thousand is one that goes round without a pause."""

    commits = 0

    async def commit(self, txn: Txn) -> int:
        self.commits += 1
        assert self.commits < 1000
        await asyncio.sleep(0)
        return await super().commit(txn)


async def fence_of(state: MemoryState) -> Fence:
    return (await Campaign(MemoryStore(state), codec.LEADER_KEY, "b").win()).fence


def described(node_id: str) -> Node:
    return Node(id=node_id, spec=NodeSpec(), description=NodeDescription(), created_at=0, updated_at=0)


def test_a_node_that_was_removed_from_the_store_ends_the_lead() -> None:
    """Its words were tried again without end and without a pause."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        store = Counted(state)
        writer = NodeWriter(term_of(store, await fence_of(state), view))
        running = asyncio.ensure_future(writer.run())
        await writer.add(described("a"))
        await MemoryStore(state).commit(Txn((Delete(codec.node_key("a")),)))
        writer.describe("a", NodeDescription(hostname="new"), "")
        with pytest.raises(Deposed):
            async with asyncio.timeout(10):
                await running
        assert store.commits < 20

    run(scenario)


def test_a_node_that_the_api_writes_at_the_same_time_does_not() -> None:
    class Late(Counted):
        """Somebody's answer is late: the store has the write, and the view does not yet."""

        looks = 0

        async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
            self.looks += 1
            if self.looks == 3:
                view.put_node(replace(view.nodes["a"], version=self.revision))
            return await super().load(prefix)

        revision = 0

    view = View()

    async def scenario() -> None:
        state = MemoryState()
        store = Late(state)
        writer = NodeWriter(term_of(store, await fence_of(state), view))
        running = asyncio.ensure_future(writer.run())
        node = await writer.add(described("a"))
        store.revision = await MemoryStore(state).commit(
            Txn((Put(codec.node_key("a"), codec.encode_object(node)),))
        )
        writer.describe("a", NodeDescription(hostname="new"), "")
        await asyncio.sleep(10)
        assert view.nodes["a"].description.hostname == "new"
        assert not running.done()
        running.cancel()

    run(scenario)


def test_tasks_and_services_that_were_removed_from_the_store_end_the_lead() -> None:
    """The service was set aside, again and again."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        committer = Committer(
            term_of(Counted(state), await fence_of(state), view),
            asides=Asides(view, LoopClock(0)),
        )
        service = add_service(view, "s", replicas=1)
        task = add_task(View(), "t", "n", 1, observed=RUNNING)
        await committer.commit([PutTask(task)])
        other = add_task(View(), "u", "m", 1, observed=RUNNING)
        await MemoryStore(state).commit(Txn((Delete(codec.bucket_key("n", "s")),)))
        with pytest.raises(ExceptionGroup) as tasks:
            await committer.commit([PutTask(view.tasks["t"]), PutTask(other)])
        assert costs_lead(tasks.value)
        assert not view.asides
        view.put_service(replace(service, version=7))
        with pytest.raises(ExceptionGroup) as services:
            await committer.commit([PutService(view.services["s"])])
        assert costs_lead(services.value)

    run(scenario)
