"""Frames over TLS: four bytes of length, then the frame. Protocols, not streams: 2,300 of them share a loop.

Writes of one turn of the loop leave together. A peer that sends garbage or does not read is cut off.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, cast

import structlog

from skep.rpc.certificates import identity_of
from skep.rpc.port import BUFFER_MAX_BYTES, FRAME_MAX_BYTES, Connection, Handler, Identity
from skep.runtime.errors import Denied, Invalid, NoAddress, Unavailable

log = structlog.get_logger()

CONNECT_S = 3.0  # a host that is gone: a round of three managers must end before a node is given up
HANDSHAKE_S = 15.0  # 2,300 nodes that come at once need 2,300 handshakes of 2 ms on one core, with room
# A peer whose machine is gone is noticed by the kernel within five seconds, for some bytes per second and
# connection: nodes must be with a new leader before long, and etcd's stream has no time-out of its own.
KEEPALIVE_S, PROBES, UNACKED_S = 2, 3, 4
BACKLOG = 4096  # connections the kernel may hold while the loop is busy with handshakes
# Connections taken before the loop goes round: a handshake is 1 to 2 ms of work, and a leader to whom all
# nodes come at once must not be kept from its own beats for seconds. The rest wait in the kernel's queue.
ACCEPT_TURN = 8
ACCEPT_RETRY_S = 0.1  # after the system had no file or memory left for one more
ANONYMOUS_MAX = 4096  # connections without a certificate at a time: those that enrol, and strangers
_LENGTH = struct.Struct(">I")


class FrameLink(asyncio.Protocol):
    """One connection; fulfils `rpc.port.Connection`."""

    def __init__(
        self, make_handler: Callable[[Connection], Handler | None], gone: Callable[[FrameLink], None]
    ) -> None:
        self.identity: Identity | None = None
        self.remote_host = ""
        self.local_host = ""  # the address that this end is reached at
        self.peer_certificate: bytes | None = None
        self._make_handler = make_handler
        self._gone = gone
        self._handler: Handler | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._outgoing: list[bytes] = []
        self._reason = "the peer closed the connection"
        self._successor: asyncio.Protocol | None = None
        self._reading = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.local_host = own[0] if isinstance(own, tuple) else ""
        self.remote_host = peer[0] if isinstance(peer, tuple) else ""
        tls = transport.get_extra_info("ssl_object")
        self.peer_certificate = tls.getpeercert(True) if tls is not None else None
        try:
            if self.peer_certificate is not None and tls.context.verify_mode != ssl.CERT_NONE:
                self.identity = identity_of(self.peer_certificate)
            self._handler = self._make_handler(self)
        except (Invalid, Denied) as error:
            self._cut(str(error))
        if self._handler is None:
            self._transport.abort()
            return
        self._handler.connected(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        self._reading = True
        while end - start >= 4 and self._handler is not None:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > FRAME_MAX_BYTES:
                self._reading = False
                self._cut(f"a frame of {length} bytes was announced")
                return
            if end - start - 4 < length:
                break
            frame = bytes(memoryview(buffer)[start + 4 : start + 4 + length])
            start += 4 + length
            self._deliver(frame)
        del buffer[:start]
        self._reading = False
        self._pass_rest()

    def _deliver(self, frame: bytes) -> None:
        assert self._handler is not None
        try:
            self._handler.frame(frame)
        except Invalid as error:
            self._cut(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        handler, self._handler = self._handler, None
        self._transport = None
        self._outgoing.clear()
        self._gone(self)
        if handler is not None:
            handler.closed(self._reason)

    # Connection

    def send(self, frame: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(_LENGTH.pack(len(frame)))
        self._outgoing.append(frame)

    def close(self) -> None:
        """Sends what is queued, then ends the connection."""
        if self._transport is not None:
            self._flush()
            if self._transport is not None:
                self._transport.close()

    def hand_over(self, successor: asyncio.Protocol) -> None:
        """From now on the connection is the successor's, with what came behind the last frame."""
        self._flush()
        transport, self._transport = self._transport, None
        if transport is None or transport.is_closing():
            raise Unavailable(f"the connection to {self.remote_host} has ended")
        self._handler = None
        self._successor = successor
        self._gone(self)
        transport.set_protocol(successor)
        successor.connection_made(transport)
        if not self._reading:
            self._pass_rest()

    def _pass_rest(self) -> None:
        if self._successor is not None and self._buffer:
            rest, self._buffer = bytes(self._buffer), bytearray()
            self._successor.data_received(rest)

    def _flush(self) -> None:
        transport, parts = self._transport, self._outgoing
        if transport is None or not parts:
            return
        self._outgoing = []
        transport.write(b"".join(parts))
        if transport.get_write_buffer_size() > BUFFER_MAX_BYTES:
            self._cut("it does not read what it is sent")

    def _cut(self, reason: str) -> None:
        log.warning("link.cut", peer=self.remote_host, reason=reason)
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()


