"""Commits whose answer got lost: found out by reading, so that the leader's picture stays the store's."""

from __future__ import annotations

import asyncio

import structlog

from skep.runtime import attempt
from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, SkepError, StaleVersion, Unavailable
from skep.store.port import Compare, Fence, Put, Store, Txn

log = structlog.get_logger()

DOUBT_S = 10.0  # longer than a leader may be silent: whoever still does not know by then leads no more
POLL_S = 0.25
PATIENCE_S = 3.0  # an etcd that was killed is back within a second: nobody needs to hear of it
RETRY_S = 0.1


async def commit_known(store: Store, txn: Txn) -> int:
    """Commits `txn`; where the answer is lost, reads whether it was done, and tries again if it was not.

    Returns the revision. Errors: `Conflict`, `Denied`; `Unavailable` after `PATIENCE_S`, nothing was done;
    `OutcomeUnknown` when the fence no longer holds, or after `DOUBT_S`. The caller must be the only writer
    of the keys, as a leader is. An API request that got here is not begun again.
    """
    revision = await _committed(store, txn)
    attempt.wrote()
    return revision


async def _committed(store: Store, txn: Txn) -> int:
    loop = asyncio.get_running_loop()
    doubted = was_refused = False
    deadline, patience = loop.time() + DOUBT_S, loop.time() + PATIENCE_S
    while True:
        try:
            return await store.commit(txn)
        except OutcomeUnknown as error:
            log.warning("store.doubt", error=str(error))
            doubted = True
            done = await _find_out(store, txn, deadline, error)
            if done is not None:
                return done
        except Conflict:
            # The first try, given up as not done, may have been done late; or it was done, and the answer was
            # that etcd could not be reached.
            done = await _done_at(store, txn) if doubted or was_refused else None
            if done is None:
                raise
            return done
        except Deposed as error:
            # The same; and the next leader may have written the object again on top of it.
            if not doubted:
                raise
            raise OutcomeUnknown("this manager lost the lead: what was asked may have been done") from error
        except Unavailable:
            if loop.time() > patience:
                raise
            was_refused = True
            await asyncio.sleep(RETRY_S)


async def commit_new(store: Store, fence: Fence, new: Put, name_key: str, object_id: str) -> int:
    """Writes an object that nobody has the name of. Returns the revision. Errors: `Conflict` where somebody
    has; as `commit_known`."""
    ops = (new, Put(name_key, object_id.encode()))
    return await commit_known(store, Txn(ops, compares=(Compare(name_key, 0),), fence=fence))


async def commit_changed(store: Store, fence: Fence, changed: Put, version: int) -> int:
    """Writes an object again that was last written at `version`. Returns the revision. Errors:
    `StaleVersion` where somebody else wrote it meanwhile; as `commit_known`."""
    txn = Txn((changed,), compares=(Compare(changed.key, version),), fence=fence)
    try:
        return await commit_known(store, txn)
    except Conflict as error:
        raise StaleVersion() from error


async def _find_out(store: Store, txn: Txn, deadline: float, doubt: OutcomeUnknown) -> int | None:
    """Returns the revision of a transaction that was done, None for one that was not."""
    while True:
        try:
            return await _done_at(store, txn)
        except SkepError:
            if asyncio.get_running_loop().time() > deadline:
                raise doubt from None
            await asyncio.sleep(POLL_S)


async def _done_at(store: Store, txn: Txn) -> int | None:
    revision = 0
    for op in txn.ops:
        pairs, at = await store.load(op.key)
        found = next((pair for pair in pairs if pair.key == op.key), None)
        if isinstance(op, Put):
            if found is None or found.value != op.value:
                return None
            revision = max(revision, found.revision)
        elif found is not None:
            return None
        else:
            revision = revision or at
    return revision
