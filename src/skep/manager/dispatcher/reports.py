"""What nodes report of their tasks, taken in a little per turn of the loop.

When a large service ends, every node reports at once: a thousand messages of fifty statuses each are read in
one turn. Taken in at once, they would keep the loop from all else for a quarter of a second. They wait as
they came, not decoded: a third of the memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from skep.model.bounds import STATUS_ERROR_MAX_BYTES, STATUS_MESSAGE_MAX_BYTES, STATUS_PORTS_MAX
from skep.model.task import TaskStatus

ID_MAX = 64  # an engine's
UTF8_MAX_BYTES = 4  # of one character
TURN_BYTES = 300_000  # per turn of the loop: about 2,000 statuses, 15 ms
WAITING_MAX_BYTES = 64 << 20  # four times what 100,000 tasks report at once; beyond, who reports has to wait


class Reports:
    """`take(node id, frame)` hears them in the order in which they came."""

    def __init__(self, take: Callable[[str, bytes], None]) -> None:
        self._take = take
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._size = 0
        self._turn: asyncio.Handle | None = None

    def add(self, node_id: str, frame: bytes) -> None:
        self._waiting.append((node_id, frame))
        self._size += len(frame)
        if self._size > WAITING_MAX_BYTES:
            self._take_some(self._size)  # the loop reads nothing meanwhile
        elif self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        """What was not taken in is forgotten: the next leader is told again."""
        self._waiting.clear()
        self._size = 0
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _next(self) -> None:
        self._turn = None
        self._take_some(TURN_BYTES)
        if self._waiting:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def _take_some(self, most: int) -> None:
        taken = 0
        while self._waiting and taken < most:
            node_id, frame = self._waiting.popleft()
            taken += len(frame)
            self._size -= len(frame)
            self._take(node_id, frame)


def bounded(status: TaskStatus) -> TaskStatus:
    """Returns what is kept of a node's word: all of it, but where it is longer than it may be. All tasks of a
    service on a node are one value of the store, whose size is bounded."""
    message, error = (
        _cut(status.message, STATUS_MESSAGE_MAX_BYTES),
        _cut(status.error, STATUS_ERROR_MAX_BYTES),
    )
    is_short = message is status.message and error is status.error
    if is_short and len(status.container_id) <= ID_MAX and len(status.ports) <= STATUS_PORTS_MAX:
        return status
    return replace(
        status,
        error=error,
        message=message,
        container_id=status.container_id[:ID_MAX],
        ports=status.ports[:STATUS_PORTS_MAX],
    )


def _cut(text: str, max_bytes: int) -> str:
    if len(text) * UTF8_MAX_BYTES <= max_bytes:
        return text  # nearly always
    whole = text.encode()
    return text if len(whole) <= max_bytes else f"{whole[:max_bytes].decode(errors='ignore')} …"
