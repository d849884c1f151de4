"""A lead begins with one data key: what another has sealed is sealed anew, and the other opens no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from skep.manager.upgrade import BATCH_OPS
from skep.runtime.errors import Conflict, Corrupt, TooLarge
from skep.store import codec
from skep.store.port import Compare, Fence, Put, Txn
from skep.store.sealed import SealedStore
from skep.store.sizes import cut

log = structlog.get_logger()


class HeldKeys(Protocol):
    """The data keys that this manager has on its disk. `store` seals with the first, and opens with all of
    `opening`: these, and the one that sealed before them."""

    @property
    def keys(self) -> tuple[bytes, ...]: ...

    @property
    def opening(self) -> tuple[bytes, ...]: ...

    @property
    def store(self) -> SealedStore: ...

    async def lead(self, leads: bool) -> None:
        """While this manager leads, no other has a say in which keys it has: what is under way of that is
        over when this returns."""

    async def keep(self, keys: Sequence[bytes]) -> None:
        """Has exactly these from now on, of which the first seals. Errors: `Invalid` (disk full),
        `Corrupt`."""


async def go_by_record(held: HeldKeys) -> bool:
    """Seals with the key that has sealed the swarm's record: that one is in force (`data_key`). Returns False
    where none of this manager's has. Errors: as `HeldKeys.keep`, `Unavailable`."""
    try:
        first = await held.store.sealed_by(codec.CLUSTER_KEY, held.opening)
    except Corrupt as error:
        advice = "if the data key was changed while this manager was away, the leader gives it the new one"
        log.warning("store.not_opened", error=str(error), advice=advice)
        return False
    if first is not None:
        await held.keep((first, *(key for key in held.keys if key != first)))
    return True


async def settle(held: HeldKeys, fence: Fence) -> None:
    """Has all sealed with the first key, and keeps no other. Errors: as `reseal`, `HeldKeys.keep`."""
    if len(held.keys) > 1 and await reseal(held.store, fence):
        await held.keep(held.keys[:1])


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
