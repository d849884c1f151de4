"""The store in memory: same contract, for tests and the simulation. Deterministic; time is the loop's."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Iterable

from msgspec import Struct

from skep.runtime.errors import Conflict, Deposed, Unavailable
from skep.store.interfaces import Delete, KeyValue, Member, Put, Txn
from skep.store.sizes import check_txn


class _Entry(Struct):
    value: bytes
    created: int
    modified: int


class MemoryState:
    """What several `MemoryStore`s share, as managers share etcd."""

    def __init__(self) -> None:
        self.revision = 1
        self.changed_at = 1  # the revision of the last write that changed a value: a leader's beats do not
        self.entries: dict[str, _Entry] = {}
        self.members: dict[str, Member] = {}  # by node id

    def write(self, puts: Iterable[Put]) -> None:
        """Writes at once, past all faults: what a cluster begins with."""
        self.revision += 1
        self.changed_at = self.revision
        for put in puts:
            self.entries[put.key] = _Entry(put.value, self.revision, self.revision)

    def clear(self) -> None:
        """All is lost: what comes next is another history."""
        self.entries.clear()
        self.revision = self.changed_at = 1

    def prefix(self, prefix: str) -> list[KeyValue]:
        keys = sorted(self.entries)
        start = bisect.bisect_left(keys, prefix)
        found = []
        for key in keys[start:]:
            if not key.startswith(prefix):
                break
            found.append(KeyValue(key, self.entries[key].value, self.entries[key].modified))
        return found


class MemoryMembers:
    """Who holds a `MemoryState` (fulfils `store.interfaces.Members`)."""

    def __init__(self, store: MemoryStore, state: MemoryState) -> None:
        self._store = store
        self._state = state

    async def members(self) -> list[Member]:
        self._store.check()
        return [self._state.members[node_id] for node_id in sorted(self._state.members)]

    async def add_learner(self, node_id: str) -> None:
        self._store.check()
        if any(member.is_learner for member in self._state.members.values()):
            raise Conflict("too many learner members in cluster")
        self._state.revision += 1
        self._state.members[node_id] = Member(self._state.revision, node_id, True, False)

    async def promote(self, member: Member) -> None:
        self._store.check()
        if not member.is_started:
            raise Conflict("can only promote a learner member which is in sync with leader")
        self._state.members[member.node_id] = Member(member.id, member.node_id, False)

    async def holds_lead(self, member: Member) -> bool:
        return False

    async def remove(self, member: Member) -> None:
        self._store.check()
        self._state.members.pop(member.node_id, None)


class StoreFaults:
    """What may go wrong around a commit; the base class does nothing."""

    async def before_commit(self, txn: Txn) -> None:
        """May sleep, or raise `Unavailable`: nothing was written."""

    async def after_commit(self, txn: Txn) -> None:
        """May sleep, or raise `OutcomeUnknown`: it was written."""


class MemoryStore:
    """One manager's connection to the shared state."""

    def __init__(self, state: MemoryState | None = None, faults: StoreFaults | None = None) -> None:
        self._state = state or MemoryState()
        self._faults = faults or StoreFaults()
        self._crashed = False
        self._isolated = False

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        self.check()
        await asyncio.sleep(0)
        return self._state.prefix(prefix), self._state.revision

    async def commit(self, txn: Txn) -> int:
        check_txn(txn)
        self.check()
        await self._faults.before_commit(txn)
        self.check()
        revision = self._apply(txn)
        await self._faults.after_commit(txn)
        self.check()
        return revision

    async def close(self) -> None:
        """Nothing to end."""

    def crash(self) -> None:
        """The process is gone: nothing it still does reaches the store."""
        self._crashed = True

    def isolate(self) -> None:
        """The network to the others is gone: nothing can be read or written."""
        self._isolated = True

    def reconnect(self) -> None:
        self._isolated = False

    def check(self) -> None:
        """Errors: `Unavailable` where the store is out of this manager's reach."""
        if self._crashed or self._isolated:
            raise Unavailable("the store cannot be reached")

    def _apply(self, txn: Txn) -> int:
        state = self._state
        if txn.fence is not None:
            held = state.entries.get(txn.fence.key)
            if held is None or held.created != txn.fence.create_revision:
                raise Deposed()
        for compare in txn.compares:
            entry = state.entries.get(compare.key)
            if (entry.modified if entry is not None else 0) != compare.revision:
                raise Conflict("the object was changed by somebody else meanwhile")
        if not txn.ops:
            return state.revision  # only asked whether it would be done
        state.revision += 1
        for op in txn.ops:
            if isinstance(op, Delete):
                state.entries.pop(op.key, None)
                state.changed_at = state.revision
                continue
            known = state.entries.get(op.key)
            if known is None or known.value != op.value:
                state.changed_at = state.revision
            created = known.created if known is not None else state.revision
            state.entries[op.key] = _Entry(op.value, created, state.revision)
        return state.revision
