"""Swarm events for `docker events`, as Docker emits them (Engine API 1.51 `/events`; tasks have none)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from skep.model.event import Event
from skep.runtime.clock import Clock

KEPT = 256  # events a late subscriber may still ask for (`since`): Docker's own number
QUEUE_MAX = 1024  # a subscriber that reads slower than this is cut off


class EventHub:
    """Hands events to whoever listens, without ever waiting for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._queues: set[asyncio.Queue[Event | None]] = set()

    def emit(self, type_: str, action: str, object_id: str, **attributes: str) -> None:
        """Records an event; attribute names use `__` for the dot of Docker's (`state__new`)."""
        named = {k.replace("__", "."): v for k, v in attributes.items()}
        event = Event(type_, action, object_id, named, self._clock.now())
        self._kept.append(event)
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def listen(self, since: float | None = None) -> AsyncIterator[Event]:
        """Yields kept events from `since` on, then what happens, until the caller stops or is too slow."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE_MAX)
        self._queues.add(queue)
        try:
            if since is not None:
                for event in list(self._kept):
                    if event.at >= since:
                        yield event
            while (event_or_end := await queue.get()) is not None:
                yield event_or_end
        finally:
            self._queues.discard(queue)
