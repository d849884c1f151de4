"""Objects of the swarm that are not there yet: lists are empty, making one says so."""

from __future__ import annotations

from aiohttp import web

from skep.api.decode import decode_body, read_bytes
from skep.api.engine import LocalEngine
from skep.api.passthrough import Passthrough
from skep.api.port import SwarmNode
from skep.api.routes.reply import reply
from skep.api.server import Route, leaders
from skep.model.wire import Wire
from skep.runtime.errors import NotFound, Unsupported


class NetworkCreate(Wire, frozen=True, kw_only=True):
    """As much of the request as decides whose the network is."""

    driver: str = ""
    scope: str = ""


class LaterRoutes:
    """Secrets, configs, and networks that span nodes."""

    def __init__(self, node: SwarmNode, engine: LocalEngine) -> None:
        self._node = node
        self._passthrough = Passthrough(engine)

    def routes(self) -> list[Route]:
        found = [Route("POST", "/networks/create", self.create_network)]
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

    async def create_network(self, request: web.Request) -> web.StreamResponse:
        """The node's own networks are its engine's; one that spans nodes would be the swarm's."""
        body = await read_bytes(request)
        wanted, _ = decode_body(body, NetworkCreate)
        if wanted.driver == "overlay" or wanted.scope == "swarm":
            raise Unsupported("overlay networks are not supported by this version of skep yet")
        return await self._passthrough.handle(request, body)

    async def one(self, request: web.Request) -> web.StreamResponse:
        self._node.manager()
        kind = "secret" if "/secrets" in request.path else "config"
        raise NotFound(f"{kind} {request.match_info['id']} not found")
