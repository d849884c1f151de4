"""Whether this node's engine answers: it is pinged once in a heartbeat, over a connection of its own.

An engine that was stopped, or waits for its disk, keeps its connections open: nothing is heard of it, and
nothing fails. Its node's heartbeats go on, so the node has to say it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import structlog

from skep.runtime.errors import SkepError

log = structlog.get_logger()

PERIOD_MIN_S = 1.0  # a ping is cheap, and yet no reason to wake an engine more often
# Heartbeats without an answer, until the engine counts as silent: twice a node's own three. An engine that is
# started again, as at its every upgrade, is back in ten to twenty seconds, and its containers may run on.
SILENT_BEATS = 6
SILENT_MIN_S = 10.0  # also where heartbeats are shorter: an engine on a slow disk stands still for seconds


class Pulse:
    """`ping(deadline in seconds)` asks the engine; `heartbeat_s` gives the period of now. `changed(is silent,
    is in doubt)` hears when either is another.

    Unanswered pings are counted, not seconds: while this process stands still, nobody asks.
    """

    def __init__(
        self,
        ping: Callable[[float], Awaitable[None]],
        heartbeat_s: Callable[[], float],
        changed: Callable[[bool, bool], None],
    ) -> None:
        self._ping = ping
        self._heartbeat_s = heartbeat_s
        self._changed = changed
        self._missed = 0
        self._is_silent = False
        self.is_in_doubt = False  # from the first ping without an answer: who asks it now may wait in vain

    async def run(self) -> None:
        """Asks for as long as it is not cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            period_s, began = max(self._heartbeat_s(), PERIOD_MIN_S), loop.time()
            why = ""
            try:
                await self._ping(period_s)
                self._missed = 0
            except SkepError as error:
                self._missed += 1
                why = str(error)
            most = max(SILENT_BEATS, math.ceil(SILENT_MIN_S / period_s))
            self._set(self._missed >= most, self._missed > 0, why)
            await asyncio.sleep(max(0.0, began + period_s - loop.time()))

    def _set(self, is_silent: bool, is_in_doubt: bool, why: str) -> None:
        if (is_silent, is_in_doubt) == (self._is_silent, self.is_in_doubt):
            return
        if is_silent:
            log.error("engine.silent", error=why, pings=self._missed)
        elif self._is_silent:
            log.info("engine.answers")
        self._is_silent, self.is_in_doubt = is_silent, is_in_doubt
        self._changed(is_silent, is_in_doubt)
