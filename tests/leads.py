"""Taking the lead in a real etcd: a candidate is patient for less than a second, a busy machine's first
connection may take longer."""

from __future__ import annotations

import contextlib

from skep.runtime.errors import Unavailable
from skep.store.election import Campaign, Leadership

_LOOKS = 10  # of less than a second each: who needs more has no etcd


async def win(campaign: Campaign) -> Leadership:
    """Returns the lead, looked for again as a daemon does while the store does not answer."""
    for _ in range(_LOOKS):
        with contextlib.suppress(Unavailable):
            return await campaign.win()
    raise AssertionError("the store does not answer")
