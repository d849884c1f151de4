"""Data keys on simulated disks, and what has sealed each value: no majority may ever be unable to open all.

The model of etcd keeps values plain, for the checkers; `below` gives the product's `SealedStore` the sealed
ones, which it has sealed itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from skep.model.cluster import Cluster
from skep.sim.etcd import Etcd, Peer
from skep.store import codec
from skep.store.interfaces import KeyValue, Put, Store, Txn
from skep.store.seal import Sealer

if TYPE_CHECKING:
    from skep.sim.hosts import Host

FIRST_KEY = b"1" * 32


class _SealedPut(Put, frozen=True, gc=False):
    """A plain value, and what it was sealed as."""

    sealed: bytes = b""


class Seals:
    """Of one run. `hosts` are all, by node id."""

    def __init__(self, etcd: Etcd, hosts: dict[str, Host]) -> None:
        self._etcd = etcd
        self._hosts = hosts
        self._sealed: dict[tuple[str, int], bytes] = {}  # by key and revision
        self._by: dict[str, bytes] = {}  # what has sealed the present value of a key
        self._keys = [FIRST_KEY]  # all that ever were
        self._used: list[tuple[int, frozenset[bytes]]] = []  # what has sealed a value, from a revision on
        self.stolen: dict[str, tuple[bytes, ...]] = {}  # what a host knew when it ceased to be a manager
        self.changes = 0

    def begin(self) -> None:
        """What the swarm was founded with is sealed."""
        for pair in self._etcd.state.prefix(codec.PREFIX):
            if codec.is_sealed_key(pair.key):
                self._sealed[pair.key, pair.revision] = Sealer(FIRST_KEY).seal(pair.value, pair.key)
                self._by[pair.key] = FIRST_KEY
        self._etcd.watchers.append(self._written)

    def lose(self) -> None:
        """Nothing of what was sealed is there any more."""
        self._sealed.clear()
        self._by.clear()
        self._used.clear()

    def know(self, keys: Sequence[bytes]) -> None:
        """These are on somebody's disk."""
        self._keys += [key for key in keys if key not in self._keys]

    def seal(self, txn: Txn) -> Txn:
        """Returns what etcd's model is given."""
        return replace(txn, ops=tuple(self._plain(op) if isinstance(op, Put) else op for op in txn.ops))

    def sealed(self, pair: KeyValue) -> KeyValue:
        """Returns what etcd would hold."""
        return replace(pair, value=self._sealed.get((pair.key, pair.revision), pair.value))

    def check(self) -> None:
        """Tells etcd's model of a majority that could not go on."""
        voters = [voter.node_id for voter in self._etcd.voters()]
        record, used = self._by[codec.CLUSTER_KEY], set(self._by.values())
        lacking = [node_id for node_id in voters if record not in self._hosts[node_id].data_keys]
        if 2 * len(lacking) > len(voters):
            self._etcd.wrong.append(f"{len(lacking)} of {len(voters)} voters cannot open the swarm's record")
        for node_id in set(voters) - set(lacking):
            if not used <= set(self._hosts[node_id].data_keys):
                self._etcd.wrong.append(f"{node_id} opens the swarm's record, and not all else")
            if not self._opens_its_copy(self._hosts[node_id]):
                self._etcd.wrong.append(f"{node_id} does not open its own copy of the store")

    def _opens_its_copy(self, host: Host) -> bool:
        """Returns whether a manager could go on with its own copy, where that is not two changes old."""
        at = host.peer.revision
        of_copy = [keys for revision, keys in self._used if revision <= at][-1:]
        return not of_copy or at < self._last_change() or of_copy[0] <= set(host.opening_keys)

    def _last_change(self) -> int:
        """Returns the revision since which one key was in force, and then at most another."""
        alone = [revision for revision, keys in self._used if len(keys) == 1]
        is_changing = len(self._used[-1][1]) > 1
        return alone[-1] if is_changing else alone[-2:][0]

    def lacks(self) -> str:
        """Returns what is not as it must be in the end; an empty text where all is."""
        entry = self._etcd.state.entries[codec.CLUSTER_KEY]
        cluster = codec.decode_object(Cluster, codec.CLUSTER_KEY, entry.value, 0)
        if cluster.data_key_done < cluster.data_key_wanted:
            return "another data key is wanted"
        present = self._by[codec.CLUSTER_KEY]
        if set(self._by.values()) != {present}:
            return "not everything is sealed with the present data key"
        for voter in self._etcd.voters():
            if self._hosts[voter.node_id].data_keys != (present,):
                return f"{voter.node_id} has other data keys"
        thieves = [node_id for node_id, keys in self.stolen.items() if present in keys]
        return f"{thieves} are no managers, and know the data key" if thieves else ""

    def _plain(self, put: Put) -> Put:
        if not codec.is_sealed_key(put.key):
            return put
        plain = Sealer(self._keys[0], older=self._keys[1:]).open(put.value, put.key)
        return _SealedPut(put.key, plain, put.value)

    def _written(self, peer: Peer, txn: Txn) -> None:
        for op in txn.ops:
            if isinstance(op, _SealedPut):
                self._sealed[op.key, self._etcd.state.revision] = op.sealed
                before, sealed = self._by.get(op.key), op.sealed
                (by,) = (key for key in self._keys if Sealer(key).is_current(sealed, op.key))
                self._by[op.key] = by
                self.changes += op.key == codec.CLUSTER_KEY and by != before
            elif not isinstance(op, Put):
                self._by.pop(op.key, None)
        used = frozenset(self._by.values())
        if not self._used or self._used[-1][1] != used:
            self._used.append((self._etcd.state.revision, used))
        self.check()


class Below:
    """The store below the sealing; fulfils `Store`."""

    def __init__(self, inner: Store, seals: Seals) -> None:
        self._inner = inner
        self._seals = seals

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        pairs, revision = await self._inner.load(prefix)
        return [self._seals.sealed(pair) for pair in pairs], revision

    async def commit(self, txn: Txn) -> int:
        return await self._inner.commit(self._seals.seal(txn))

    async def close(self) -> None:
        await self._inner.close()
