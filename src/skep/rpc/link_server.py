"""A manager's port: whoever can reach it may connect, and none of them may cost the manager its lead.

`entrance` and `admission` say who begins TLS and when, `half_received` how much may be held of frames that
are not whole; connections of nodes are bounded per certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import structlog

from skep.rpc.entrance import Entrance
from skep.rpc.half_received import NODES_MAX_BYTES, STRANGERS_MAX_BYTES, HalfReceived
from skep.rpc.interfaces import FRAME_MAX_BYTES, STRANGER_FRAME_MAX_BYTES, Handler
from skep.rpc.link import HANDSHAKE_S, FrameLink, Watch
from skep.runtime.errors import NoAddress
from skep.runtime.metrics import Gauge, LabelledCounter, Metric
from skep.runtime.supervise import cancel_and_wait

log = structlog.get_logger()

SWEEP_S = 0.5  # how often is looked for frames that take too long
SAY_S = 1.0  # between two lines of the log about peers that are cut off: they can be hundreds a second

# A node's first frame says who it is, in up to 100 KiB (`bounds.NODE_DESCRIPTION_SAID_MAX_BYTES`), or asks
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

# What became of a handshake: it was a node, or brought a token; it ended before that was known; its place was
# given to another.
KNOWN, UNKNOWN, EVICTED = "known", "unknown", "evicted"
MakeHandler = Callable[[FrameLink], Handler | None]


class LinkServer(Watch):
    """A listening manager port."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._make_handler: MakeHandler = lambda _: None
        self._entrance = Entrance(self._shake_hands, self._evict)
        self._unknown: dict[int, tuple[socket.socket, FrameLink]] = {}  # with a place, until they are known
        self._tickets: dict[FrameLink, int] = {}
        self._links: set[FrameLink] = set()
        self._let_in: set[FrameLink] = set()
        self._of_node: dict[str, dict[FrameLink, None]] = {}  # the oldest first
        self._halves: dict[bool, HalfReceived[FrameLink]] = {  # by: is it a node's?
            True: HalfReceived(NODES_MAX_BYTES),
            False: HalfReceived(STRANGERS_MAX_BYTES),
        }
        self._sweeping: asyncio.Task[None] | None = None
        self._untold, self._tell_at = 0, 0.0  # peers that were cut off without a line in the log
        self._handshakes = LabelledCounter(
            "skep_handshakes_total",
            "Connections to the manager's port that began TLS, by what became of them.",
            "result",
            (KNOWN, UNKNOWN, EVICTED),
        )
        self.metrics: tuple[Metric, ...] = (
            self._handshakes,
            Gauge("skep_connections", "Connections to the manager's port.", lambda: len(self._links)),
            Gauge(
                "skep_connections_waiting",
                "Connections to the manager's port that have not begun TLS yet.",
                lambda: self._entrance.waiting,
            ),
        )

    @property
    def port(self) -> int:
        return self._entrance.port

    async def listen(self, host: str, port: int, context: ssl.SSLContext, make_handler: MakeHandler) -> None:
        """Errors: `NoAddress` when the address cannot be used; names it."""
        self._context, self._make_handler = context, make_handler
        try:
            self._entrance.open(host, port)
        except OSError as error:
            raise NoAddress(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._sweeping = asyncio.ensure_future(self._sweep())

    async def reopen(self, context: ssl.SSLContext) -> None:
        """Makes new connections with this context. Those that stand stay, and no new one is refused."""
        self._context = context

    async def close(self) -> None:
        """Stops listening and ends all connections."""
        await cancel_and_wait(self._sweeping)
        await self._entrance.close()
        for link in list(self._links):
            link.close()
        await asyncio.sleep(0)

    async def _shake_hands(self, ticket: int, plain: socket.socket) -> None:
        link = FrameLink(self._make_handler, self)
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
        self._handshakes.add(EVICTED)
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
        most = MANAGER_LINKS_MAX if is_manager else NODE_LINKS_MAX
        if len(links) >= most:
            # The newest is where the node is now; an older one that says nothing is worth least.
            worst = min(links, key=lambda other: other.has_spoken)
            del links[worst]
            worst.cut(f"the node has more than {most} connections")
        links[link] = None
        self._known(link, "" if is_manager else node_id)

    def is_let_in(self, link: FrameLink) -> bool:
        if len(self._let_in) >= LET_IN_MAX:
            return False
        self._let_in.add(link)
        self._known(link, "")
        return True

    def became(self, link: FrameLink) -> None:
        self._let_in.discard(link)
        self._halves[False].forget(link)
        self.made(link)

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
            if self._unknown.pop(ticket, None) is not None:
                self._handshakes.add(UNKNOWN)
            self._entrance.ended(ticket)

    # Inside

    def _known(self, link: FrameLink, name: str) -> None:
        ticket = self._tickets.get(link)
        if ticket is not None:
            if self._unknown.pop(ticket, None) is not None:
                self._handshakes.add(KNOWN)
            self._entrance.known(ticket, name)

    async def _sweep(self) -> None:
        """Ends connections whose frames take too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = asyncio.get_running_loop().time()
            for halves in self._halves.values():
                for link in halves.late(now):
                    halves.forget(link)
                    link.cut("the rest of a frame did not come")
