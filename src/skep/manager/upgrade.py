"""An earlier skep's store, brought to this schema by the first leader that knows it."""

from __future__ import annotations

import structlog

from skep.manager.confirmed_commit import commit_confirmed
from skep.runtime.errors import TooLarge
from skep.store import codec
from skep.store.interfaces import Compare, Fence, KeyValue, Put, Store, Txn
from skep.store.sizes import cut

log = structlog.get_logger()

BATCH_OPS = 500  # half of OPS_MAX: compares count too


async def upgrade(store: Store, fence: Fence) -> None:
    """Writes what is to be sealed again, sealed, and the schema's number after all of it.

    Nothing is done in a store of this schema. What cannot be opened is left as it is. A crash in between
    leaves the old number, and the next leader does all of it again. Errors: `Corrupt` (a newer skep's store),
    `Conflict`, `Denied`, `Unavailable`.
    """
    schema = await _pair(store, codec.SCHEMA_KEY)
    if schema is None or codec.check_schema(schema.value) >= codec.SCHEMA_VERSION:
        return
    pairs, _ = await store.load(codec.PREFIX)
    known = {pair.key: pair.revision for pair in pairs}
    rewritten = [Put(p.key, p.value) for p in pairs if codec.is_sealed_key(p.key) and not p.trouble]
    try:
        for part in cut(rewritten, BATCH_OPS):
            # Not `commit_confirmed`: a value looks the same opened, sealed or not. In doubt all begins anew.
            compares = tuple(Compare(op.key, known[op.key]) for op in part)
            await store.commit(Txn(tuple(part), compares=compares, fence=fence))
    except TooLarge as error:  # it was written by a skep that took more; all of it stays readable
        log.error("store.not_sealed", error=str(error), advice="make smaller, or remove, what is so large")
        return
    number = Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode())
    compares = (Compare(codec.SCHEMA_KEY, schema.revision),)
    await store.commit(Txn((number,), compares=compares, fence=fence))
    log.warning(
        "store.sealed",
        schema=codec.SCHEMA_VERSION,
        advice="etcd's log and backups keep unsealed values of before for a while: rotate the join tokens"
        " if somebody may have read them",
    )


async def incarnation(store: Store, fence: Fence, new_id: str) -> str:
    """Writes the store's incarnation, where an earlier skep made the store, and returns it. Errors:
    `Conflict`, `Denied`, `Unavailable`."""
    new = Put(codec.INCARNATION_KEY, new_id.encode())
    await commit_confirmed(store, Txn((new,), compares=(Compare(new.key, 0),), fence=fence))
    return new_id


async def _pair(store: Store, key: str) -> KeyValue | None:
    pairs, _ = await store.load(key)
    return next((pair for pair in pairs if pair.key == key), None)
