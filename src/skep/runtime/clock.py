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

    def now(self) -> float:
        return self._epoch_s + asyncio.get_running_loop().time()
