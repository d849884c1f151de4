"""What this node's tasks do, to the manager: everything as a session starts, then changes in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from skep.agent.session import Session
from skep.model.task import TaskStatus
from skep.rpc.messages import Statuses

BATCH_S = 0.05  # statuses wait this long for company: a burst of starts is one message, a user sees no delay
ITEMS_MAX = 20_000  # statuses per message, about 4 MB: below the frame limit of 16 MB


class Reporter:
    """Holds the latest status of each task that the manager does not know yet: one per task at most."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: dict[str, TaskStatus] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, everything: Iterable[tuple[str, TaskStatus]]) -> None:
        """A session has begun: it is told everything, at once."""
        self._pending = dict(everything)
        self._flush()

    def report(self, task_id: str, status: TaskStatus) -> None:
        """Queues a status; without a session it is part of everything when the next one begins."""
        self._pending[task_id] = status
        if self._session.is_registered and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._session.is_registered:
            return
        items = list(self._pending.items())
        self._pending.clear()
        for start in range(0, len(items), ITEMS_MAX):
            self._session.send(Statuses(items[start : start + ITEMS_MAX]))
