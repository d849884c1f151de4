"""/api: what a page asks of the swarm, and orders of it, passed on with the user's own context."""

from __future__ import annotations

import msgspec
from aiohttp import ClientError, web

from skep.web.rules import is_endless, may_pass
from skep.web.swarm_api import SwarmApi
from skep.web.visitors import Visitor, may_order

BODY_MAX_BYTES = 1 << 20  # of an order: a spec; a store takes 1.5 MB of a service, which has two
STREAMS_MAX = 16  # logs and events that one browser follows: it opens six connections to a server by itself
CSRF = "X-Skep-CSRF"
PREFIX = "/api"
# What of an answer the browser is told; the rest is of one connection only, or the daemon's own. What was
# compressed (by a proxy) has been unpacked here.
_TOLD = ("Content-Type",)


class Passing:
    """`read_only`: orders go no further than here."""

    def __init__(self, swarm: SwarmApi, read_only: bool) -> None:
        self._swarm = swarm
        self._read_only = read_only
        self._streams: dict[Visitor, int] = {}

    async def answer(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Errors: `Unavailable`."""
        path = request.rel_url.raw_path.removeprefix(PREFIX)
        if not may_pass(request.method, path):
            return refused(403, f"this page does not pass on {request.method} {path}")
        if request.method == "GET":
            if not is_endless(path):
                return await self._pass(request)
            return await self._follow(request, visitor)
        if self._read_only:
            return refused(403, "this page is for looking only: skep dashboard runs with --read-only")
        if not may_order(visitor, request.headers.get(CSRF, "")):
            return refused(403, f"an order needs the header {CSRF} with what GET /session says")
        return await self._pass(request, await request.read())

    async def _follow(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        count = self._streams.get(visitor, 0)
        if count >= STREAMS_MAX:
            return refused(429, f"this browser follows {STREAMS_MAX} logs or events already: close some")
        self._streams[visitor] = count + 1
        try:
            return await self._pass(request)
        finally:
            self._streams[visitor] -= 1
            if not self._streams[visitor]:
                del self._streams[visitor]

    async def _pass(self, request: web.Request, body: bytes | None = None) -> web.StreamResponse:
        """Passes on as it comes: what a browser does not read, the swarm's daemon keeps, or breaks off."""
        path = request.rel_url.raw_path.removeprefix(PREFIX)
        if request.rel_url.raw_query_string:
            path += f"?{request.rel_url.raw_query_string}"
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with await self._swarm.open(request.method, path, body, headers) as upstream:
            response = web.StreamResponse(status=upstream.status)
            for name in _TOLD:
                if name in upstream.headers:
                    response.headers[name] = upstream.headers[name]
            await response.prepare(request)
            try:
                async for part in upstream.content.iter_any():
                    await response.write(part)
            except ClientError:
                # Who reads must not take it for whole.
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.write_eof()
            return response


def refused(status: int, message: str) -> web.Response:
    """Returns an error as Docker's API says it. What a browser sent that is no text is shown by its codes."""
    message = message.encode(errors="backslashreplace").decode()
    return web.Response(
        status=status, body=msgspec.json.encode({"message": message}), content_type="application/json"
    )
