"""/skep/v1/board: the swarm at a glance, whole or as it changes (`model.board`), for dashboards."""

from __future__ import annotations

import re

from aiohttp import hdrs, web

from skep.api.interfaces import SwarmNode
from skep.api.route import LeaderRoute, Route
from skep.model.board import BoardSnapshot
from skep.runtime.errors import Invalid
from skep.runtime.packing import HEAD
from skep.runtime.tape import Piece

WRITE_BYTES = 64 << 10  # at once: what waits for one reader, whatever it is sent
_AFTER = re.compile(r"[A-Za-z0-9._-]{1,128}:[0-9]{1,15}|")


class BoardRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/skep/v1/board", self.board, answer=BoardSnapshot),
            LeaderRoute("GET", "/skep/v1/board/stream", self.stream, is_endless=True, query=("after",)),
        ]

    async def board(self, request: web.Request) -> web.StreamResponse:
        file = await self._node.manager().board.file()
        if not _takes_gzip(request):
            return web.Response(body=file.data, content_type="application/json")
        headers = {hdrs.CONTENT_ENCODING: "gzip"}
        return web.Response(body=file.packed, content_type="application/json", headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        after = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        if not _AFTER.fullmatch(after):
            raise Invalid(f"after: '{after[:100]}' is no id of an event of this stream (EPOCH:SEQ)")
        outlet = _BoardOutlet(request)
        await self._node.manager().board.watch(after, outlet.write, outlet.cut)
        return await outlet.end()


class _BoardOutlet:
    """The answer of one watcher, which begins with the first thing to say: before, it can still be an
    error."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._is_packed = _takes_gzip(request)
        self._response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"}
        )

    async def write(self, piece: Piece) -> None:
        data = piece.packed if self._is_packed else piece.data
        if not self._response.prepared:
            await self._begin()
        for start in range(0, len(data), WRITE_BYTES):
            await self._response.write(data[start : start + WRITE_BYTES])

    async def _begin(self) -> None:
        if self._is_packed:
            self._response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        await self._response.prepare(self._request)
        if self._is_packed:
            await self._response.write(HEAD)

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def end(self) -> web.StreamResponse:
        if not self._response.prepared:
            await self._begin()
        await self._response.write_eof()
        return self._response


def _takes_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
