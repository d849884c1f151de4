"""What an engine answers to somebody who wants a stream: the stream, or a refusal, which is plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import ClientPayloadError
from msgspec import Struct

from skep.api.relay import Headers

CHUNK = 64 << 10
_STREAMS = ("application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream")
SWITCHES = 101


class BadAnswer(Exception):
    """It is no HTTP, or it broke off."""


class EngineAnswer(Struct, frozen=True):
    """An answer's head, as it came and as it reads. `head` ends with the empty line."""

    head: bytes
    status: int
    reason: str
    headers: Headers

    def header(self, name: str) -> str:
        return next((v for k, v in self.headers if k.lower() == name), "")

    @property
    def is_stream(self) -> bool:
        """True where what follows is no HTTP any more: a protocol was switched to, or the engine's own kind
        of stream begins, whose end nobody announces."""
        if self.status == SWITCHES:
            return True
        kind = self.header("content-type").partition(";")[0].strip().lower()
        is_framed = self.header("content-length") or self.header("transfer-encoding")
        return self.status == 200 and kind in _STREAMS and not is_framed


async def read_answer(reader: asyncio.StreamReader) -> EngineAnswer:
    """Returns the answer's head; those that only announce another are passed over. Errors: `BadAnswer`."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            raise BadAnswer(str(error)) from error
        answer = _parsed(head)
        if answer.status == SWITCHES or answer.status >= 200:
            return answer


def _parsed(head: bytes) -> EngineAnswer:
    first, *lines = head.decode(errors="surrogateescape").split("\r\n")[:-2]
    version, _, status_and_reason = first.partition(" ")
    status, _, reason = status_and_reason.partition(" ")
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise BadAnswer(f"it answers {first[:100]!r}, which is no HTTP")
    pairs = (line.partition(":") for line in lines)
    return EngineAnswer(
        head, int(status), reason, [(name.strip(), value.strip()) for name, _, value in pairs]
    )


async def body_parts(answer: EngineAnswer, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yields the body. Errors: `ClientPayloadError` where it ends too early."""
    if answer.status in (204, 304):
        return
    length = answer.header("content-length")
    try:
        if "chunked" in answer.header("transfer-encoding").lower():
            while size := int((await reader.readline()).partition(b";")[0], 16):
                async for part in _exactly(reader, size):
                    yield part
                await reader.readexactly(2)
        elif length:
            async for part in _exactly(reader, int(length)):
                yield part
        else:
            while part := await reader.read(CHUNK):
                yield part
    except (ValueError, asyncio.IncompleteReadError, OSError) as error:
        raise ClientPayloadError(str(error)) from error


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        part = await reader.read(min(size, CHUNK))
        if not part:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(part)
        yield part
