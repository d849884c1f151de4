"""An answer of somebody else's, passed on as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

from aiohttp import ClientError, ClientResponse, web

# Hop-by-hop (RFC 9110, 7.6.1), or made again by aiohttp for its own connection.
_OWN = frozenset(
    {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "expect"}
)

Headers = list[tuple[str, str]]


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """Returns the headers that are not of one connection only."""
    return [(k, v) for k, v in headers if k.lower() not in _OWN]


async def relay(request: web.Request, upstream: ClientResponse) -> web.StreamResponse:
    """Passes an answer on as it comes."""
    async with upstream:
        return await relay_parts(
            request,
            upstream.status,
            upstream.reason or "",
            list(upstream.headers.items()),
            upstream.content.iter_any(),
        )


async def relay_parts(
    request: web.Request, status: int, reason: str, headers: Headers, parts: AsyncIterable[bytes]
) -> web.StreamResponse:
    """Passes on what somebody answers with: `parts` raise `ClientError` where he breaks off."""
    response = web.StreamResponse(status=status, reason=reason)
    for name, value in end_to_end(headers):
        response.headers.add(name, value)
    length = next((v for k, v in headers if k.lower() == "content-length" and v), "")
    if length:
        response.headers["Content-Length"] = length
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            async for part in parts:
                await response.write(part)
        except ClientError:
            # The engine broke off in the middle: so must we, or the client takes it for whole.
            if request.transport is not None:
                request.transport.abort()
            return response
    await response.write_eof()
    return response
