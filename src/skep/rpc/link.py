"""Frames over TLS: four bytes of length, then the frame. Protocols, not streams: 2,300 of them share a loop.

Writes of one turn of the loop leave together. A peer that sends garbage or does not read is cut off. Who
listens is `link_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, cast

import structlog

from skep.model.mesh import is_numeric
from skep.rpc import standby
from skep.rpc.certificates import identity_of
from skep.rpc.interfaces import BUFFER_MAX_BYTES, FRAME_MAX_BYTES, Handler, Identity
from skep.runtime.errors import Denied, Invalid, SkepError, Unavailable, Unsupported

log = structlog.get_logger()

CONNECT_S = 3.0  # a host that is gone: a round of three managers must end before a node is given up
HANDSHAKE_S = 15.0  # 2,300 nodes that come at once need 2,300 handshakes of 2 ms on one core, with room
# A peer whose machine is gone is noticed by the kernel within five seconds, for some bytes per second and
# connection: nodes must be with a new leader before long, and etcd's stream has no time-out of its own.
KEEPALIVE_S, PROBES, UNACKED_S = 2, 3, 4
_LENGTH = struct.Struct(">I")


class Watch:
    """What an end does about its connections. This one does nothing: who connects knows whom it trusts."""

    def made(self, link: FrameLink) -> None:
        """TLS stands, and it is known whose certificate the peer has."""

    def is_let_in(self, link: FrameLink) -> bool:
        """The peer, which has no certificate, has shown a token. False where too many have at a time."""
        return True

    def became(self, link: FrameLink) -> None:
        """It is known who the peer is, which had come without a certificate."""

    def half(self, link: FrameLink, size: int, is_new: bool) -> None:
        """So many bytes of a frame are held until the rest comes; `is_new`: of another frame than before."""

    def cuts(self, link: FrameLink, reason: str) -> None:
        """The peer is being cut off."""
        log.warning("link.cut", peer=link.remote_host, reason=reason)

    def gone(self, link: FrameLink) -> None:
        """The connection has ended, or is a stream from now on."""


class FrameLink(asyncio.Protocol):
    """One connection; fulfils `rpc.interfaces.Connection`."""

    def __init__(
        self, make_handler: Callable[[FrameLink], Handler | None], watch: Watch | None = None
    ) -> None:
        self.identity: Identity | None = None
        self.remote_host = ""
        self.local_host = ""  # the address that this end is reached at
        self.peer_certificate: bytes | None = None
        self.has_spoken = False  # the peer has sent a frame
        self.is_standby = False  # it was opened to wait (`rpc.standby`)
        self._rests = False  # … and does so still
        self._frame_max_bytes = self._later_max_bytes = FRAME_MAX_BYTES
        self._make_handler: Callable[[FrameLink], Handler | None] = make_handler
        self._watch = watch or Watch()
        self._handler: Handler | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._outgoing: list[bytes] = []
        self._reason = "the peer closed the connection"
        self._successor: asyncio.Protocol | None = None
        self._reading = False
        self._is_cut = False

    @property
    def is_made(self) -> bool:
        """True from when TLS stands until the connection ends."""
        return self._transport is not None

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
                self.is_standby = self._rests = tls.selected_alpn_protocol() == standby.PROTOCOL
            if self._rests:
                self._ask_after(standby.KEEPALIVE_S)
            self._watch.made(self)
            self._handler = self._make_handler(self)
        except (Invalid, Denied) as error:
            self.cut(str(error))
        if self._handler is None:
            self._transport.abort()
            return
        self._handler.connected(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        was_half = bool(buffer)
        buffer += data
        start, end = 0, len(buffer)
        self._reading = True
        while end - start >= 4 and self._handler is not None and not self._is_cut:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self._frame_max_bytes:
                self._reading = False
                self.cut(f"a frame of {length} bytes was announced, {self._frame_max_bytes} may be")
                return
            if end - start - 4 < length:
                break
            frame = bytes(memoryview(buffer)[start + 4 : start + 4 + length])
            start += 4 + length
            if self._rests:
                self._wake()
            self.has_spoken, self._frame_max_bytes = True, self._later_max_bytes
            self._deliver(frame)
        del buffer[:start]
        self._reading = False
        self._pass_rest()
        if (buffer or was_half) and self._handler is not None:
            self._watch.half(self, len(buffer), is_new=start > 0)

    def _deliver(self, frame: bytes) -> None:
        assert self._handler is not None
        try:
            self._handler.frame(frame)
        except Invalid as error:
            self.cut(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        handler, self._handler = self._handler, None
        self._transport = None
        self._outgoing.clear()
        self._buffer = bytearray()
        self._watch.gone(self)
        if handler is not None:
            handler.closed(self._reason)

    # Connection

    def send(self, frame: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._rests:
            self._wake()
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(_LENGTH.pack(len(frame)))
        self._outgoing.append(frame)

    def close(self) -> None:
        """Sends what is queued, then ends the connection."""
        if self._rests and self._transport is not None:  # nothing is queued, nor to come
            self._transport.abort()
        elif self._transport is not None:
            self._flush()
            if self._transport is not None:
                self._transport.close()

    def bound(self, first_max_bytes: int, later_max_bytes: int) -> None:
        """How long the peer's first frame may be, and those after it."""
        self._frame_max_bytes, self._later_max_bytes = first_max_bytes, later_max_bytes

    def let_in(self) -> bool:
        """The peer has no certificate, but has shown a token. False where too many have at a time."""
        return self._watch.is_let_in(self)

    def become(self, identity: Identity, handler: Handler) -> None:
        """The peer has shown on this very connection who it is: from now on it is served as that. Errors:
        `Unavailable` where the connection has ended."""
        if self._transport is None or self._transport.is_closing():
            raise Unavailable(f"the connection to {self.remote_host} has ended")
        self.identity, self._handler = identity, handler
        self._watch.became(self)
        handler.connected(self)

    def hand_over(self, successor: asyncio.Protocol) -> None:
        """From now on the connection is the successor's, with what came behind the last frame."""
        self._flush()
        transport, self._transport = self._transport, None
        if transport is None or transport.is_closing():
            raise Unavailable(f"the connection to {self.remote_host} has ended")
        self._handler = None
        self._successor = successor
        self._watch.gone(self)
        transport.set_protocol(successor)
        successor.connection_made(transport)
        if not self._reading:
            self._pass_rest()

    def _wake(self) -> None:
        """A standby connection is used from now on."""
        self._rests = False
        self._ask_after(KEEPALIVE_S)

    def _ask_after(self, idle_s: int) -> None:
        plain = self._transport.get_extra_info("socket") if self._transport is not None else None
        if plain is not None:
            with contextlib.suppress(OSError):  # it has just ended
                _ask_after(plain, idle_s)

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
            self.cut("it does not read what it is sent")

    def cut(self, reason: str) -> None:
        """Ends the connection at once; `reason` is for the log, and for the handler."""
        if self._is_cut or self._transport is None:
            return
        self._watch.cuts(self, reason)
        self._is_cut = True
        self._reason = reason
        self._transport.abort()


