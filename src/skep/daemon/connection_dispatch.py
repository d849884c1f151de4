"""Who comes to a manager's port with a certificate of the swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.log_streams import PublishLogs, logs_brought
from skep.rpc.streams import OpenStream, stream_asked_for

FIRST_FRAME_S = 10.0  # a node says at once why it comes, however busy its machine is


class ConnectionDispatch:
    """The first frame of a connection says what it is: a stream (managers only), log lines, or a session."""

    def __init__(
        self,
        connection: Connection,
        session: Callable[[Connection], Handler],
        stream: Callable[[FrameLink, OpenStream], None] | None,
        logs: Callable[[FrameLink, PublishLogs], None],
    ) -> None:
        self._connection = connection
        self._make_session = session
        self._stream = stream
        self._logs = logs
        self._session: Handler | None = None
        self._deadline = asyncio.get_running_loop().call_later(FIRST_FRAME_S, connection.close)

    def connected(self, connection: Connection) -> None:
        """Nothing to do: the peer speaks first."""

    def frame(self, data: bytes) -> None:
        if self._session is None:
            self._deadline.cancel()
            if self._is_taken(data):
                return
            self._session = self._make_session(self._connection)
            self._session.connected(self._connection)
        self._session.frame(data)

    def closed(self, reason: str) -> None:
        self._deadline.cancel()
        if self._session is not None:
            self._session.closed(reason)

    def _is_taken(self, data: bytes) -> bool:
        if not isinstance(self._connection, FrameLink):
            return False
        asked = stream_asked_for(data) if self._stream is not None else None
        if asked is not None and self._stream is not None:
            self._stream(self._connection, asked)
            return True
        brought = logs_brought(data)
        if brought is not None:
            self._logs(self._connection, brought)
        return brought is not None
