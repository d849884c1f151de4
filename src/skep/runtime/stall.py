"""How long the event loop was last kept from its work: the figure that tells a sluggish manager."""

from __future__ import annotations

import asyncio
import time

from skep.runtime.metrics import Gauge, Histogram, Metric

PERIOD_S = 0.02  # a stall is seen with this error
BOUNDS_S = (0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # a manager is in trouble from some seconds on


class StallWatch:
    """Measures how late a timer rings: `worst_s`, and how much of that the loop itself worked
    (`worst_cpu_s`), and did not only wait for a processor that others had."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.worst_cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._late = Histogram(
            "skep_loop_stall_seconds",
            "How late the event loop went round, looked at fifty times a second.",
            BOUNDS_S,
        )
        self.metrics: tuple[Metric, ...] = (
            Gauge(
                "skep_loop_stall_max_seconds",
                "How late the event loop was at most since this was last reset.",
                lambda: self.worst_s,
            ),
            Gauge(
                "skep_loop_stall_cpu_max_seconds",
                "… and how much of that at most it worked itself.",
                lambda: self.worst_cpu_s,
            ),
            self._late,
        )

    def start(self) -> None:
        self._set()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def reset(self) -> None:
        self.worst_s = self.worst_cpu_s = 0.0

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PERIOD_S, self._ring, loop.time() + PERIOD_S, time.thread_time())

    def _ring(self, due: float, worked: float) -> None:
        late_s = asyncio.get_running_loop().time() - due
        self._late.observe(late_s)
        self.worst_s = max(self.worst_s, late_s)
        self.worst_cpu_s = max(self.worst_cpu_s, min(late_s, time.thread_time() - worked))
        self._set()
