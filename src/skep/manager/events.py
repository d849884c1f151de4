"""Swarm events for `docker events`, as Docker emits them (Engine API 1.51 `/events`).

Every manager has a hub. The leader's deciders and control emit into theirs; the other managers' follow it
(`daemon.leader_events`) and remember what they saw, so that history outlives a leader. What the leader
emitted in its last moment and nobody heard is lost, and what all managers have forgotten since their start.
"""

from __future__ import annotations

import asyncio

from skep.model.event import TASK, Event
from skep.runtime.clock import Clock

# Docker keeps 256. A failover says one of each node: what came before must still be there afterwards. 2 MB.
KEPT = 4096
KEPT_TASKS = 1024  # of tasks, apart: a scale-up must not push everything else out
QUEUE_MAX = 1024  # a subscriber that reads slower than this is cut off
# Of these as many may wait beside, 5 MB; then some are left out and counted: a scale-up makes half a million.
QUEUE_TASKS_MAX = 8192
MISSED = "missed"  # the action that says how many were left out


class Feed:
    """What happens from its making on, until it is closed, or its reader was too slow."""

    def __init__(self, hub: EventHub, wants_tasks: bool) -> None:
        self.wants_tasks = wants_tasks
        self._hub = hub
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._tasks = 0  # waiting in the queue
        self._missed = 0

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Event:
        if self._missed and not self._tasks:
            missed, self._missed = self._missed, 0
            return Event(TASK, MISSED, "", {"count": str(missed)}, self._hub.now())
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        if event.type == TASK:
            self._tasks -= 1
        return event

    def close(self) -> None:
        self._hub.drop(self)

    def put(self, event: Event) -> bool:
        """False where the reader is too slow: its feed ends here, after what it has not read yet. Of events
        of tasks it is only told how many it missed, once it has read the ones before."""
        if event.type == TASK:
            if self._missed or self._tasks >= QUEUE_TASKS_MAX:
                self._missed += 1
            else:
                self._tasks += 1
                self._queue.put_nowait(event)
            return True
        if self._queue.qsize() - self._tasks < QUEUE_MAX:
            self._queue.put_nowait(event)
            return True
        self._queue.put_nowait(None)
        return False


class EventHub:
    """Hands events to whoever listens, without ever waiting for them. `origin` is this hub's own name."""

    def __init__(self, clock: Clock, origin: str = "") -> None:
        self._clock = clock
        self._origin = origin
        self._number = 0
        self._kept: dict[tuple[str, int, str, float], Event] = {}  # oldest first
        self._kept_tasks: dict[tuple[str, int, str, float], Event] = {}
        self._feeds: list[Feed] = []
        self.wants_tasks = False  # while somebody listens to events of tasks; read for each change of one
        self._tasks_since = 0.0

    def now(self) -> float:
        """Returns epoch seconds."""
        return self._clock.now()

    def emit(self, type_: str, action: str, object_id: str, **attributes: str) -> None:
        """Records an event; attribute names use `__` for the dot of Docker's (`state__new`)."""
        self._number += 1
        named = {k.replace("__", "."): v for k, v in attributes.items()}
        self._hand_out(Event(type_, action, object_id, named, self._clock.now(), self._origin, self._number))

    def take(self, event: Event) -> None:
        """Records what another manager saw; what is known is not news."""
        if event.origin == self._origin or event.key in self._kept or event.key in self._kept_tasks:
            return
        if event.type == TASK and event.at < self._tasks_since:
            self._keep(event)  # from before anybody listened here: for who asks for history
        else:
            self._hand_out(event)

    def history(self, since_ns: int = 0, until_ns: int | None = None, tasks: bool = False) -> list[Event]:
        """Returns what is remembered of that time, ends included, in its order."""
        known = [*self._kept.values(), *(self._kept_tasks.values() if tasks else ())]
        found = [e for e in known if e.at_ns >= since_ns and (until_ns is None or e.at_ns <= until_ns)]
        return sorted(found, key=lambda e: e.at)

    def subscribe(self, tasks: bool = False) -> Feed:
        """Returns what happens from now on; the caller closes it."""
        feed = Feed(self, tasks)
        self._feeds.append(feed)
        if tasks and not self.wants_tasks:
            self.wants_tasks, self._tasks_since = True, self.now()
        return feed

    def drop(self, feed: Feed) -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)
            self.wants_tasks = any(each.wants_tasks for each in self._feeds)

    def forget(self) -> None:
        """This node left its swarm: the next one is told nothing of it."""
        self._kept.clear()
        self._kept_tasks.clear()

    def _hand_out(self, event: Event) -> None:
        self._keep(event)
        for feed in list(self._feeds):
            if (feed.wants_tasks or event.type != TASK) and not feed.put(event):
                self.drop(feed)

    def _keep(self, event: Event) -> None:
        kept, most = (self._kept_tasks, KEPT_TASKS) if event.type == TASK else (self._kept, KEPT)
        if len(kept) >= most:
            del kept[next(iter(kept))]
        kept[event.key] = event
