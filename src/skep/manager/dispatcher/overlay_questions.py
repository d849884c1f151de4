"""What nodes ask of large overlay networks, answered in turn: thousands ask in the same moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog
from msgspec import Struct

from skep.rpc.messages import OverlayAsk

log = structlog.get_logger()

TURN_S = 0.005  # of answering before others have their turn
QUEUE_MAX = 20_000  # some for each node of a large swarm, 100 bytes each mostly; who has no answer asks again
LATE_S = 1.0  # that a question waits for what has changed to be looked at; a node waits for two


class OverlayQuestion(Struct, frozen=True):
    """`until` (loop time) it may wait for what has changed. `is_told`: the node was told what was found."""

    node_id: str
    asked: OverlayAsk
    until: float
    is_told: bool = False


class OverlayQuestions:
    """`answer` answers a question, or returns it, as it is then: it may wait for what has changed to be
    looked at, unless it `is_late`."""

    def __init__(self, answer: Callable[[OverlayQuestion, bool], OverlayQuestion | None]) -> None:
        self._answer = answer
        self._queue: deque[OverlayQuestion] = deque()
        self._waiting: list[OverlayQuestion] = []
        self._next: asyncio.Handle | None = None

    def put(self, node_id: str, asked: OverlayAsk) -> None:
        loop = asyncio.get_running_loop()
        if len(self._queue) + len(self._waiting) < QUEUE_MAX:
            self._queue.append(OverlayQuestion(node_id, asked, loop.time() + LATE_S))
        self._go_on(loop)

    def looked(self) -> None:
        """Something of what had changed was looked at."""
        self._queue.extend(self._waiting)
        self._waiting.clear()
        self._go_on(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._queue.clear()
        self._waiting.clear()

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Who asks alone has an answer at once; one turn goes round with the loop."""
        if self._next is None and self._queue:
            self._take_turn(loop)

    def _take_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = loop.call_soon(self._take_turn, loop) if self._queue else None
        until = loop.time() + TURN_S
        while self._queue and loop.time() < until:
            question = self._queue.popleft()
            try:
                waits = self._answer(question, loop.time() >= question.until)
            except Exception:  # of this one only
                log.exception("overlays.not_answered", node_id=question.node_id)
            else:
                if waits is not None:
                    self._waiting.append(waits)
