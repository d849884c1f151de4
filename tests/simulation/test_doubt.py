"""What a leader says of its writes, whatever becomes of each try: done, not done, done late, no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.commits import Committer
from skep.manager.confirmed_commit import commit_confirmed
from skep.model.change import DropTask, PutTask
from skep.model.states import RUNNING, SHUTDOWN
from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, SkepError, Unavailable
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.interfaces import Compare, Delete, Fence, KeyValue, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.view import View
from tests.terms import term_of
from tests.unit.builders import add_task

pytestmark = pytest.mark.usefixtures("quiet")

LEADER, A, B = "/leader", "/a", "/b"
# What becomes of one try. "over" ones: the lead goes to another, who may write the same keys.
TRIES = (
    "done",
    "refused",
    "refused-done",
    "lost",
    "lost-done",
    "lost-late",
    "deposed",
    "deposed-over",
    "other",
)
LOADS = ("read", "fails", "fails-deposed", "fails-over")
LATE_S = 9.0


class Troubled(MemoryStore):
    """A store whose tries and reads go as they are told to, and then go well. Counts what was done."""

    def __init__(self, tries: Sequence[str], loads: Sequence[str]) -> None:
        self.state = MemoryState()
        self.state.write([Put(LEADER, b"me"), Put(A, b"old")])
        super().__init__(self.state)
        self.fence = Fence(LEADER, self.state.entries[LEADER].created)
        self._tries, self._loads = list(tries), list(loads)
        self.done: list[int] = []

    async def commit(self, txn: Txn) -> int:
        if not txn.ops:
            return self._apply(txn)
        how = self._tries.pop(0) if self._tries else "done"
        await asyncio.sleep(0.01)
        if how in ("deposed", "deposed-over"):
            self._another_leads(writes=how == "deposed-over")
        elif how == "other":
            self.state.write([Put(B, b"of another part of this leader")])
        elif how == "lost-late":
            asyncio.get_running_loop().call_later(LATE_S, self._do_late, txn)
        if how in ("refused-done", "lost-done"):
            self._do(txn)
        if how in ("refused", "refused-done"):
            raise Unavailable("refused")
        if how.startswith("lost"):
            raise OutcomeUnknown("lost")
        return self._do(txn)

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        how = self._loads.pop(0) if self._loads else "read"
        await asyncio.sleep(0.01)
        if how in ("fails-deposed", "fails-over"):
            self._another_leads(writes=how == "fails-over")
        if how != "read":
            raise Unavailable("not now")
        return await super().load(prefix)

    def _another_leads(self, writes: bool) -> None:
        del self.state.entries[LEADER]
        self.state.write([Put(LEADER, b"another"), *([Put(A, b"another's")] if writes else [])])

    def _do(self, txn: Txn) -> int:
        self.done.append(self._apply(txn))
        return self.done[-1]

    def _do_late(self, txn: Txn) -> None:
        try:
            self._do(txn)
        except SkepError:
            pass


@given(
    st.lists(st.sampled_from(TRIES), max_size=5),
    st.lists(st.sampled_from(LOADS), max_size=8),
    st.sampled_from(["one", "two", "removal"]),
)
@example(["lost-done", "refused", "done"], ["fails"] * 3, "one")  # once answered as not done: Unavailable
@example(["refused-done", "deposed"], ["read"], "one")  # the same: Deposed
@example(["lost-done", "done"], ["read", "fails"], "one")
@example(["lost-done"] + ["refused"] * 5, ["fails"] * 60, "one")
@example(["lost-late", "done"], [], "two")
@settings(max_examples=400, deadline=None)
def test_what_was_done_is_never_said_not_to_be_and_nothing_is_done_twice(
    tries: list[str], loads: list[str], kind: str
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_says_what_is(Troubled(tries, loads), kind))


async def _says_what_is(store: Troubled, kind: str) -> None:
    known = store.state.entries[A].modified
    by_kind = {
        "one": Txn((Put(A, b"new"),), (Compare(A, known),), store.fence),
        "two": Txn((Put(A, b"new"), Put(B, b"name")), (Compare(A, known), Compare(B, 0)), store.fence),
        "removal": Txn((Delete(A), Delete(B)), (Compare(A, known),), store.fence),
    }
    began = asyncio.get_running_loop().time()
    try:
        revision = await commit_confirmed(store, by_kind[kind])
        said = "done"
    except OutcomeUnknown:
        said = "unknown"
    except (Conflict, Deposed, Unavailable):
        said = "not done"
    assert asyncio.get_running_loop().time() - began < 30, "it goes on for ever"
    await asyncio.sleep(3 * LATE_S)
    assert len(store.done) <= 1, "it was done twice"
    if said == "done":
        assert len(store.done) == 1
        assert revision == store.done[0] or (kind == "removal" and revision > store.done[0])
    elif said == "not done":
        assert store.done == []


def test_a_bucket_that_is_written_late_takes_nothing_back() -> None:
    """The first try is done after the second, and after what was written then: the store must keep the latter."""

    async def scenario() -> None:
        view, store = View(), Troubled(["lost-late"], [])
        committer = Committer(term_of(store, store.fence, view))
        first = add_task(View(), "t1", "n", observed=None)
        second = add_task(View(), "t2", "n", slot=2, observed=None)
        await committer.commit([PutTask(first)])
        await committer.commit([PutTask(second)])
        await committer.commit([PutTask(replace(view.tasks["t1"], desired_state=SHUTDOWN))])
        await committer.commit([DropTask(view.tasks["t1"])])  # leaves a bucket that no put has written
        await asyncio.sleep(2 * LATE_S)
        assert await _stored(store) == {"t2": RUNNING}
        await committer.commit([PutTask(replace(view.tasks["t2"], desired_state=SHUTDOWN))])
        assert await _stored(store) == {"t2": SHUTDOWN}
        await committer.commit([DropTask(view.tasks["t2"])])
        await committer.commit([PutTask(first)])
        assert await _stored(store) == {"t1": RUNNING}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


async def _stored(store: MemoryStore) -> dict[str, int]:
    pairs, _ = await store.load(codec.bucket_key("n", "s"))
    return {
        task.id: task.desired_state
        for pair in pairs
        for task in codec.decode_bucket(pair.key, pair.value, pair.revision)
    }