class LinkServer:
    """A listening manager port."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._shaking: set[asyncio.Task[None]] = set()
        self._links: set[FrameLink] = set()
        self._strangers: set[FrameLink] = set()  # connections without a certificate that were let in

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    async def listen(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        make_handler: Callable[[Connection], Handler | None],
    ) -> None:
        """Errors: `NoAddress` when the address cannot be used; names it."""

        def made(connection: Connection) -> Handler | None:
            if connection.identity is None and len(self._strangers) >= ANONYMOUS_MAX:
                return None
            if connection.identity is None:
                self._strangers.add(cast("FrameLink", connection))
            return make_handler(connection)

        try:
            self._listener = _listening(host, port)
        except OSError as error:
            raise NoAddress(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._context = context
        self._accepting = asyncio.ensure_future(self._accept(self._listener, made))

    async def _accept(
        self, listener: socket.socket, make_handler: Callable[[Connection], Handler | None]
    ) -> None:
        loop = asyncio.get_running_loop()
        taken = 0
        while True:
            try:
                plain, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("link.accept", error=str(error))
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            work = asyncio.ensure_future(self._shake_hands(plain, make_handler))
            self._shaking.add(work)
            work.add_done_callback(self._shaking.discard)
            taken += 1
            if taken % ACCEPT_TURN == 0:
                await asyncio.sleep(0)

    async def _shake_hands(
        self, plain: socket.socket, make_handler: Callable[[Connection], Handler | None]
    ) -> None:
        link = FrameLink(make_handler, self._forget)
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
            self._links.discard(link)

    async def reopen(self, context: ssl.SSLContext) -> None:
        """Makes new connections with this context. Those that stand stay, and no new one is refused."""
        self._context = context

    def _forget(self, link: FrameLink) -> None:
        self._links.discard(link)
        self._strangers.discard(link)

    async def close(self) -> None:
        """Stops listening and ends all connections."""
        works = [*self._shaking, *([self._accepting] if self._accepting is not None else [])]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links):
            link.close()
        await asyncio.sleep(0)


def _listening(host: str, port: int) -> socket.socket:
    """Returns a listening socket; what connects to it inherits its options. Errors: `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _keep_alive(plain)
        plain.setblocking(False)
        plain.bind(address)
        plain.listen(BACKLOG)
    except OSError:
        plain.close()
        raise
    return plain


def _keep_alive(plain: socket.socket) -> None:
    """Has the kernel end connections to machines that are gone (tcp(7))."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKED_S * 1000)


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    handler: Handler,
    *,
    timeout_s: float = HANDSHAKE_S,
    expect_role: str | None = "manager",
) -> FrameLink:
    """Returns the connection once TLS stands. Errors: `Unavailable`, `Denied`; both name the address."""
    refused: list[str] = []

    def made(connection: Connection) -> Handler | None:
        identity = connection.identity
        if expect_role is not None and (identity is None or identity.role != expect_role):
            refused.append(f"{host}:{port} is not a {expect_role} of this swarm")
            return None
        return handler

    try:
        plain = await _open_socket(host, port)
        async with asyncio.timeout(timeout_s):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: FrameLink(made, lambda _: None),
                sock=plain,
                ssl=context,
                server_hostname="",
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=1,
            )
    except ssl.SSLCertVerificationError as error:
        raise Denied(f"{host}:{port} is not of this swarm: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise Unavailable(f"no TLS connection to {host}:{port}: {error.reason or error}") from error
    except TimeoutError as error:
        raise Unavailable(f"{host}:{port} did not answer within {timeout_s:g} s") from error
    except OSError as error:
        # Docker's own words (grpc-go's, as of 20.10), which people search for.
        desc = f'connection error: desc = "transport: Error while dialing {_why(host, port, error)}"'
        raise Unavailable(f"rpc error: code = Unavailable desc = {desc}") from error
    if refused:
        raise Denied(refused[0])
    return link


def _why(host: str, port: int, error: OSError) -> str:
    """Returns in Go's words why there is no connection."""
    if isinstance(error, socket.gaierror):
        is_unknown = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        reason = "no such host" if is_unknown else str(error.strerror).lower()
        return f"dial tcp: lookup {host}: {reason}"
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"dial tcp {host}:{port}: connect: {reason}"


async def _open_socket(host: str, port: int) -> socket.socket:
    """Connects to the first of the host's addresses that answers. Errors: `OSError`, `Unavailable`."""
    try:
        async with asyncio.timeout(CONNECT_S):
            return await _first_of(await _addresses_of(host, port))
    except TimeoutError as error:
        raise Unavailable(f"{host}:{port} did not answer within {CONNECT_S:g} s") from error


async def _addresses_of(host: str, port: int) -> list[Any]:
    """Errors: `OSError`, also for what cannot be a name."""
    if _is_numeric(host):  # not through the loop's threads: thousands of nodes connect at once
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long (IDNA): nobody was asked
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error


async def _first_of(found: list[Any]) -> socket.socket:
    refused: OSError | None = None
    for family, kind, protocol, _, address in found:
        plain = socket.socket(family, kind, protocol)
        plain.setblocking(False)
        _keep_alive(plain)
        try:
            await asyncio.get_running_loop().sock_connect(plain, address)
            return plain
        except OSError as error:
            plain.close()
            refused = error
        except BaseException:
            plain.close()
            raise
    assert refused is not None
    raise refused


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
