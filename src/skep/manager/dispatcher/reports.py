"""What nodes report of their tasks, taken in a little per turn of the loop.

When a large service ends, every node reports at once: a thousand messages of fifty statuses each are read in
one turn. Taken in at once, they would keep the loop from all else for a quarter of a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from skep.model.task import TaskStatus

TURN = 2_000  # statuses per turn of the loop: 10 ms
WAITING_MAX = 400_000  # as many as a large swarm reports at once, 100 MB; beyond, who reports has to wait

Statuses = list[tuple[str, TaskStatus]]


class Reports:
    """`take(node id, statuses)` hears them in the order in which they came."""

    def __init__(self, take: Callable[[str, Statuses], None]) -> None:
        self._take = take
        self._waiting: deque[tuple[str, Statuses]] = deque()
        self._count = 0
        self._turn: asyncio.Handle | None = None

    def add(self, node_id: str, items: Statuses) -> None:
        self._waiting.append((node_id, items))
        self._count += len(items)
        if self._count > WAITING_MAX:
            self._take_some(self._count)  # the loop reads nothing meanwhile
        elif self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        """What was not taken in is forgotten: the next leader is told again."""
        self._waiting.clear()
        self._count = 0
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _next(self) -> None:
        self._turn = None
        self._take_some(TURN)
        if self._waiting:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def _take_some(self, most: int) -> None:
        taken = 0
        while self._waiting and taken < most:
            node_id, items = self._waiting.popleft()
            taken += len(items)
            self._count -= len(items)
            self._take(node_id, items)
