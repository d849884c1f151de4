"""A manager that does not lead hears of the swarm's events from the one that does, and remembers them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from skep.daemon.platform import LeaderLine
from skep.manager.events import EventHub
from skep.runtime.errors import SkepError

POLL_S = 0.5  # how soon it is noticed that another manager leads, or that somebody listens to tasks now


async def follow_events(hub: EventHub, line: LeaderLine, leader_socket: Callable[[], str | None]) -> None:
    """Runs until cancelled. What was missed between two leaders is asked of the next: each remembers."""
    while True:
        socket = leader_socket()
        if socket is None:
            await asyncio.sleep(POLL_S)
            continue
        tasks = hub.wants_tasks
        reading = asyncio.ensure_future(_read(hub, line, tasks))
        try:
            while not reading.done() and leader_socket() == socket and hub.wants_tasks == tasks:
                await asyncio.wait([reading], timeout=POLL_S)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, SkepError):
                await reading
        await asyncio.sleep(POLL_S)


async def _read(hub: EventHub, line: LeaderLine, tasks: bool) -> None:
    async for event in line.events(tasks):
        hub.take(event)
