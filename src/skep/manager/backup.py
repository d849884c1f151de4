"""A backup of the swarm as its store has it at one moment."""

from __future__ import annotations

from collections.abc import Iterator

from skep import __version__
from skep.store import codec
from skep.store.backup import header_of, write
from skep.store.port import Store


async def take(store: Store, cluster_id: str, now: float, keys: bytes, is_locked: bool) -> Iterator[bytes]:
    """Returns the backup, in pieces that are made as they are asked for. Errors: `Unavailable`, `Corrupt`.

    `store` is the one below the sealing: what is sealed stays so, `keys` opens it, `is_locked` says that this
    takes the unlock key. Who leads is left out: that ends with this swarm.
    """
    pairs, _ = await store.load(codec.PREFIX)
    kept = [pair for pair in pairs if pair.key != codec.LEADER_KEY]
    return write(header_of(kept, __version__, cluster_id, now, is_locked), kept, keys)
