"""Connections of strangers: so many at a time, whoever comes how often.

`asyncio`'s own servers take a hundred in one turn of the loop, and as many in all as there are files; that
there are no more they say with a trace, a thousand times a second.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import structlog
from msgspec import Struct

from skep.runtime.supervise import cancel_and_wait

log = structlog.get_logger()

BACKLOG = 128  # connections that the kernel holds while the loop is busy
RETRY_S = 0.1  # after the system had no file left for one more


class _Connection(Struct, frozen=True):
    plain: socket.socket  # which is closed when its transport has ended
    transport: asyncio.Transport


class BoundedListener:
    """Takes connections of listening sockets, which are its own from then on, one after the other: `make`
    makes the protocol of each. There are `most` of them; the oldest is ended where more come, so that whoever
    holds many does not keep others out. Runs from when it is made until `close`."""

    def __init__(
        self, listeners: Sequence[socket.socket], make: Callable[[], asyncio.Protocol], most: int
    ) -> None:
        self._listeners = listeners
        self._make = make
        self._most = most
        self._known: list[_Connection] = []  # who came first is first
        self._accepting = [asyncio.ensure_future(self._accept(each)) for each in listeners]

    @property
    def port(self) -> int:
        """Returns the first one's."""
        return int(self._listeners[0].getsockname()[1])

    async def close(self) -> None:
        """Takes no more connections; those that stand are the protocols'."""
        for work in self._accepting:
            await cancel_and_wait(work)
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        loop, has_said = asyncio.get_running_loop(), False
        while True:
            try:
                plain, _ = await loop.sock_accept(listener)
                transport, _ = await loop.connect_accepted_socket(self._make, plain)
            except OSError as error:
                if not has_said:
                    log.warning("listener.accept", error=str(error))
                has_said = True
                await asyncio.sleep(RETRY_S)
                continue
            has_said = False
            self._known = [each for each in self._known if each.plain.fileno() >= 0]
            self._known.append(_Connection(plain, transport))
            if len(self._known) > self._most:
                self._known[0].transport.abort()
                await asyncio.sleep(0)  # then it is closed
