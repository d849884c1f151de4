"""Both ends of a session, as tests of a manager's port have them."""

from __future__ import annotations

import asyncio

from skep.rpc.interfaces import Connection


class Echo:
    """A manager's: it says what it hears."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connected(self, connection: Connection) -> None: ...

    def frame(self, data: bytes) -> None:
        self._connection.send(data)

    def closed(self, reason: str) -> None: ...


class Node:
    """A node's: it `says` a word when it begins, if any, and keeps what it hears."""

    def __init__(self, says: bytes = b"register") -> None:
        self._says = says
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()

    def connected(self, connection: Connection) -> None:
        if self._says:
            connection.send(self._says)

    def frame(self, data: bytes) -> None:
        self.frames.put_nowait(data)

    def closed(self, reason: str) -> None:
        self.ended.set()
