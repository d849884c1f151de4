"""When nodes are told what has changed: together with what changes within a moment, a longer one for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

log = structlog.get_logger()

BATCH_S = 0.05  # as statuses: a burst of starts is one message, nobody sees the delay
# What all nodes are told may take a tenth of a fast line: a service of 3,000 tasks is 120 kB for each node.
BYTES_PER_S = 20 << 20
# A message to one node, however short, takes the leader some 40 microseconds to make, encrypt and write, and
# nodes twice as long to take in: where each of thousands of nodes is told something else, at most so many.
MESSAGES_PER_S = 10_000
# A service whose tasks come and go costs as many as it has, each time: so much of the manager's time at most.
# Who is about to end is told a second later, and all nodes have to hear of it before.
SHARE, PAUSE_MAX_S = 0.2, 0.4
AGAIN_S = 5.0  # before what could not be told, for an error of ours, is told again


class Batches:
    """`tell` tells what has changed. Where it raises, it is called again after a while."""

    def __init__(self, name: str, tell: Callable[[], None]) -> None:
        self._name = name
        self._tell = tell
        self._timer: asyncio.Handle | None = None
        self._at = 0.0  # loop time that it is set to, which uvloop's handles do not always say
        self._is_soon = False  # as `soon` would have it
        self._not_before = 0.0  # loop time: what was told last is on its way by then

    @property
    def wait_s(self) -> float:
        """Returns how long it is until what was told last is on its way."""
        return max(0.0, self._not_before - asyncio.get_running_loop().time())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_soon = False

    def soon(self) -> None:
        """Something is to be told, with what comes in the next moment."""
        if not self._is_soon:  # it is said for each task that is reported
            self.within(BATCH_S)
            self._is_soon = True  # also where something is to be told before

    def within(self, delay_s: float) -> None:
        """Something is to be told after so long, or before, with what else there is by then."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(delay_s, self.wait_s)
        if self._timer is None or self._at > at:
            self.stop()
            self._timer, self._at = loop.call_at(at, self._flush), at
            self._is_soon = delay_s <= BATCH_S

    def at_once(self) -> None:
        """Something is to be told now, unless what was told last is still on its way."""
        if self.wait_s:
            self.soon()
        else:
            self._flush()

    def sent(self, size_bytes: int, messages: int = 0) -> None:
        """So much was sent, to all nodes together; in so many messages, where each is another one."""
        now = asyncio.get_running_loop().time()
        busy_s = size_bytes / BYTES_PER_S + messages / MESSAGES_PER_S
        self._not_before = max(self._not_before, now) + busy_s

    def _flush(self) -> None:
        self.stop()
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        try:
            self._tell()
            pause_s = (loop.time() - begun_at) * (1 / SHARE - 1)
            self._not_before = max(self._not_before, loop.time() + min(pause_s, PAUSE_MAX_S))
            if self._timer is not None:  # there is more to tell, after the pause
                delay_s = self._at - loop.time()
                self.stop()
                self.within(delay_s)
        except Exception:
            log.exception(f"{self._name}.not_told")
            self._not_before = loop.time() + AGAIN_S
            self.soon()
