"""Requests of one process to somebody who counts them, one after the other."""

from __future__ import annotations

import asyncio


class Pace:
    """Lets `burst` requests go at once, and then `rate` a second, whoever makes them."""

    def __init__(self, rate: float, burst: int) -> None:
        self._gap_s, self._slack_s = 1.0 / rate, (burst - 1) / rate
        self._due = float("-inf")  # when the next request would come if all came evenly

    async def turn(self) -> None:
        """Waits for one's turn. Who waits is counted: there are as many as machines in one command."""
        now = asyncio.get_running_loop().time()
        due = max(self._due, now)
        self._due = due + self._gap_s
        await asyncio.sleep(max(0.0, due - now - self._slack_s))

    def hold(self, wait_s: float) -> None:
        """Nobody's turn comes for so long, and no burst after it: there have been too many."""
        self._due = max(self._due, asyncio.get_running_loop().time() + wait_s + self._slack_s)
