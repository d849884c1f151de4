"""Volumes are the engine's, but for those of a cluster (CSI), which nobody here has.

An engine knows them as its own swarm's, and is in none: it would say that this node is no manager, and one
that is older would make a volume of its own instead.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from skep.api.decode import decode_body, read_bytes
from skep.api.engine import LocalEngine
from skep.api.passthrough import Passthrough
from skep.api.route import Route
from skep.model.wire import Wire
from skep.runtime.errors import Invalid, Unsupported

REFUSED = "cluster volumes are not supported by skep"


class VolumeCreate(Wire, frozen=True, kw_only=True):
    """As much of `POST /volumes/create` as says whose the volume is."""

    cluster_volume_spec: dict[str, Any] | None = None


class VolumeRoutes:
    """Errors of all: `Unsupported`."""

    def __init__(self, engine: LocalEngine) -> None:
        self._passthrough = Passthrough(engine)

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/volumes/create", self.create),
            Route("PUT", "/volumes/{name}", self.update),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await read_bytes(request)
        try:
            asked, _ = decode_body(body, VolumeCreate)
        except Invalid:  # the engine says what is wrong with it
            asked = VolumeCreate()
        if asked.cluster_volume_spec is not None:
            raise Unsupported(REFUSED)
        return await self._passthrough.handle(request, body)

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Only those of a cluster can be changed."""
        raise Unsupported(REFUSED)
