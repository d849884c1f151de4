"""Who comes to a manager's port with a certificate of the swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skep.daemon.standby_connections import StandbyConnections
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.log_streams import PublishLogs, logs_brought
from skep.rpc.standby import HERE
from skep.rpc.streams import OpenStream, stream_asked_for

FIRST_FRAME_S = 10.0  # a node says at once why it comes, however busy its machine is


class ConnectionDispatch:
    """The first frame of a connection says what it is: a stream (managers only), log lines, or a session. It
    comes at once, but for one that is among `standbys`."""

    def __init__(
        self,
        connection: Connection,
        session: Callable[[Connection], Handler],
        stream: Callable[[FrameLink, OpenStream], None] | None,
        logs: Callable[[FrameLink, PublishLogs], None],
        standbys: StandbyConnections | None = None,
    ) -> None:
        self._connection = connection
        self._make_session = session
        self._stream = stream
        self._logs = logs
        self._session: Handler | None = None
        self._standbys = standbys
        self._deadline: asyncio.TimerHandle | None = None
        if standbys is None:
            self._deadline = asyncio.get_running_loop().call_later(FIRST_FRAME_S, connection.close)

    def connected(self, connection: Connection) -> None:
        """The peer speaks first."""
        if self._standbys is not None:
            self._standbys.enter(connection)

    def frame(self, data: bytes) -> None:
        if self._session is None:
            if not self._begins():
                return
            if self._is_taken(data):
                return
            self._session = self._make_session(self._connection)
            self._session.connected(self._connection)
        self._session.frame(data)

    def closed(self, reason: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._standbys is not None:
            self._standbys.leave(self._connection)
        if self._session is not None:
            self._session.closed(reason)

    def _begins(self) -> bool:
        """The first frame has come. False where the connection ends for it."""
        if self._deadline is not None:
            self._deadline.cancel()
        standbys, self._standbys = self._standbys, None
        if standbys is None:
            return True
        if not standbys.leave(self._connection):
            self._connection.close()
            return False
        self._connection.send(HERE)
        return True

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
