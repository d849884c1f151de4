"""Requests that only the leader can answer: answered here where we lead, else passed on to who does.

A change of leader takes some seconds. Reads wait for it, and so do writes that have not been sent; a write
whose answer was lost is the client's to look after: it is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiohttp import ClientError, ClientResponse, ClientSession, web
from yarl import URL

from skep.api.decode import read_bytes
from skep.api.errors import NO_LEADER
from skep.api.interfaces import SwarmNode
from skep.api.relay import end_to_end, relay
from skep.client.sockets import SocketSessions
from skep.runtime import attempt
from skep.runtime.errors import Deposed, NoLeader, NotManager, Unavailable

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")

WAIT_S = 15.0  # a leader that died is replaced in 3 s; twice that where etcd's votes were split, and room
POLL_S, LED_POLL_S = 0.1, 0.25
LET_GO_S = 2.0  # a leader that was deposed may end what it is saying; the longest list takes a second
KNOCK_S = 2.0  # until a manager that was the leader has shown that it is there
LOST = (
    "the leader was lost while it carried this out: it may or may not have been done."
    " Look at what is there, then try again"
)


class _NotDone(Unavailable):
    """Nothing has happened: another try is safe."""


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks the leader, again and again for a while where there is none. Errors: what `ask` raises;
    `Unavailable` where the lead was lost after something was written."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            return await ask()
        except (NoLeader, Deposed) as error:
            if attempt.has_written():
                raise Unavailable(LOST) from error
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(POLL_S)


class LeaderForward:
    """`node` knows who leads."""

    def __init__(self, node: SwarmNode) -> None:
        self._node = node
        self._sessions = SocketSessions(auto_decompress=False)

    async def close(self) -> None:
        await self._sessions.close()

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Errors: what the handler raises; `NoLeader` after a while without one; `Unavailable`, also where
        the lead was lost after something was written."""
        deadline = asyncio.get_running_loop().time() + WAIT_S
        await read_bytes(request)
        while True:
            try:
                socket = self._node.leader_socket()
                if socket is not None:
                    return await self._pass_on(request, socket)
                self._check_led()
                return await handler(request)
            except (NoLeader, Deposed, _NotDone) as error:
                if attempt.has_written():
                    raise Unavailable(LOST) from error
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(POLL_S)

    def _check_led(self) -> None:
        """Errors: `NoLeader`. What is no manager the handler says, behind what is wrong with the request: so
        does Docker."""
        try:
            self._node.manager()
        except NotManager as error:
            if isinstance(error, NoLeader):
                raise

    async def _pass_on(self, request: web.Request, socket: str) -> web.StreamResponse:
        session = self._sessions.of(socket)
        is_read = request.method in ("GET", "HEAD")
        if not is_read:
            await self._knock(session)
        asking = asyncio.ensure_future(
            session.request(
                request.method,
                URL("http://leader" + request.raw_path, encoded=True),
                headers=end_to_end(request.headers.items()),
                data=await read_bytes(request),
            )
        )
        try:
            await self._until_answered(asking, socket)
            upstream = await asking
        except (ClientError, OSError, Unavailable) as error:
            if is_read:
                raise _NotDone(str(error)) from error
            raise Unavailable(LOST) from error
        finally:
            asking.cancel()
        return await self._relay(request, upstream, socket)

    async def _until_answered(self, asking: asyncio.Future[ClientResponse], socket: str) -> None:
        """Errors: `Unavailable` where another manager leads before there is an answer: one that hangs
        would never give it."""
        loop = asyncio.get_running_loop()
        led_at = loop.time()
        while not asking.done():
            await asyncio.wait([asking], timeout=LED_POLL_S)
            if self._node.leader_socket() == socket:
                led_at = loop.time()
            elif not asking.done() and loop.time() - led_at > WAIT_S:
                raise Unavailable("nobody has led for too long")
            if not asking.done() and self._another_leads(socket):
                raise Unavailable("the manager that led does not any more")

    def _another_leads(self, socket: str) -> bool:
        """False also while nobody is known to lead: who was asked may go on after a vote of etcd's."""
        found = self._node.leader_socket()
        if found is not None:
            return found != socket
        try:
            self._node.manager()
        except NotManager as error:
            return not isinstance(error, NoLeader)
        return True

    async def _relay(self, request: web.Request, upstream: ClientResponse, socket: str) -> web.StreamResponse:
        if upstream.headers.get(NO_LEADER):
            upstream.release()
            raise NoLeader("the manager that led does not any more")
        relaying = asyncio.ensure_future(relay(request, upstream))
        try:
            await self._until_relayed(relaying, socket)
            upstream.close()  # where it is not over, it breaks off
            return await relaying
        finally:
            relaying.cancel()

    async def _until_relayed(self, relaying: asyncio.Future[web.StreamResponse], socket: str) -> None:
        """Returns also where another manager has led for a while: logs that are followed through one that
        hangs would neither go on nor end."""
        loop = asyncio.get_running_loop()
        led_at = loop.time()
        while not relaying.done() and loop.time() - led_at < LET_GO_S:
            await asyncio.wait([relaying], timeout=LED_POLL_S)
            if not self._another_leads(socket):
                led_at = loop.time()

    async def _knock(self, session: ClientSession) -> None:
        """A write is only sent to a manager that is there. Errors: `_NotDone`."""
        try:
            async with asyncio.timeout(KNOCK_S), session.get("http://leader/_ping") as answer:
                await answer.read()
        except (ClientError, OSError, TimeoutError) as error:
            raise _NotDone(str(error)) from error
