"""Calls by unix sockets that lead to several daemons: a pool of connections for each."""

from __future__ import annotations

from aiohttp import ClientSession, ClientTimeout, UnixConnector


class SocketSessions:
    """`total_s`: how long a call may take, its answer's body included; None: as long as it takes."""

    def __init__(self, total_s: float | None = None, auto_decompress: bool = True) -> None:
        self._timeout = ClientTimeout(total=total_s)
        self._auto_decompress = auto_decompress
        self._sessions: dict[str, ClientSession] = {}

    def of(self, socket: str) -> ClientSession:
        found = self._sessions.get(socket)
        if found is None:
            found = self._sessions[socket] = ClientSession(
                connector=UnixConnector(socket, limit=0),
                timeout=self._timeout,
                auto_decompress=self._auto_decompress,
            )
        return found

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}
