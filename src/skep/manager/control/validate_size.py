"""How large what users write may be: refused here with both sizes, before it is decided about. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from skep.model.bounds import REPLICAS_MAX
from skep.model.spec import ServiceSpec
from skep.runtime.errors import TooLarge


def check_replicas(spec: ServiceSpec, others: Iterable[ServiceSpec]) -> None:
    """Errors: `TooLarge` where all services together would have more tasks than the store has room for."""
    own = replicas_of(spec)
    total = own + sum(map(replicas_of, others))
    if own and total > REPLICAS_MAX:
        raise TooLarge(f"the swarm's services would have {total} replicas together; {REPLICAS_MAX} may be")


def replicas_of(spec: ServiceSpec) -> int:
    """Returns how many tasks a service wants, whatever its nodes; a job: how many it keeps in the end."""
    job = spec.mode.replicated_job
    return (spec.replicas or 0) if job is None else (job.total_completions or job.max_concurrent or 0)


def check_size(what: str, given: Struct, most_bytes: int) -> None:
    """Errors: `TooLarge` for what would take more of the store, which says how large it is and may be."""
    size = len(msgspec.msgpack.encode(given))
    if size > most_bytes:
        raise TooLarge(f"{what} would take {size} bytes of the store; {most_bytes} may be")
