"""A store that seals values before another store sees them.

Sealing here, below every writer and reader, is what makes it impossible to forget one: whoever commits a
cluster, a service or a secret, its bytes are sealed when they reach etcd, its log and its backups. Keys,
schema, leadership, nodes and tasks stay readable (`codec.is_sealed_key`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.interfaces import Delete, KeyValue, Put, Store, Txn
from skep.store.seal import Sealer, is_sealed

_NOT_SEALED = (
    "the store's key {} is not sealed, as it should be: it was not written by skep. Restore the store from a"
    " backup"
)


BREATH = 32  # values looked at before the loop goes round: of the largest, 64 MiB, in 0.1 s


class SealedStore:
    """Fulfils `Store` over `inner`. Values that an earlier skep left unsealed are read until the store's
    schema says that everything is sealed; after that they are in trouble, as what does not open is."""

    def __init__(self, inner: Store, sealer: Sealer) -> None:
        self._inner = inner
        self._sealer = sealer
        self._all_sealed = False

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        """What cannot be opened, or should be sealed and is not, comes empty and with its `trouble`: one bad
        value must not cost the others. Errors: also `Corrupt` for a newer skep's store."""
        pairs, revision = await self._inner.load(prefix)
        for pair in pairs:
            if pair.key == codec.SCHEMA_KEY:
                # First: what a newer skep wrote may not be readable at all.
                self._all_sealed = codec.check_schema(pair.value) >= codec.SEALED_SINCE
        return [self._opened(pair) for pair in pairs], revision

    def use(self, sealer: Sealer) -> None:
        """Seals and opens with this one from now on."""
        self._sealer = sealer

    def sealing_with(self, sealer: Sealer) -> SealedStore:
        """Returns the same store, sealed by another."""
        return SealedStore(self._inner, sealer)

    async def stale(self, prefix: str) -> list[KeyValue]:
        """Returns, opened, what others than the present key have sealed; what none opens is left out.
        Errors: as `load`."""
        pairs, _ = await self._inner.load(prefix)
        sealed = [pair for pair in pairs if codec.is_sealed_key(pair.key) and is_sealed(pair.value)]
        found = []
        for n, pair in enumerate(sealed):
            if not self._sealer.is_current(pair.value, pair.key):
                opened = self._opened(pair)
                found += [] if opened.trouble else [opened]
            if n % BREATH == BREATH - 1:
                await asyncio.sleep(0)
        return found

    async def sealed_by(self, key: str, data_keys: Sequence[bytes]) -> bytes | None:
        """Returns which of these has sealed the value of `key`; None where there is none, or it is not sealed
        (an earlier skep's store). Errors: `Corrupt` where it is none of these; `Unavailable`."""
        for pair in (await self._inner.load(key))[0]:
            if pair.key == key and is_sealed(pair.value):
                for data_key in data_keys:
                    if Sealer(data_key).is_current(pair.value, key):
                        return data_key
                self._sealer.open(pair.value, key)  # says what is wrong
        return None

    async def commit(self, txn: Txn) -> int:
        return await self._inner.commit(replace(txn, ops=tuple(self._sealed(op) for op in txn.ops)))

    async def close(self) -> None:
        await self._inner.close()

    def _sealed(self, op: Put | Delete) -> Put | Delete:
        if isinstance(op, Put) and codec.is_sealed_key(op.key):
            return Put(op.key, self._sealer.seal(op.value, op.key))
        return op

    def _opened(self, pair: KeyValue) -> KeyValue:
        if not codec.is_sealed_key(pair.key):
            return pair
        if not is_sealed(pair.value):
            if not self._all_sealed:
                return pair
            return replace(pair, value=b"", trouble=_NOT_SEALED.format(pair.key))
        try:
            return replace(pair, value=self._sealer.open(pair.value, pair.key))
        except Corrupt as error:
            return replace(pair, value=b"", trouble=str(error))
