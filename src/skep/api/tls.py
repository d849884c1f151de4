"""TLS that keeps its own direction open when the client has closed the other.

The docker client ends its input by close_notify (attach, exec, build) and goes on reading; asyncio's and
uvloop's TLS then drop what is still to be sent. Here TLS is driven by hand over memory buffers.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import structlog

log = structlog.get_logger()

HANDSHAKE_S = 30.0
READ_BYTES = 256 << 10


class HalfCloseTls(asyncio.Protocol, asyncio.Transport):
    """A protocol to the socket below, a transport to `inner` above."""

    def __init__(self, inner: asyncio.Protocol, context: ssl.SSLContext) -> None:
        asyncio.Transport.__init__(self)
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._socket: asyncio.Transport | None = None
        self._open = False
        self._read_ended = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    # Towards the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._open:
                self._tls.do_handshake()
                self._opened()
            while not self._closing:
                plain = self._tls.read(READ_BYTES)
                if not plain:
                    raise ssl.SSLZeroReturnError
                self._inner.data_received(plain)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            self._end_of_input()
        except ssl.SSLError as error:
            log.info("api.tls_failed", reason=error.reason or str(error))
            self._flush()
            self.abort()

    def eof_received(self) -> bool:
        if not self._open:
            return False
        self._end_of_input()
        return not self._closing

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._open:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _opened(self) -> None:
        self._open = True
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._inner.connection_made(self)

    def _end_of_input(self) -> None:
        if not self._read_ended:
            self._read_ended = True
            if not self._inner.eof_received():
                self.close()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._socket is not None and not self._socket.is_closing():
            self._socket.write(data)

    # Towards the application

    def write(self, data: Any) -> None:
        if not self._closing and data:
            self._tls.write(data)
            self._flush()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._open:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # the client's own close_notify is not waited for
            self._flush()
        if self._socket is not None:
            self._socket.close()

    def abort(self) -> None:
        self._closing = True
        if self._socket is not None:
            self._socket.abort()

    def is_closing(self) -> bool:
        return self._closing or self._socket is None or self._socket.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peercert":
            return self._tls.getpeercert()
        if name == "ssl_object":
            return self._tls
        if name == "sslcontext":
            return self._tls.context
        return self._socket.get_extra_info(name, default) if self._socket is not None else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner

    def is_reading(self) -> bool:
        return self._socket is not None and self._socket.is_reading()

    def pause_reading(self) -> None:
        if self._socket is not None:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if self._socket is not None:
            self._socket.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._socket.get_write_buffer_size() if self._socket is not None else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._socket is not None:
            self._socket.set_write_buffer_limits(high, low)
