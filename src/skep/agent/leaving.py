"""When a task that serves others may be told to end: when nobody leads new connections to it any more.

All nodes hear of it in one moment, before its own node does, and most have let it go in a twentieth of a
second. One that has much to do, or no manager just then, takes longer. Nobody waits for some thousand nodes
to say that they have, of which one is always late: the task's own node sees whether connections still begin,
and waits until none does. What it sees is what would fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

# At least, from when the node hears that the task is to end: some seldom have a new connection.
LEAVE_S = 1.0
# … and from the last one that has begun. A node that is late, and leads three a second there, pauses as long
# about once in four hundred times.
QUIET_S = 2.0
# At most: some client may have learnt the address long ago, and go on; a proxy may lead to tasks by itself.
LEAVE_MAX_S = 5.0
LOOK_S = 0.1  # one read of a socket that mostly has nothing
# Tasks that are looked at, at a time; others leave after `LEAVE_S`. Each is a socket, and a filter that all
# packets of this host pass at each device: 80 ns each, so 1.3 µs for as many, at some four devices.
WATCHED_MAX = 16


class Arrivals(Protocol):
    """`network.arrivals.Arrivals`, or a test's."""

    def came(self) -> bool: ...
    def close(self) -> None: ...


class Leaving:
    """`watch` looks at connections to some addresses."""

    def __init__(self, watch: Callable[[list[str]], Arrivals]) -> None:
        self._watch = watch
        self._watched = 0

    async def left(self, addresses: list[str], is_led: Callable[[], bool]) -> None:
        """Returns when a task with these addresses may be told to end. `is_led`: this node itself leads to it
        still."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        arrivals = self._watch(addresses) if self._watched < WATCHED_MAX else None
        self._watched += arrivals is not None
        came_at: float | None = None
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                now = loop.time()
                if arrivals is not None and arrivals.came():
                    came_at = now
                if may_end(now - began, None if came_at is None else now - came_at, is_led()):
                    return
        finally:
            if arrivals is not None:
                self._watched -= 1
                arrivals.close()


def may_end(told_s: float, quiet_s: float | None, is_led: bool) -> bool:
    """Returns whether a task may be told to end that was given up `told_s` ago, and to which the last
    connection began `quiet_s` ago; None: none has since then. Pure."""
    if told_s >= LEAVE_MAX_S:
        return True
    return told_s >= LEAVE_S and not is_led and (quiet_s is None or quiet_s >= QUIET_S)
