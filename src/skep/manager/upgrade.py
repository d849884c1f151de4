"""An earlier skep's store, brought to this schema by the first leader that knows it."""

from __future__ import annotations

import structlog

from skep.store import codec
from skep.store.port import Compare, Fence, KeyValue, Put, Store, Txn

log = structlog.get_logger()

BATCH_BYTES = 1 << 20  # of a transaction; etcd takes 16 MB, and stalls everybody with such
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
    for batch in _batches([p for p in pairs if codec.is_sealed_key(p.key) and not p.trouble]):
        # Not `commit_known`: a value looks the same opened, sealed or not. Who is in doubt begins anew.
        await store.commit(_rewritten(batch, fence))
    number = KeyValue(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode(), schema.revision)
    await store.commit(_rewritten([number], fence))
    log.warning(
        "store.sealed",
        schema=codec.SCHEMA_VERSION,
        advice="etcd's log and backups keep unsealed values of before for a while: rotate the join tokens"
        " if somebody may have read them",
    )


async def _pair(store: Store, key: str) -> KeyValue | None:
    pairs, _ = await store.load(key)
    return next((pair for pair in pairs if pair.key == key), None)


def _batches(pairs: list[KeyValue]) -> list[list[KeyValue]]:
    found: list[list[KeyValue]] = []
    size = BATCH_BYTES
    for pair in pairs:
        size += len(pair.value)
        if size > BATCH_BYTES or len(found[-1]) >= BATCH_OPS:
            found.append([])
            size = len(pair.value)
        found[-1].append(pair)
    return found


def _rewritten(pairs: list[KeyValue], fence: Fence) -> Txn:
    return Txn(
        tuple(Put(pair.key, pair.value) for pair in pairs),
        compares=tuple(Compare(pair.key, pair.revision) for pair in pairs),
        fence=fence,
    )
