"""Single containers on the swarm's networks: refused here, before the engine takes the node's own bridge.

The bridge that stands for a network of the swarm is the engine's to hand out addresses of; a container that
got one of those could have the address of a task. Until the swarm gives out addresses to single containers,
`docker run --network` and `docker network connect` say so.
"""

from __future__ import annotations

from aiohttp import web

from skep.api.decode import decode_body, read_bytes
from skep.api.engine import LocalEngine
from skep.api.passthrough import Passthrough
from skep.api.routes.networks import NetworkRoutes
from skep.api.server import Route
from skep.model.wire import Wire
from skep.runtime.errors import Denied, Unsupported

_OWN_MODES = frozenset({"", "default", "bridge", "host", "none"})  # each engine's own: nobody is asked


class HostConfig(Wire, frozen=True, kw_only=True):
    """As much as says which network is meant."""

    network_mode: str = ""


class NetworkingConfig(Wire, frozen=True, kw_only=True):
    endpoints_config: dict[str, object] = {}


class ContainerCreate(Wire, frozen=True, kw_only=True):
    """As much of `POST /containers/create` as says where the container is attached."""

    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()


class AttachmentRoutes:
    """`networks` knows which names are the swarm's."""

    def __init__(self, engine: LocalEngine, networks: NetworkRoutes) -> None:
        self._networks = networks
        self._passthrough = Passthrough(engine)

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/containers/create", self.create),
            Route("POST", "/networks/{id}/connect", self.connect),
            Route("POST", "/networks/{id}/disconnect", self.disconnect),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await read_bytes(request)
        asked, _ = decode_body(body, ContainerCreate)
        names = {asked.host_config.network_mode, *asked.networking_config.endpoints_config}
        for name in sorted(names - _OWN_MODES):
            if not name.startswith("container:"):
                await self._refuse(name)
        return await self._passthrough.handle(request, body)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        await self._refuse(request.match_info["id"])
        return await self._passthrough.handle(request)

    async def disconnect(self, request: web.Request) -> web.StreamResponse:
        await self._refuse(request.match_info["id"])
        return await self._passthrough.handle(request)

    async def _refuse(self, term: str) -> None:
        """Errors: `Denied` in Docker's words, `Unsupported`, where the network is the swarm's."""
        network = await self._networks.of_swarm(term)
        if network is None:
            return
        name = network["Name"]
        if not network.get("Attachable"):
            raise Denied(
                f"Could not attach to network {term}: rpc error: code = PermissionDenied desc = network"
                f" {name} not manually attachable"
            )
        raise Unsupported(
            f"network {name} is the swarm's: attaching single containers to it is not supported by this"
            " version of skep yet; run a service on it"
        )
