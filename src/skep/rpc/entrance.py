"""The entrance of a manager's port: connections are taken, wait until their peer has said something, and
begin TLS when `admission` has a place for them.

The port leaves files to what a manager cannot do without: its etcd, the API and the other managers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from skep.rpc.admission import ARRIVED_MAX, Admission, grace_s
from skep.rpc.link import keep_alive

log = structlog.get_logger()

BACKLOG = 4096  # connections the kernel may hold while the loop is busy with handshakes
# Connections taken, and handshakes begun, before the loop goes round: a handshake is 1 to 2.5 ms of work, and
# a leader to whom all nodes come at once must not be kept from its own beats for seconds.
TURN = 8
RETRY_S = 0.1  # after the system had no file or memory left for one more, or skepd none to spare
PLACE_POLL_S = 0.05  # how soon a place is seen whose time has run out; `TURN` of them at a time, 160 a second
LOOK_S = 0.25  # how often is looked for who has been silent too long, and how slow the loop is
# Files for the API's clients and what is passed on for them, the streams of etcd, files on disk: as many as
# 500 users at once take through another manager; where skepd may have few, a quarter of them.
KEPT_FILES = 1024


class Entrance:
    """`begin(ticket, socket)` does TLS with a connection that has got a place; `evict(ticket)` ends one that
    has lost it."""

    def __init__(
        self,
        begin: Callable[[int, socket.socket], Coroutine[Any, Any, None]],
        evict: Callable[[int], None],
    ) -> None:
        self._begin = begin
        self._evict = evict
        self._listener: socket.socket | None = None
        self._files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._files_max = self._files - min(KEPT_FILES, self._files // 4)  # what the port may use up
        self._admission = Admission(min(ARRIVED_MAX, self._files_max // 4))
        self._arrived: dict[int, socket.socket] = {}  # connections without a place, by ticket
        self._more = asyncio.Event()  # somebody waits for a place, or one may be free
        self._lag_s = 0.0  # what the loop took lately to go round once
        self._works: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    @property
    def waiting(self) -> int:
        """Returns how many connections have no place."""
        return len(self._arrived)

    def open(self, host: str, port: int) -> None:
        """Listens. Errors: `OSError`."""
        self._listener = _listening(host, port)
        for work in (self._accept(self._listener), self._give_places(), self._look()):
            self._works.add(asyncio.ensure_future(work))

    async def close(self) -> None:
        works = list(self._works)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        for ticket in list(self._arrived):
            self._turn_away(ticket)

    def known(self, ticket: int, name: str) -> None:
        """It is known who came: `Admission.known`."""
        self._admission.known(ticket, name, asyncio.get_running_loop().time())
        self._more.set()

    def ended(self, ticket: int) -> None:
        """The connection has ended."""
        self._admission.ended(ticket, asyncio.get_running_loop().time())
        self._more.set()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        taken = 0
        while True:
            await self._wait_for_files(listener)
            try:
                plain, address = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("link.accept", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            ticket, dropped = self._admission.arrive(address[0], loop.time())
            self._arrived[ticket] = plain
            loop.add_reader(plain, self._readable, ticket)
            if dropped is not None:
                self._turn_away(dropped)
            taken += 1
            if taken % TURN == 0:
                await asyncio.sleep(0)

    async def _wait_for_files(self, listener: socket.socket) -> None:
        """Waits while the port's part of the files is used up; who connects waits in the kernel's queue."""
        if _lowest_free(listener) < self._files_max:
            return
        log.error(
            "link.files",
            error="connections to the manager's port have to wait: too many files are open",
            limit=self._files,
            kept=self._files - self._files_max,
            advice="raise skepd's limit (LimitNOFILE= of its unit) above twice the number of nodes",
        )
        while _lowest_free(listener) >= self._files_max:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(RETRY_S)
        log.info("link.files_free")

    def _readable(self, ticket: int) -> None:
        """The peer has sent something, or closed."""
        plain = self._arrived.get(ticket)
        if plain is None:
            return
        try:
            is_there = bool(plain.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            is_there = False
        if not is_there:
            self._admission.leave(ticket)
            self._turn_away(ticket)
            return
        asyncio.get_running_loop().remove_reader(plain)
        self._admission.speak(ticket)
        self._more.set()

    def _turn_away(self, ticket: int) -> None:
        plain = self._arrived.pop(ticket)
        asyncio.get_running_loop().remove_reader(plain)
        plain.close()

    async def _give_places(self) -> None:
        loop = asyncio.get_running_loop()
        begun = after = 0
        while True:
            turn = self._admission.next(loop.time(), grace_s(self._lag_s))
            if turn is None:
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PLACE_POLL_S if self._admission.is_waited_for else None):
                        await self._more.wait()
                continue
            if turn.evicted is not None:
                self._evict(turn.evicted)
            work = asyncio.ensure_future(self._begin(turn.ticket, self._arrived.pop(turn.ticket)))
            self._works.add(work)
            work.add_done_callback(self._works.discard)
            begun += 1
            after += turn.is_after
            if turn.is_after and after % TURN == 0:
                # Places that were taken at once are free at once: who gets them must not end so, too, or the
                # loop would have all their work at the same moment, again and again.
                await asyncio.sleep(PLACE_POLL_S)
            elif begun % TURN == 0:
                await asyncio.sleep(0)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(LOOK_S)
            now = loop.time()
            self._lag_s = max(now - began - LOOK_S, self._lag_s / 2)
            for ticket in self._admission.expired(now):
                self._turn_away(ticket)


def _lowest_free(listener: socket.socket) -> int:
    """Returns the number that the next file gets that is opened: as many are open, at least."""
    try:
        lowest = os.dup(listener.fileno())
    except OSError:
        return 1 << 30
    os.close(lowest)
    return lowest


def _listening(host: str, port: int) -> socket.socket:
    """Returns a listening socket; what connects to it inherits its options. Errors: `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keep_alive(plain)
        plain.setblocking(False)
        plain.bind(address)
        plain.listen(BACKLOG)
    except OSError:
        plain.close()
        raise
    return plain
