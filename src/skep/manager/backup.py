"""A backup of the swarm as its store has it at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skep import __version__
from skep.runtime.errors import Unavailable
from skep.store import codec
from skep.store.backup import header_of, write
from skep.store.interfaces import Store


async def take(
    store: Store, cluster_id: str, now: float, exported: Callable[[], bytes], is_locked: bool
) -> Iterator[bytes]:
    """Returns the backup, in pieces that are made as they are asked for. Errors: `Unavailable`, also where
    the data key is changed meanwhile; `Corrupt`.

    `store` is the one below the sealing: what is sealed stays so, `exported` gives the keys that open it,
    `is_locked` says that this takes the unlock key. Who leads is left out: that ends with this swarm.
    """
    keys = exported()
    pairs, _ = await store.load(codec.PREFIX)
    if exported() != keys:  # those of before may not open all of it, nor those of now
        raise Unavailable("the swarm's keys were changed while the backup was made; try again")
    kept = [pair for pair in pairs if pair.key != codec.LEADER_KEY]
    return write(header_of(kept, __version__, cluster_id, now, is_locked), kept, keys)
