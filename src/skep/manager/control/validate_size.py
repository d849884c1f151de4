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


def check_size(what: str, given: Struct, most_bytes: int) -> None:
    """Errors: `TooLarge` for what would take more of the store, which says how large it is and may be."""
    size = len(msgspec.msgpack.encode(given))
    if size > most_bytes:
        raise TooLarge(f"{what} would take {size} bytes of the store; {most_bytes} may be")
