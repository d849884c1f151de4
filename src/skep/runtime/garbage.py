"""Keeps Python's full garbage collections out of busy moments.

One of them stops the event loop for as long as it looks at all there is: 0.15 s with the 170,000 objects of a
manager of 2,300 nodes. What lives is set aside (gc.freeze), again and again, so that they find next to
nothing; all of it is looked through when there is time. Reference counts free what is set aside as ever; only
cycles wait.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

LOOK_S = 10.0  # what a burst makes in that time is what a collection in its middle looks at
QUIET_CORES = 0.25  # a manager of 2,300 idle nodes uses 0.08 to 0.12
FULL_S, FULL_MAX_S = 300.0, 1800.0  # after so long at a quiet moment; after so long at any


class SetAside:
    """`cpu_s` returns the processor time that the process has used."""

    def __init__(self, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._cpu_s = cpu_s
        self._used_s = 0.0
        self._full_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """What is there by now, modules and classes, is set aside first."""
        self._full()
        self._again()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        gc.unfreeze()

    def _again(self) -> None:
        self._used_s = self._cpu_s()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        since_s = asyncio.get_running_loop().time() - self._full_at
        is_quiet = self._cpu_s() - self._used_s < QUIET_CORES * LOOK_S
        if since_s > FULL_MAX_S or (is_quiet and since_s > FULL_S):
            self._full()
        else:
            gc.collect(1)  # the young, in some milliseconds: their cycles need not wait
            gc.freeze()
        self._again()

    def _full(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._full_at = asyncio.get_running_loop().time()
