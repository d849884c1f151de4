"""A lead begins with one data key: what another has sealed is sealed anew, and the other opens no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from skep.manager.upgrade import BATCH_OPS
from skep.runtime.errors import Conflict, Corrupt, Invalid, TooLarge, Unavailable
from skep.store import codec
from skep.store.interfaces import Compare, Fence, Put, Txn
from skep.store.seal import Sealer
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

    async def keep(self, keys: Sequence[bytes], unlock_key: str | None = None) -> None:
        """Has exactly these from now on, of which the first seals; on the disk they are as the `unlock_key`
        seals them, plain where that is empty; None: as those of before. Errors: `Invalid` (disk full),
        `Corrupt`."""


class LacksKey(Unavailable):
    """This manager cannot lead: it does not open the swarm's own record. Others go first."""


async def go_by_record(held: HeldKeys) -> bytes:
    """Seals with the key that has sealed the swarm's record, which it returns: that one is in force
    (`data_key`). A disk that takes no change costs nothing as long as the key is at hand. Errors: `LacksKey`,
    `Unavailable`."""
    try:
        first = await held.store.sealed_by(codec.CLUSTER_KEY, held.opening) or held.keys[0]
    except Corrupt as error:
        raise LacksKey(
            "this manager has not got the swarm's data key yet: start the managers that were there when it"
            f" was changed, one of which leads and hands it out. Where none of them opens it either: {error}"
        ) from None
    older = [key for key in held.opening if key != first]
    if not await _kept(held, (first, *(key for key in held.keys if key != first))):
        held.store.use(Sealer(first, older=older))
    return first


async def settle(held: HeldKeys, first: bytes, fence: Fence) -> None:
    """Has all sealed with `first`, and keeps no other. Errors: as `reseal`."""
    if held.keys != (first,) and await reseal(held.store, fence):
        await _kept(held, (first,))


async def _kept(held: HeldKeys, keys: Sequence[bytes]) -> bool:
    """Returns whether these are on the disk; where they are not, the log says why."""
    try:
        await held.keep(keys)
    except (Invalid, Corrupt) as error:
        log.warning("data_keys.not_kept", error=str(error))
        return False
    return True


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
