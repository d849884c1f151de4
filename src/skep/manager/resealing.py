"""What another data key has sealed is sealed with the present one: the other opens nothing any more."""

from __future__ import annotations

import asyncio

import structlog

from skep.manager.upgrade import BATCH_OPS
from skep.runtime.errors import Conflict, TooLarge
from skep.store import codec
from skep.store.port import Compare, Fence, Put, Txn
from skep.store.sealed import SealedStore
from skep.store.sizes import cut

log = structlog.get_logger()


async def reseal(store: SealedStore, fence: Fence) -> bool:
    """Writes all again that the store's present key has not sealed. Returns False where something is larger
    than a transaction may be: that stays as it is.

    Each batch is whole or not done: a crash leaves the rest to whoever leads next, and opens with both keys.
    What somebody writes meanwhile is sealed with the present key by that, and left alone. Errors: `Corrupt`
    (a newer skep's store), `Denied`, `Unavailable`.
    """
    count, too_large = 0, set[str]()
    while stale := [pair for pair in await store.stale(codec.PREFIX) if pair.key not in too_large]:
        known = {pair.key: pair.revision for pair in stale}
        for part in cut((Put(pair.key, pair.value) for pair in stale), BATCH_OPS):
            compares = tuple(Compare(op.key, known[op.key]) for op in part)
            try:
                await store.commit(Txn(tuple(part), compares=compares, fence=fence))
                count += len(part)
            except Conflict:  # it is looked for again
                await asyncio.sleep(0)
            except TooLarge as error:
                too_large.update(op.key for op in part)
                log.error(
                    "store.not_resealed", error=str(error), advice="make smaller, or remove, what is so large"
                )
    if count:
        log.info("store.resealed", values=count)
    return not too_large
