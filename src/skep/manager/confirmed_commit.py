"""Commits whose answer got lost: found out by reading, so that the leader's picture stays the store's.

What is in doubt is told by the transaction's own compares. One that writes breaks one of them itself, and
revisions never come back. So a try that went out can still be done while all compares hold; once one is
broken none can any more, and what the keys hold by then says whether one was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Protocol, TypeVar

import structlog

from skep.runtime import attempt
from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, SkepError, StaleVersion, Unavailable
from skep.store.interfaces import Compare, Delete, Fence, KeyValue, Put, Store, Txn

log = structlog.get_logger()

DOUBT_S = 10.0  # longer than a leader may be silent: whoever still does not know by then leads no more
POLL_S = 0.25
PATIENCE_S = 3.0  # an etcd that was killed is back within a second: nobody needs to hear of it
RETRY_S, RETRY_MAX_S = 0.1, 1.0
PICTURE_S = 3.0  # an answer that is on its way is here long before
REMOVE_TRIES = 40  # of an object that others of this leader write meanwhile, a try each 50 ms: two seconds
REMOVE_RETRY_S = 0.05


class Stored(Protocol):
    """An object of the view's."""

    @property
    def version(self) -> int:
        """The revision it was last written at."""


T = TypeVar("T", bound=Stored)

_DEPOSED = "this manager lost the lead: what was asked may have been done"
MAYBE = "whether the change was made is not known. Look at what is there, then try again"


async def commit_confirmed(
    store: Store, txn: Txn, *, patience_s: float = PATIENCE_S, doubt_s: float = DOUBT_S
) -> int:
    """Commits `txn`; where the answer is lost, reads whether it was done, and tries again if it was not.

    Returns the revision. Errors: `Conflict`, `Denied`, `Invalid`, `Unavailable`: nothing was done, and
    nothing will be (`Unavailable`: the store refuses it for longer than `patience_s`). `OutcomeUnknown` where
    that is not known: the fence no longer holds, or the store cannot be asked for longer than `doubt_s`.

    The caller must be the only writer of its keys, as a leader is; where `txn` puts something it has a
    compare that it breaks itself. An API request that got here is not begun again.
    """
    try:
        revision = await _committed(store, txn, _Doubt(patience_s, doubt_s))
    except OutcomeUnknown:
        attempt.wrote()  # perhaps
        raise
    attempt.wrote()
    return revision


async def commit_new(store: Store, fence: Fence, new: Put, name_key: str, object_id: str) -> int:
    """Writes an object that nobody has the name of. Returns the revision. Errors: `Conflict` where somebody
    has; as `commit_confirmed`."""
    ops = (new, Put(name_key, object_id.encode()))
    return await commit_confirmed(store, Txn(ops, compares=(Compare(name_key, 0),), fence=fence))


async def commit_changed(
    store: Store, fence: Fence, changed: Put, version: int, *also: tuple[Put, int]
) -> int:
    """Writes an object again that was last written at `version`, and others with it, all or none. Returns
    the revision. Errors: `StaleVersion` where somebody else wrote one of them meanwhile; as
    `commit_confirmed`."""
    every = ((changed, version), *also)
    compares = tuple(Compare(put.key, at) for put, at in every)
    txn = Txn(tuple(put for put, _ in every), compares=compares, fence=fence)
    try:
        return await commit_confirmed(store, txn)
    except Conflict as error:
        raise StaleVersion() from error


async def commit_removed(
    store: Store,
    fence: Fence,
    key: str,
    current: Callable[[], T],
    ops: Callable[[T], tuple[Put | Delete, ...]],
) -> tuple[T, int]:
    """Removes the object under `key` by `ops`. `current` gives it as the view has it: the leader's other
    parts may be writing it, and the removal is of what they have written.

    Returns what was removed, and the revision. Errors: `StaleVersion` where it is written without end;
    `current`'s; as `commit_confirmed`.
    """
    for _ in range(REMOVE_TRIES):
        known = current()
        try:
            txn = Txn(ops(known), compares=(Compare(key, known.version),), fence=fence)
            return known, await commit_confirmed(store, txn)
        except Conflict:
            await asyncio.sleep(REMOVE_RETRY_S)
    raise StaleVersion()


