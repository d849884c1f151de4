"""A manager's port: whoever can reach it may connect, and none of them may cost the manager its lead.

`admission` says who begins TLS and when, `half_received` how much may be held of frames that are not whole.
Connections of nodes are bounded per certificate, and all of them by the files that skepd may have open, of
which some are kept for what a manager cannot do without: its etcd, the API, the other managers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Callable

import structlog

from skep.rpc.admission import ARRIVED_MAX, Admission
from skep.rpc.half_received import NODES_MAX_BYTES, STRANGERS_MAX_BYTES, HalfReceived
from skep.rpc.link import HANDSHAKE_S, FrameLink, Watch, keep_alive
from skep.rpc.port import FRAME_MAX_BYTES, STRANGER_FRAME_MAX_BYTES, Handler
from skep.runtime.errors import NoAddress

log = structlog.get_logger()

BACKLOG = 4096  # connections the kernel may hold while the loop is busy with handshakes
# Connections taken, and handshakes begun, before the loop goes round: a handshake is 1 to 2.5 ms of work, and
# a leader to whom all nodes come at once must not be kept from its own beats for seconds.
TURN = 8
RETRY_S = 0.1  # after the system had no file or memory left for one more, or skepd none to spare
PLACE_POLL_S = 0.05  # how soon a place is seen whose time has run out
SWEEP_S = 0.5  # how often is looked for what takes too long
SAY_S = 1.0  # between two lines of the log about peers that are cut off: they can be hundreds a second

# A node's first frame says who it is, in up to 100,000 bytes (`dispatcher.DESCRIPTION_MAX_BYTES`), or asks
# for a stream. Only what is heard then may be as long as a whole set of statuses.
FIRST_FRAME_MAX_BYTES = 128 << 10
# Connections without a certificate that have shown a token: all workers of a large swarm that join at once,
# and wait together until some manager leads.
LET_IN_MAX = 3000
# Of one worker: its session, the one before it that is not yet known to be dead, and log streams that are
# being opened, one for each `docker service logs` that begins (open ones are the reader's, not counted here).
NODE_LINKS_MAX = 32
# Of one manager: streams that are being opened for calls to the leader, of all the users who ask through it.
MANAGER_LINKS_MAX = 1024
# Files for the API's clients and what is passed on for them, the streams of etcd, files on disk: as many as
# 500 users at once take through another manager; where skepd may have few, a quarter of them.
KEPT_FILES = 1024

MakeHandler = Callable[[FrameLink], Handler | None]


class LinkServer(Watch):
    """A listening manager port."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._make_handler: MakeHandler = lambda _: None
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._files = limit
        self._files_max = limit - min(KEPT_FILES, limit // 4)  # what the port may use up
        self._admission = Admission(min(ARRIVED_MAX, self._files_max // 4))
        self._more = asyncio.Event()  # somebody waits for a place, or one may be free
        self._arrived: dict[int, socket.socket] = {}  # connections without a place, by ticket
        self._unknown: dict[int, tuple[socket.socket, FrameLink]] = {}  # those with one, until they are known
        self._tickets: dict[FrameLink, int] = {}
        self._links: set[FrameLink] = set()
        self._let_in: set[FrameLink] = set()
        self._of_node: dict[str, dict[FrameLink, None]] = {}  # the oldest first
        self._halves: dict[bool, HalfReceived[FrameLink]] = {  # by: is it a node's?
            True: HalfReceived(NODES_MAX_BYTES),
            False: HalfReceived(STRANGERS_MAX_BYTES),
        }
        self._works: set[asyncio.Task[None]] = set()
        self._untold, self._tell_at = 0, 0.0  # peers that were cut off without a line in the log

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    async def listen(self, host: str, port: int, context: ssl.SSLContext, make_handler: MakeHandler) -> None:
        """Errors: `NoAddress` when the address cannot be used; names it."""
        try:
            self._listener = _listening(host, port)
        except OSError as error:
            raise NoAddress(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._context, self._make_handler = context, make_handler
        for work in (self._accept(self._listener), self._give_places(), self._sweep()):
            self._works.add(asyncio.ensure_future(work))

    async def reopen(self, context: ssl.SSLContext) -> None:
        """Makes new connections with this context. Those that stand stay, and no new one is refused."""
        self._context = context

    async def close(self) -> None:
        """Stops listening and ends all connections."""
        works = list(self._works)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        for ticket in list(self._arrived):
            self._turn_away(ticket)
        for link in list(self._links):
            link.close()
        await asyncio.sleep(0)

    # Until TLS begins

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

    # From then until it is known who came

    async def _give_places(self) -> None:
        loop = asyncio.get_running_loop()
        begun = 0
        while True:
            turn = self._admission.next(loop.time())
            if turn is None:
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PLACE_POLL_S if self._admission.is_waited_for else None):
                        await self._more.wait()
                continue
            if turn.evicted is not None:
                self._evict(turn.evicted)
            work = asyncio.ensure_future(self._shake_hands(turn.ticket))
            self._works.add(work)
            work.add_done_callback(self._works.discard)
            begun += 1
            if begun % TURN == 0:
                await asyncio.sleep(0)

    async def _shake_hands(self, ticket: int) -> None:
        plain, link = self._arrived.pop(ticket), FrameLink(self._make_handler, self)
        self._unknown[ticket], self._tickets[link] = (plain, link), ticket
        self._links.add(link)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                plain,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=1,
            )
        except OSError as error:  # the peer's trouble: it is told by TLS, or is gone
            log.debug("link.handshake", error=str(error))
            self.gone(link)

    def _evict(self, ticket: int) -> None:
        """Its place is another's now."""
        found = self._unknown.pop(ticket, None)
        if found is None:
            return
        plain, link = found
        link.cut("it did not say who it is while others waited")
        if not link.is_made:
            with contextlib.suppress(OSError):  # the transport sees that it has ended
                plain.shutdown(socket.SHUT_RDWR)

    # Watch

    def made(self, link: FrameLink) -> None:
        if link.identity is None:
            link.bound(STRANGER_FRAME_MAX_BYTES, STRANGER_FRAME_MAX_BYTES)
            return
        link.bound(FIRST_FRAME_MAX_BYTES, FRAME_MAX_BYTES)
        node_id, is_manager = link.identity.node_id, link.identity.role == "manager"
        links = self._of_node.setdefault(node_id, {})
        if len(links) >= (MANAGER_LINKS_MAX if is_manager else NODE_LINKS_MAX):
            # The newest is where the node is now; an older one that says nothing is worth least.
            worst = min(links, key=lambda other: other.has_spoken)
            del links[worst]
            worst.cut(f"the node has more than {len(links)} connections")
        links[link] = None
        self._known(link, "" if is_manager else node_id)

    def is_let_in(self, link: FrameLink) -> bool:
        if len(self._let_in) >= LET_IN_MAX:
            return False
        self._let_in.add(link)
        self._known(link, "")
        return True

    def half(self, link: FrameLink, size: int, is_new: bool) -> None:
        identity, now = link.identity, asyncio.get_running_loop().time()
        owner = identity.node_id if identity is not None else link.remote_host
        halves = self._halves[identity is not None]
        most = halves.hold(link, owner, size, now, is_new)
        if most is not None:
            halves.forget(most)
            most.cut("too much is held of frames that are not whole, and most of it is this peer's")

    def cuts(self, link: FrameLink, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._tell_at:
            self._untold += 1
            return
        node_id = link.identity.node_id if link.identity is not None else ""
        log.warning("link.cut", peer=link.remote_host, node_id=node_id, reason=reason, untold=self._untold)
        self._untold, self._tell_at = 0, now + SAY_S

    def gone(self, link: FrameLink) -> None:
        self._links.discard(link)
        self._let_in.discard(link)
        self._halves[link.identity is not None].forget(link)
        if link.identity is not None and (links := self._of_node.get(link.identity.node_id)):
            links.pop(link, None)
            if not links:
                del self._of_node[link.identity.node_id]
        ticket = self._tickets.pop(link, None)
        if ticket is not None:
            self._unknown.pop(ticket, None)
            self._admission.ended(ticket, asyncio.get_running_loop().time())
            self._more.set()

    # Inside

    def _known(self, link: FrameLink, name: str) -> None:
        ticket = self._tickets.get(link)
        if ticket is not None:
            self._unknown.pop(ticket, None)
            self._admission.known(ticket, name, asyncio.get_running_loop().time())
            self._more.set()

    async def _sweep(self) -> None:
        """Ends what takes too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = asyncio.get_running_loop().time()
            for ticket in self._admission.expired(now):
                self._turn_away(ticket)
            for halves in self._halves.values():
                for link in halves.late(now):
                    halves.forget(link)
                    link.cut("the rest of a frame did not come")


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
