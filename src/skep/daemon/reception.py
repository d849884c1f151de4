"""Who comes to a manager's port with a manager's certificate."""

from __future__ import annotations

from collections.abc import Callable

from skep.rpc.link import FrameLink
from skep.rpc.port import Connection, Handler
from skep.rpc.streams import OpenStream, stream_asked_for


class Reception:
    """The first frame of a manager's connection says what it wants: a stream, or a session of its agent."""

    def __init__(
        self,
        connection: Connection,
        session: Callable[[Connection], Handler],
        stream: Callable[[FrameLink, OpenStream], None],
    ) -> None:
        self._connection = connection
        self._make_session = session
        self._stream = stream
        self._session: Handler | None = None

    def connected(self, connection: Connection) -> None:
        """Nothing to do: the peer speaks first."""

    def frame(self, data: bytes) -> None:
        if self._session is None:
            asked = stream_asked_for(data)
            if asked is not None and isinstance(self._connection, FrameLink):
                self._stream(self._connection, asked)
                return
            self._session = self._make_session(self._connection)
            self._session.connected(self._connection)
        self._session.frame(data)

    def closed(self, reason: str) -> None:
        if self._session is not None:
            self._session.closed(reason)