async def check_picture(store: Store, key: str, known: Callable[[], int]) -> None:
    """Returns once the store has `key` at the revision that `known` gives of it (0: none), after a compare
    failed: whoever of this leader wrote it last is about to say so.

    Errors: `Deposed` where that does not come about: somebody else took it away or wrote it (`skep store
    rm`), and every write on it would fail. Who leads next loads what is there.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            pairs, _ = await store.load(key)
            stored = next((pair.revision for pair in pairs if pair.key == key), 0)
            if stored == known():
                return
            if loop.time() > began + PICTURE_S:
                log.error("leader.store_changed", key=key, revision=stored, known_revision=known())
                raise Deposed()
        except Unavailable:
            began = loop.time()  # nobody of us heard of a write meanwhile either
        await asyncio.sleep(POLL_S)


async def confirm_lead(store: Store, fence: Fence) -> None:
    """Returns where this manager led after the call began: a look at the store by its quorum, not a write.
    Errors: `Deposed`, `Unavailable`."""
    await store.commit(Txn((), fence=fence))


class _Fate(Enum):
    """What became of a transaction whose answer was lost."""

    DONE = "done"
    OPEN = "open"  # not done: a try that is under way may still do it
    OVER = "over"  # not done, and no try can do it any more


class _Doubt:
    """What is known of the tries so far: `reason` is why one may have been done, None where none was."""

    def __init__(self, patience_s: float, doubt_s: float) -> None:
        self.reason: Unavailable | None = None
        now = asyncio.get_running_loop().time()
        self._refused_until, self._until = now + patience_s, now + doubt_s
        self._was_taken = False  # by an etcd whose answer was lost, and which may still do it

    def add(self, error: Unavailable) -> None:
        """A try may have been done: its answer was lost; or it was said that etcd could not be reached, which
        it was once said of a write that had been done just before."""
        log.warning("store.doubt", error=str(error))
        self.reason = error
        self._was_taken = self._was_taken or isinstance(error, OutcomeUnknown)

    def none_was_done(self) -> None:
        """So far. Errors: the reason, where there is no patience for another try."""
        if self._was_taken:
            self.check()
            return
        refusal, self.reason = self.reason, None  # what was refused is not done later
        if refusal is not None and asyncio.get_running_loop().time() > self._refused_until:
            raise refusal

    def check(self) -> None:
        """Errors: `OutcomeUnknown` where it has lasted for too long."""
        if asyncio.get_running_loop().time() > self._until:
            raise self.error()

    def error(self) -> OutcomeUnknown:
        if isinstance(self.reason, OutcomeUnknown):
            return self.reason
        return OutcomeUnknown(f"{self.reason}; {MAYBE}")


async def _committed(store: Store, txn: Txn, doubt: _Doubt) -> int:
    retry_s = RETRY_S
    while True:
        try:
            return await store.commit(txn)
        except Conflict:
            if doubt.reason is None:
                raise
        except Unavailable as error:
            doubt.add(error)
        except Deposed as error:
            if doubt.reason is None:
                raise
            raise OutcomeUnknown(_DEPOSED) from error
        except SkepError as error:
            if doubt.reason is None:
                raise
            raise doubt.error() from error
        fate, revision = await _found_out(store, txn, doubt)
        if fate is _Fate.DONE:
            return revision
        if fate is _Fate.OVER:
            raise Conflict("the object was changed by somebody else meanwhile")
        doubt.none_was_done()
        await asyncio.sleep(retry_s)
        retry_s = min(2 * retry_s, RETRY_MAX_S)


async def _found_out(store: Store, txn: Txn, doubt: _Doubt) -> tuple[_Fate, int]:
    """Returns what became of a transaction, and its revision where it was done. Errors: `OutcomeUnknown`."""
    while True:
        try:
            return await _look(store, txn)
        except Deposed as error:
            raise OutcomeUnknown(_DEPOSED) from error
        except SkepError:
            doubt.check()
            await asyncio.sleep(POLL_S)


async def _look(store: Store, txn: Txn) -> tuple[_Fate, int]:
    # Compares first: once one was seen broken no try can be done between the reads that follow.
    is_open = True
    for compare in txn.compares:
        pair = await _pair(store, compare.key)
        is_open = is_open and (pair.revision if pair is not None else 0) == compare.revision
    if is_open and txn.compares:
        return _Fate.OPEN, 0
    revision = await _done_at(store, txn)
    if revision is not None:
        return _Fate.DONE, revision
    if is_open:
        return _Fate.OPEN, 0
    if txn.fence is not None:
        await confirm_lead(store, txn.fence)  # or else the next leader may have written over ours
    return _Fate.OVER, 0


async def _done_at(store: Store, txn: Txn) -> int | None:
    """Returns the revision at which all keys came to be as `txn` leaves them; None where they are not so."""
    revision = 0
    for op in txn.ops:
        found = await _pair(store, op.key)
        if isinstance(op, Delete):
            if found is not None:
                return None
        elif found is None or found.value != op.value:
            return None
        else:
            revision = max(revision, found.revision)
    return revision or (await store.load(txn.ops[0].key))[1]


async def _pair(store: Store, key: str) -> KeyValue | None:
    pairs, _ = await store.load(key)
    return next((pair for pair in pairs if pair.key == key), None)
