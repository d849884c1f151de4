"""Byte streams in the simulated network: the product's own frames and streams above its connections.

What a stream carries arrives in order, as everything does; a peer whose machine is gone is noticed by the
kernel's keepalive, which sessions have no need of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import UNACKED_S, FrameLink


class Wire:
    """One end of a connection as a transport; fulfils `rpc.interfaces.Handler` towards the network."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._connection: Connection | None = None
        self._paused = False
        self._waiting: list[bytes] = []
        self._closing = False

    # What the network brings

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        self._protocol.connection_made(cast("asyncio.Transport", self))

    def frame(self, data: bytes) -> None:
        if self._paused:
            self._waiting.append(data)
        elif not self._closing:
            self._protocol.data_received(data)

    def closed(self, reason: str) -> None:
        self._closing = True
        self._protocol.connection_lost(None)

    def lost(self) -> None:
        """The peer's machine is gone, or what kept the connection in mind: the kernel finds out."""
        asyncio.get_running_loop().call_later(UNACKED_S, self.abort)

    # What a transport does

    def write(self, data: bytes) -> None:
        if self._connection is not None and not self._closing:
            self._connection.send(data)

    def close(self) -> None:
        if self._connection is not None and not self._closing:
            self._closing = True
            self._connection.close()

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.frame(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits to be written."""

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in ("sockname", "peername") and self._connection is not None:
            own = name == "sockname"
            return (self._connection.local_host if own else self._connection.remote_host, 0)
        return default

    def get_write_buffer_size(self) -> int:
        return 0


def link_of(make_handler: Callable[[Connection], Handler | None]) -> FrameLink:
    """Returns the product's own end of a stream."""
    return FrameLink(make_handler)
