"""Time as an argument. Shells own a `Clock`; deciders get `now` as a number (seconds since the epoch)."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where a shell reads the wall clock. Waiting is asyncio's, whose loop a simulation replaces."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


class LoopClock:
    """The running event loop's time plus a fixed start: the clock of a simulation."""

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self._offset_s = 0.0  # how far this host's clock is off

    def jump(self, by_s: float) -> None:
        """The host's clock is set."""
        self._offset_s += by_s

    def now(self) -> float:
        return self._epoch_s + self._offset_s + asyncio.get_running_loop().time()


STEP_S = 86400.0  # a clock that is off by more was never set (a board without a battery): it is followed
SLEW = 0.1  # otherwise as much of each second goes into catching up


class SteadyClock:
    """A wall clock without jumps, for who decides by it: it runs with the event loop and follows `clock`
    slowly. Never goes back, but where it was off by more than a day."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.now()
        self._loop_at = asyncio.get_running_loop().time()

    def now(self) -> float:
        loop_at = asyncio.get_running_loop().time()
        passed = loop_at - self._loop_at
        at = self._at + passed
        off = self._clock.now() - at
        if abs(off) > STEP_S:
            at += off
        else:
            at += max(-passed * SLEW, min(passed * SLEW, off))
        self._at, self._loop_at = at, loop_at
        return at
