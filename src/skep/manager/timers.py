"""When which service or slot is to be looked at again."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterator

from skep.runtime.clock import Clock
from skep.store.view import SlotKey

ALARM_MIN_S = 0.001  # closer than that, a float of wall clock seconds may not see that time has passed


class Timers:
    """An alarm is set by the wall clock and rings by the loop's time, which never jumps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The number parts those of one time, whose keys cannot be compared.
        self._alarms: list[tuple[float, int, str, SlotKey | None]] = []
        self._numbers = itertools.count()
        self._alarm_at: dict[tuple[str, SlotKey | None], float] = {}

    def set(self, at: float | None, service_id: str, key: SlotKey | None) -> None:
        """Has it ring at that time of the wall clock, or earlier where it is set already; `key` is None for
        the service itself."""
        if at is None:
            return
        at = asyncio.get_running_loop().time() + max(ALARM_MIN_S, at - self._clock.now())
        known = self._alarm_at.get((service_id, key))
        if known is not None and known <= at:
            return
        self._alarm_at[service_id, key] = at
        # One that was set before, for later, rings in vain.
        heapq.heappush(self._alarms, (at, next(self._numbers), service_id, key))

    def next_s(self) -> float | None:
        """Returns how long it is until the next one; None where there is none."""
        if not self._alarms:
            return None
        return max(0.0, self._alarms[0][0] - asyncio.get_running_loop().time())

    def ring(self) -> Iterator[tuple[str, SlotKey | None]]:
        """Takes those whose time has come."""
        now = asyncio.get_running_loop().time()
        while self._alarms and self._alarms[0][0] <= now:
            at, _, service_id, key = heapq.heappop(self._alarms)
            if self._alarm_at.get((service_id, key)) == at:
                del self._alarm_at[service_id, key]
            yield service_id, key
