"""Objects of the swarm that are not there yet: lists are empty, making one says so."""

from __future__ import annotations

from aiohttp import web

from skep.api.port import SwarmNode
from skep.api.routes.reply import reply
from skep.api.server import Route, leaders
from skep.runtime.errors import NotFound, Unsupported


class LaterRoutes:
    """Secrets and configs."""

    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        found: list[Route] = []
        for kind in ("secrets", "configs"):
            found += [
                leaders("GET", f"/{kind}", self.list_all),
                leaders("POST", f"/{kind}/create", self.create),
                leaders("GET", f"/{kind}/{{id}}", self.one),
                leaders("DELETE", f"/{kind}/{{id}}", self.one),
                leaders("POST", f"/{kind}/{{id}}/update", self.one),
            ]
        return found

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        self._node.manager()
        return reply([])

    async def create(self, request: web.Request) -> web.StreamResponse:
        self._node.manager()
        kind = "secrets" if "/secrets" in request.path else "configs"
        raise Unsupported(f"{kind} are not supported by this version of skep yet")

    async def one(self, request: web.Request) -> web.StreamResponse:
        self._node.manager()
        kind = "secret" if "/secrets" in request.path else "config"
        raise NotFound(f"{kind} {request.match_info['id']} not found")
