"""A backup of the swarm as its store has it at one moment."""

from __future__ import annotations

from collections.abc import Iterator

from skep import __version__
from skep.model.cluster import Cluster
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.backup import header_of, write
from skep.store.port import Store


async def take(store: Store, now: float, keys: bytes) -> Iterator[bytes]:
    """Returns the backup, in pieces that are made as they are asked for. `keys` opens what is sealed in the
    store. Who leads is left out: that ends with this swarm. Errors: `Unavailable`, `Corrupt`."""
    pairs, _ = await store.load(codec.PREFIX)
    kept = [pair for pair in pairs if pair.key != codec.LEADER_KEY]
    stored = next((pair for pair in kept if pair.key == codec.CLUSTER_KEY), None)
    if stored is None:
        raise Corrupt("the store has no swarm in it")
    cluster = codec.decode_object(Cluster, stored.key, stored.value, stored.revision)
    return write(header_of(kept, __version__, cluster.id, now), kept, keys)
