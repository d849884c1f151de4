"""Streams that stop being HTTP: attach, exec, build sessions. Each direction ends on its own.

The client's connection is taken over from aiohttp once its request was read, so that nothing of what follows
is lost. It stays so where the engine makes a stream of it; where it refuses, aiohttp gets the connection
back, with what came meanwhile: the next request on it is one like any other, and goes through our routes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from skep.api.decode import read_whole
from skep.api.engine import LocalEngine
from skep.api.engine_answer import CHUNK, BadAnswer, EngineAnswer, body_parts, read_answer
from skep.api.relay import relay_parts
from skep.runtime.errors import Invalid

BODY_MAX_BYTES = 1 << 20  # bodies of exec and attach are a line of JSON
PENDING_MAX_BYTES = 1 << 20  # read from the client and not yet taken by the engine
# aiohttp has answered what is expected, and puts chunks together.
_ANSWERED = frozenset({b"expect", b"transfer-encoding", b"trailer"})


class _Raw(asyncio.Protocol):
    """The client's side while it is raw; reading pauses when the engine does not keep up."""

    def __init__(self, transport: asyncio.Transport, protocol: web.RequestHandler) -> None:
        self._transport = transport
        self._protocol = protocol  # aiohttp's
        self._pending = bytearray()
        self._ended = False
        self._news = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.Event()
        transport.set_protocol(self)
        self._resume()

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > PENDING_MAX_BYTES:
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

    async def read(self, max_bytes: int) -> bytes:
        """Returns what has come; nothing at the end."""
        while not self._pending and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._pending[:max_bytes])
        del self._pending[:max_bytes]
        self._resume()
        return data

    def give_back(self, body: bytes) -> bool:
        """aiohttp goes on with the connection, and gets what came meanwhile: the rest of the request's body,
        and the next request. Returns False where the client says that there will be none."""
        self._transport.set_protocol(self._protocol)
        if came := body + bytes(self._pending):
            self._protocol.data_received(came)
        self._resume()
        return not self._ended

    def _resume(self) -> None:
        if not self.lost.is_set():
            with contextlib.suppress(RuntimeError, AttributeError):
                self._transport.resume_reading()


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
    """Asks the engine for a stream, and passes bytes between it and the client until both directions ended;
    or passes on its refusal.

    Errors: `Unavailable`, `Invalid` for a body that is too large.
    """
    # The engine first: what comes between the reading and the taking over would be lost.
    reader, writer = await engine.open_raw()
    try:
        headers, body, missing = await _what_came(request)
        raw = _Raw(cast("asyncio.Transport", request.transport), request.protocol)
        head = f"{request.method} {path} HTTP/1.1\r\n".encode()
        head += b"".join(k + b": " + v + b"\r\n" for k, v in headers)
        writer.write(head + b"\r\n" + body)
        late = await _late_body(raw, writer, missing)
        try:
            answer = await _unless_lost(raw, reader)
        except BadAnswer as error:
            raw.give_back(late)
            raise engine.unreachable(error) from error
        if answer is None:
            _forget(request)
        elif answer.is_stream:
            await _tunnel(request, raw, answer, reader, writer)
        else:
            keeps = raw.give_back(late)
            response = await relay_parts(
                request, answer.status, answer.reason, answer.headers, body_parts(answer, reader)
            )
            if not keeps:
                response.force_close()
            return response
    finally:
        writer.close()
    return _Taken()


async def _what_came(request: web.Request) -> tuple[list[tuple[bytes, bytes]], bytes, int]:
    """Returns the headers for the engine, the body, and how much of it is still to come: nothing where it
    comes in chunks, which aiohttp puts together. Errors: `Invalid`."""
    headers = [(k, v) for k, v in request.raw_headers if k.lower() not in _ANSWERED]
    if not request.body_exists:
        return headers, b"", 0
    if "Transfer-Encoding" not in request.headers:
        length = request.content_length or 0
        if length > BODY_MAX_BYTES:
            raise Invalid(f"the request body is larger than {BODY_MAX_BYTES} bytes")
        body = request.content.read_nowait()
        return headers, body, length - len(body)
    body = await read_whole(request, BODY_MAX_BYTES)
    return [*headers, (b"Content-Length", str(len(body)).encode())], body, 0


async def _late_body(raw: _Raw, writer: asyncio.StreamWriter, missing: int) -> bytes:
    """Passes on, and returns, what of the body had not come with the head."""
    late = b""
    while len(late) < missing and (part := await raw.read(missing - len(late))):
        late += part
        writer.write(part)
    if len(late) < missing:  # the engine says what is wrong with half a body
        writer.write_eof()
    return late


async def _unless_lost(raw: _Raw, reader: asyncio.StreamReader) -> EngineAnswer | None:
    """Returns what the engine answers; None where the client went away before. Errors: `BadAnswer`."""
    answering = asyncio.ensure_future(read_answer(reader))
    losing = asyncio.ensure_future(raw.lost.wait())
    try:
        await asyncio.wait([answering, losing], return_when=asyncio.FIRST_COMPLETED)
        return None if raw.lost.is_set() else await answering
    finally:
        losing.cancel()
        answering.cancel()


async def _tunnel(
    request: web.Request,
    raw: _Raw,
    answer: EngineAnswer,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    transport = cast("asyncio.Transport", request.transport)
    request.content.feed_eof()  # else aiohttp would wait, in the end, for what is left of the body
    transport.write(answer.head)
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
        _forget(request)


def _forget(request: web.Request) -> None:
    """aiohttp forgets the connection once its task has ended: it was not told that it is closed."""
    protocol = request.protocol
    request.task.add_done_callback(lambda _: protocol.connection_lost(None))


async def _upward(raw: _Raw, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await raw.read(PENDING_MAX_BYTES):
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