def keep_alive(plain: socket.socket) -> None:
    """Has the kernel end connections to machines that are gone (tcp(7))."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    _ask_after(plain, KEEPALIVE_S)


def _ask_after(plain: socket.socket, idle_s: int) -> None:
    """Has the kernel ask after the peer when nothing was heard for as long. The time-out counts from what was
    heard last, too: were it no longer than that, one answer that is lost would end the connection."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (idle_s + UNACKED_S - KEEPALIVE_S) * 1000)


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    handler: Handler,
    *,
    timeout_s: float = HANDSHAKE_S,
    expect_role: str | None = "manager",
    is_standby: bool = False,
) -> FrameLink:
    """Returns the connection once TLS stands. Errors: `Unavailable`, `Denied`; both name the address.
    `is_standby`: it is to wait (the context offers that); `Unsupported` where an earlier manager has none."""
    refused: list[SkepError] = []

    def made(link: FrameLink) -> Handler | None:
        identity = link.identity
        if expect_role is not None and (identity is None or identity.role != expect_role):
            refused.append(Denied(f"{host}:{port} is not a {expect_role} of this swarm"))
        elif is_standby and not link.is_standby:
            refused.append(
                Unsupported(f"{host}:{port} is of an earlier skep: it keeps no standby connections")
            )
        return None if refused else handler

    try:
        plain = await _open_socket(host, port)
        async with asyncio.timeout(timeout_s):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: FrameLink(made),
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
        raise refused[0]
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
    if is_numeric(host):  # not through the loop's threads: thousands of nodes connect at once
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
        keep_alive(plain)
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
