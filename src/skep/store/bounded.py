"""A store that takes no more of each kind than the table of bounds says (`model.bounds.SHARES`).

Bounding here, below every writer, is what makes it impossible to forget one: a value that another leader
could not read, or a sum that does not fit a manager's memory, never reaches the store. It is a leader's own:
nobody else writes meanwhile, so it knows what is there from what it loaded and wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set

from msgspec import Struct

from skep.model.bounds import SHARES
from skep.runtime.errors import OutcomeUnknown, TooLarge
from skep.runtime.metrics import Histogram, Metric
from skep.store import codec
from skep.store.interfaces import Delete, KeyValue, Put, Store, Txn

# An etcd on a good disk takes 2 ms; one that elects, or is defragmented, seconds.
COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BREATH = 10_000  # keys counted before the loop goes round: 5 ms
_SHARE_OF = {share.kind: share for share in SHARES}


class BoundedStore:
    """Fulfils `Store` over `inner`. What is there is known once everything was loaded."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._sizes: dict[str, int] = {}  # of each key, with its value
        self.totals: dict[str, int] = dict.fromkeys(_SHARE_OF, 0)  # bytes by kind
        self._took = Histogram(
            "skep_store_commit_seconds",
            "How long the store took for one transaction of the leader, done or not.",
            COMMIT_BOUNDS_S,
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (self._took,)

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        pairs, revision = await self._inner.load(prefix)
        if prefix == codec.PREFIX:
            self._sizes.clear()
            self.totals = dict.fromkeys(_SHARE_OF, 0)
            for n, pair in enumerate(pairs, 1):
                size = self._sizes[pair.key] = len(pair.key) + len(pair.value)
                self.totals[codec.kind_of(pair.key)] += size
                if n % BREATH == 0:
                    await asyncio.sleep(0)
        return pairs, revision

    async def commit(self, txn: Txn) -> int:
        """Errors: also `TooLarge`, which says how large what is and how large it may be."""
        going = {op.key for op in txn.ops if isinstance(op, Delete)}
        changes = [self._change(op, going) for op in txn.ops]
        grown: dict[str, int] = {}
        for each in changes:
            grown[each.kind] = grown.get(each.kind, 0) + each.after - each.before
        for kind, more in grown.items():
            total, most = self.totals[kind] + more, _SHARE_OF[kind].total_max_bytes
            if more > 0 and total > most:
                raise TooLarge(f"{kind} would take {total} bytes of the store together; {most} may be")
        # Before it is written: it counts while nobody knows whether it was, and others are under way.
        for each in changes:
            self._note(each.key, each.kind, each.after)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await self._inner.commit(txn)
        except OutcomeUnknown:
            raise
        except Exception:
            for each in changes:
                self._note(each.key, each.kind, each.before)
            raise
        finally:
            self._took.observe(loop.time() - began)

    async def close(self) -> None:
        await self._inner.close()

    def _change(self, op: Put | Delete, going: Set[str]) -> _Change:
        """`going`: keys that the same transaction takes away."""
        kind, before = codec.kind_of(op.key), self._sizes.get(op.key, 0)
        if not isinstance(op, Put):
            return _Change(op.key, kind, before, 0)
        size = len(op.value)
        after = len(op.key) + size
        share = _SHARE_OF[kind]
        # What an earlier skep has let become larger may become less.
        if size > share.value_max_bytes and after > max(before, self._becomes_bytes(op.key, going)):
            raise TooLarge(
                f"{share.one} would take {size} bytes of the store; {share.value_max_bytes} may be"
            )
        return _Change(op.key, kind, before, after)

    def _becomes_bytes(self, key: str, going: Set[str]) -> int:
        """Returns what the service takes whose marker of removal the key is, where it goes with that."""
        if not codec.is_removed(key):
            return 0
        service = codec.service_key(codec.id_of(key))
        return self._sizes.get(service, 0) if service in going else 0

    def _note(self, key: str, kind: str, size: int) -> None:
        """Notes what a key takes from now on."""
        self.totals[kind] += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size


class _Change(Struct, frozen=True, gc=False):
    """What a key takes before and after a transaction."""

    key: str
    kind: str
    before: int
    after: int
