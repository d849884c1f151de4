"""How large what users write may be: refused here with both sizes, before it is decided about. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.model.bounds import REPLICAS_MAX
from skep.model.spec import ServiceSpec
from skep.runtime.errors import TooLarge


def check_replicas(spec: ServiceSpec, others: int) -> None:
    """`others`: how many tasks all other services want. Errors: `TooLarge` where that is more together than
    the store has room for."""
    own = spec.tasks_wanted
    if own and own + others > REPLICAS_MAX:
        raise TooLarge(
            f"the swarm's services would have {own + others} replicas together; {REPLICAS_MAX} may be"
        )


# A count, a tag or an address that is longer than the one before. Many such are ended by the bound of what is
# stored (`store.bounded`).
GROWTH_BYTES = 1 << 10


def check_size(what: str, given: Struct, most_bytes: int, before: Struct | None = None) -> None:
    """`before`: what is stored. Clients send all of it again: where an earlier skep let it become larger it
    can still be changed, and may not grow.

    Errors: `TooLarge` for what would take more of the store, which says how large it is and may be.
    """
    size = len(msgspec.msgpack.encode(given))
    if size <= most_bytes:
        return
    if before is None or size > len(msgspec.msgpack.encode(before)) + GROWTH_BYTES:
        raise TooLarge(f"{what} would take {size} bytes of the store; {most_bytes} may be")
