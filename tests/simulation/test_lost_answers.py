"""Commits whose answer is lost: the leader finds out, and its picture stays the store's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from skep.manager.confirmed_commit import DOUBT_S, PATIENCE_S, commit_confirmed
from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, Unavailable
from skep.sim.loop import VirtualLoop
from skep.store.interfaces import Compare, Delete, Fence, Put, Txn
from skep.store.memory import MemoryState, MemoryStore, StoreFaults


class Losing(StoreFaults):
    """Loses the answers of the first `lost` commits; `refused` of them were not even done."""

    def __init__(self, lost: int, refused: int = 0) -> None:
        self.lost, self.refused = lost, refused

    async def before_commit(self, txn: Txn) -> None:
        if self.refused:
            self.refused -= 1
            raise OutcomeUnknown("lost on the way there")

    async def after_commit(self, txn: Txn) -> None:
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknown("lost on the way back")


def run(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(make())


def test_a_commit_that_was_done_is_not_done_again() -> None:
    async def scenario() -> None:
        state = MemoryState()
        store = MemoryStore(state, Losing(1))
        txn = Txn((Put("/a", b"1"), Delete("/b")), compares=(Compare("/a", 0),))
        revision = await commit_confirmed(store, txn)
        assert state.entries["/a"].modified == revision

    run(scenario)


def test_a_commit_that_was_not_done_is_tried_again() -> None:
    async def scenario() -> None:
        store = MemoryStore(MemoryState(), Losing(0, refused=2))
        await commit_confirmed(store, Txn((Put("/a", b"1"),), compares=(Compare("/a", 0),)))
        pairs, _ = await store.load("/a")
        assert [pair.value for pair in pairs] == [b"1"]

    run(scenario)


def test_a_store_that_is_away_for_a_moment_is_waited_for() -> None:
    async def scenario() -> None:
        store = MemoryStore(MemoryState())
        store.isolate()
        asyncio.get_running_loop().call_later(PATIENCE_S / 2, store.reconnect)
        await commit_confirmed(store, Txn((Put("/a", b"1"),)))
        store.isolate()
        with pytest.raises(Unavailable):
            await commit_confirmed(store, Txn((Put("/a", b"2"),)))

    run(scenario)


def test_a_commit_that_was_done_although_the_store_was_said_to_be_away() -> None:
    """It is our own write that the second try meets."""

    class Wrong(StoreFaults):
        is_first = True

        async def after_commit(self, txn: Txn) -> None:
            if self.is_first:
                self.is_first = False
                raise Unavailable("etcd cannot be reached: connection refused")

    async def scenario() -> None:
        state = MemoryState()
        store = MemoryStore(state, Wrong())
        revision = await commit_confirmed(store, Txn((Put("/a", b"1"),), compares=(Compare("/a", 0),)))
        assert state.entries["/a"].modified == revision

    run(scenario)


def test_a_conflict_is_still_a_conflict() -> None:
    async def scenario() -> None:
        state = MemoryState()
        await MemoryStore(state).commit(Txn((Put("/a", b"other"),)))
        with pytest.raises(Conflict):
            await commit_confirmed(MemoryStore(state), Txn((Put("/a", b"1"),), compares=(Compare("/a", 0),)))

    run(scenario)


def test_who_was_in_doubt_and_leads_no_more_does_not_say_that_nothing_was_done() -> None:
    """Found by the simulation's seed 1287: the first try was done late, and the next leader went on from it."""

    class Late(StoreFaults):
        """Loses a commit on the way there, and the lead when it is tried again."""

        async def before_commit(self, txn: Txn) -> None:
            if "/leader" in state.entries and not self.tried:
                self.tried = True
                raise OutcomeUnknown("lost on the way there")
            state.entries.pop("/leader", None)

        tried = False

    state = MemoryState()
    state.write([Put("/leader", b"a")])
    fence = Fence("/leader", state.entries["/leader"].created)

    async def scenario() -> None:
        with pytest.raises(OutcomeUnknown):
            await commit_confirmed(MemoryStore(state, Late()), Txn((Put("/a", b"1"),), fence=fence))
        with pytest.raises(Deposed):
            await commit_confirmed(MemoryStore(state, Late()), Txn((Put("/a", b"1"),), fence=fence))

    run(scenario)


def test_doubt_ends_after_the_lease() -> None:
    class Dead(Losing):
        async def before_commit(self, txn: Txn) -> None:
            store.isolate()
            raise OutcomeUnknown("lost")

    store = MemoryStore(MemoryState(), Dead(0))

    async def scenario() -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await commit_confirmed(store, Txn((Put("/a", b"1"),)))
        assert DOUBT_S <= asyncio.get_running_loop().time() - began < DOUBT_S + 1

    run(scenario)
