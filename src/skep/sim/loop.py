"""An event loop whose time is virtual: it jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors

BUSY_MAX = 200_000  # turns of the loop without any time passing: a decider that never comes to rest
START_S = 1000.0  # not 0: some code uses 0 for "never"


class Stuck(RuntimeError):
    """Nothing is left that could ever happen, or the same happens again and again at one moment."""


class _NoSelector(selectors.SelectSelector):
    """Waits for nothing; tells the loop how far to jump."""

    loop: VirtualLoop
    busy = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("no timer is set and nothing is ready: the simulation is stuck")
        self.busy = 0 if timeout > 0 else self.busy + 1
        if self.busy > BUSY_MAX:
            raise Stuck(f"{BUSY_MAX} turns and no time has passed: something never comes to rest")
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs tasks and timers of this process only: no sockets, threads or child processes."""

    def __init__(self) -> None:
        selector = _NoSelector()
        self._virtual_s = START_S
        super().__init__(selector)
        # After years a float of seconds has no nanoseconds: a timer must be due when its time has come.
        self._clock_resolution = 1e-6
        selector.loop = self

    def time(self) -> float:
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Lets virtual time pass."""
        if seconds > 0:
            self._virtual_s += seconds
