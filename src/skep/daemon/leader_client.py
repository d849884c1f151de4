"""Calls of this daemon's own to another manager, over its door: is it well, take this node in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import ClientError, ClientTimeout

from skep.client.sockets import SocketSessions
from skep.model.event import Event
from skep.rpc import enrolment_messages as wire
from skep.runtime.errors import Conflict, Denied, Invalid, NoLeader, NotFound, SkepError, Unavailable

CALL_S = 10.0
KNOCK_S = 2.0  # whether a manager is well: asked every second
HEALTH, SEEN, ENROL, SWARM, EVENTS = (
    f"/skep/v1/{name}" for name in ("health", "seen", "enrol", "swarm", "events")
)
_KINDS: dict[int, type[SkepError]] = {400: Invalid, 403: Denied, 404: NotFound, 409: Conflict}


class EnrolFor(msgspec.Struct, frozen=True):
    """A node that joins through another manager, which has chosen its id: asked for again, it is the same
    node. `remote_host` is where it came from."""

    request: wire.Enrol
    remote_host: str
    node_id: str


class LeaderClient:
    """`socket_of_leader` says where the leader's API is; None where there is none but this manager."""

    def __init__(self, socket_of_leader: Callable[[], str | None]) -> None:
        self._socket_of_leader = socket_of_leader
        self._sessions = SocketSessions(CALL_S)

    async def close(self) -> None:
        await self._sessions.close()

    async def is_well(self, socket: str) -> bool:
        """True when the manager behind that door answers, and its etcd does."""
        try:
            async with asyncio.timeout(KNOCK_S):
                await self._call(socket, "GET", HEALTH)
        except (SkepError, TimeoutError):
            return False
        return True

    async def seen(self, socket: str) -> list[str]:
        """Returns the nodes that came lately to the manager behind that door. Errors: `Unavailable`,
        `NotFound` of an earlier skep."""
        return msgspec.json.decode(await self._call(socket, "GET", SEEN), type=list[str])

    async def swarm(self) -> dict[str, Any]:
        """Returns what the leader says of the swarm (`/info`). Errors: `Unavailable`."""
        socket = self._socket_of_leader()
        if socket is None:
            raise NoLeader("no manager leads at the moment")
        async with asyncio.timeout(KNOCK_S):
            found = msgspec.json.decode(await self._call(socket, "GET", SWARM))
        return found if isinstance(found, dict) else {}

    async def enrol(self, asked: EnrolFor) -> wire.Enrolled:
        """Has the leader take a node in. Errors: as the leader's, `Unavailable`."""
        socket = self._socket_of_leader()
        if socket is None:
            raise NoLeader("the swarm has no leader at the moment; try again")
        answer = await self._call(socket, "POST", ENROL, wire.encode(asked))
        return msgspec.msgpack.decode(answer, type=wire.Enrolled)

    async def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Returns the leader's answer. Errors: as the leader's, `NoLeader`, `Unavailable`."""
        socket = self._socket_of_leader()
        if socket is None:
            raise NoLeader("no manager leads at the moment")
        return await self._call(socket, method, path, body)

    async def demote(self, node_id: str) -> None:
        """Has the leader make that manager a worker. Errors: as the leader's, `Unavailable`."""
        socket = self._socket_of_leader()
        if socket is None:
            raise NoLeader("the swarm has no leader at the moment; try again")
        node = msgspec.json.decode(await self._call(socket, "GET", f"/nodes/{node_id}"))
        spec = {**node["Spec"], "Role": "worker"}
        path = f"/nodes/{node_id}/update?version={node['Version']['Index']}"
        await self._call(socket, "POST", path, msgspec.json.encode(spec))

    async def events(self, tasks: bool) -> AsyncIterator[Event]:
        """Yields what the leader remembers, then what happens, until it leads no more.

        Errors: `Unavailable`.
        """
        socket = self._socket_of_leader()
        if socket is None:
            raise NoLeader("no manager leads at the moment")
        query = {"since": "0", "tasks": "1" if tasks else "0"}  # `since`: for leaders of before `tasks`
        timeout = ClientTimeout(total=None, sock_connect=KNOCK_S)
        try:
            async with self._sessions.of(socket).get(
                "http://manager" + EVENTS, params=query, timeout=timeout
            ) as answer:
                if answer.status >= 400:
                    return
                async for line in answer.content:
                    yield msgspec.json.decode(line, type=Event)
        except (ClientError, OSError, ValueError) as error:  # also a line that is no event, or endless
            raise Unavailable(f"the leader's events ended: {error}") from error

    async def _call(self, socket: str, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            session, url = self._sessions.of(socket), "http://manager" + path
            async with session.request(method, url, data=body) as answer:
                content = await answer.read()
        except (ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"the manager does not answer: {error or type(error).__name__}") from error
        if answer.status >= 400:
            try:
                message = str(msgspec.json.decode(content)["message"])
            except (msgspec.DecodeError, KeyError, TypeError):
                message = content.decode(errors="replace")
            raise _KINDS.get(answer.status, Unavailable)(message)
        return content
