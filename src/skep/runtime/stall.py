"""How long the event loop was last kept from its work: the figure that tells a sluggish manager."""

from __future__ import annotations

import asyncio

PERIOD_S = 0.02  # a stall is seen with this error


class StallWatch:
    """Measures how late a timer rings."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PERIOD_S, self._ring, loop.time() + PERIOD_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def reset(self) -> None:
        self.worst_s = 0.0

    def _ring(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self.worst_s = max(self.worst_s, loop.time() - due)
        self._timer = loop.call_later(PERIOD_S, self._ring, loop.time() + PERIOD_S)
