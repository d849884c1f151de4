"""/skep/v1/backup, restore and reconnect: a swarm's copy, its second life, and managers that moved."""

from __future__ import annotations

import asyncio

from aiohttp import web

from skep.api.decode import check_plain, read_body
from skep.api.interfaces import ReconnectRequest, RestoreRequest, SwarmNode
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply

CHUNK_BYTES = 256 << 10
UNLOCK_KEY = "Skep-Unlock-Key"  # a header: addresses are logged


class BackupRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/skep/v1/backup", self.backup),
            Route("POST", "/skep/v1/restore", self.restore),
            Route("POST", "/skep/v1/reconnect", self.reconnect, body=ReconnectRequest),
        ]

    async def backup(self, request: web.Request) -> web.StreamResponse:
        pieces = await self._node.backup()
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def restore(self, request: web.Request) -> web.StreamResponse:
        """The body is the backup, as large as it may be: it is never held in memory as a whole."""
        check_plain(request)
        wanted = RestoreRequest(
            listen_addr=request.query.get("listen_addr", ""),
            advertise_addr=request.query.get("advertise_addr", ""),
            unlock_key=request.headers.get(UNLOCK_KEY, ""),
        )
        node_id, left_out = await self._node.restore(wanted, request.content.iter_chunked(CHUNK_BYTES))
        return reply({"NodeID": node_id, "Warnings": left_out})

    async def reconnect(self, request: web.Request) -> web.StreamResponse:
        body, _ = await read_body(request, ReconnectRequest)
        return reply({"Warnings": await self._node.reconnect(body)})
