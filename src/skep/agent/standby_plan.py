"""Which standby connections a node opens, and which it lets go of. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from msgspec import Struct

EACH_MAX = 16  # whatever a manager says: more managers than a swarm has any use for


class StandbyPlan(Struct, frozen=True):
    """`to_open`: managers of which one more is wanted, if any is."""

    to_close: list[str]
    to_open: list[str]


def plan_standbys(held: Collection[str], managers: Sequence[str], own: str, wanted: int) -> StandbyPlan:
    """`held` are the managers to which there are such connections, the oldest first, `own` is the one that
    the session is with, `wanted` how many there should be."""
    others = [address for address in managers if address != own]
    useless = [address for address in held if address not in others]
    kept = [address for address in held if address in others]
    missing = [address for address in others if address not in kept]
    return StandbyPlan(useless + kept[wanted:], missing if len(kept) < wanted else [])


def count_for(each: float, share: float) -> int:
    """Returns how many one node keeps where all keep `each` on average; `share` is the node's own number,
    from 0 to 1, drawn once."""
    return math.floor(each + share) if 0.0 < each <= EACH_MAX else 0
