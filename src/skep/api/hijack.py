"""Streams that stop being HTTP: attach, exec, build sessions. Each direction ends on its own.

aiohttp's transport is taken over after the request's body was read; from then on bytes are only passed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from skep.api.decode import read_whole
from skep.api.engine import LocalEngine

CHUNK = 64 << 10
BODY_MAX_BYTES = 1 << 20  # bodies of exec and attach are a line of JSON
PENDING_MAX_BYTES = 1 << 20  # read from the client and not yet taken by the engine
# aiohttp has answered what is expected, and puts chunks together.
_ANSWERED = frozenset({b"expect", b"transfer-encoding", b"trailer"})


class _Raw(asyncio.Protocol):
    """The client's side once it is raw; reading pauses when the engine does not keep up."""

    def __init__(self, transport: asyncio.Transport, first: bytes) -> None:
        self._transport = transport
        self._chunks: list[bytes] = [first] if first else []
        self._size = len(first)
        self._ended = False
        self._news = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > PENDING_MAX_BYTES:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._news.set()
        return True  # our direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self.lost.set()
        self.writable.set()
        self._news.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def read(self) -> bytes:
        """Returns what has come; nothing at the end."""
        while not self._chunks and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        if self._size > PENDING_MAX_BYTES and not self.lost.is_set():
            self._transport.resume_reading()
        self._size = 0
        return data


class _Taken(web.Response):
    """Nothing more for aiohttp to send on this connection."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None

    @property
    def keep_alive(self) -> bool | None:
        return False


async def hijack(request: web.Request, engine: LocalEngine, path: str) -> web.StreamResponse:
    """Passes bytes between client and engine until both directions ended.

    Errors: `Unavailable`, `Invalid` for a body in chunks that is too large.
    """
    # The engine first: what comes between the reading and the taking over would be lost.
    reader, writer = await engine.open_raw()
    try:
        headers, body = await _what_came(request)
    except BaseException:
        writer.close()
        raise
    raw = _take_over(request)
    head = f"{request.method} {path} HTTP/1.1\r\n".encode()
    head += b"".join(k + b": " + v + b"\r\n" for k, v in headers)
    writer.write(head + b"\r\n" + body)
    transport = cast("asyncio.Transport", request.transport)
    upward = asyncio.ensure_future(_upward(raw, writer))
    downward = asyncio.ensure_future(_downward(reader, raw, transport))
    try:
        await asyncio.wait(
            [downward, asyncio.ensure_future(raw.lost.wait())], return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        upward.cancel()
        downward.cancel()
        writer.close()
        transport.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(raw.lost.wait(), 5)
        if not raw.lost.is_set():
            transport.abort()
    return _Taken()


async def _what_came(request: web.Request) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Returns the headers for the engine, and the body: the whole where it comes in chunks. Where its length
    is said, what is there: the rest is passed on as all that follows is. Errors: `Invalid`."""
    headers = [(k, v) for k, v in request.raw_headers if k.lower() not in _ANSWERED]
    if not request.body_exists:
        return headers, b""
    if "Transfer-Encoding" not in request.headers:
        return headers, request.content.read_nowait()
    body = await read_whole(request, BODY_MAX_BYTES)
    return [*headers, (b"Content-Length", str(len(body)).encode())], body


def _take_over(request: web.Request) -> _Raw:
    protocol = request.protocol
    transport = cast("asyncio.Transport", request.transport)
    tail = bytes(protocol._message_tail)  # what the client sent right behind its request
    protocol._message_tail = b""
    raw = _Raw(transport, tail)
    transport.set_protocol(raw)
    request.content.feed_eof()  # else aiohttp would wait, in the end, for what is left of the body
    with contextlib.suppress(RuntimeError, AttributeError):
        transport.resume_reading()
    return raw


async def _upward(raw: _Raw, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await raw.read():
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _downward(reader: asyncio.StreamReader, raw: _Raw, transport: asyncio.Transport) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            transport.write(data)
            await raw.writable.wait()
            if raw.lost.is_set():
                return
