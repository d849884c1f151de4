"""Single containers on the swarm's networks: `docker run --network`, `docker network connect`; and with the
swarm's API, where they bind Docker's socket.

What stands for a network of the swarm is a bridge of the engine's. The engine is asked for what the user asks
for, with the bridge's name and the address that the swarm gives; what concerns other networks goes through
untouched.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from skep.api.decode import decode_body, read_bytes
from skep.api.engine import LocalEngine
from skep.api.interfaces import Attachments, ContainerPlace, SwarmNode
from skep.api.passthrough import Passthrough
from skep.api.route import Route
from skep.api.routes.networks import NetworkRoutes, copy_of, is_named
from skep.model.attachment import NODE_OPTION
from skep.model.bounds import CONTAINER_BODY_MAX_BYTES, CONTAINER_ELEMENTS_MAX
from skep.model.container import NAMESERVERS_LABEL
from skep.model.docker_socket import DockerSocket, Given, no_socket, wants_engine
from skep.model.wire import Wire
from skep.runtime.errors import Conflict, Denied, NotFound
from skep.runtime.supervise import in_thread

TASK_LABEL = "com.docker.swarm.task.id"
_OWN_MODES = frozenset({"", "default", "bridge", "host", "none"})  # each engine's own: nobody is asked

Json = dict[str, Any]


class HostConfig(Wire, frozen=True, kw_only=True):
    """As much as says which network is meant, and whom the container asks for names."""

    network_mode: str = ""
    dns: list[str] | None = None


class NetworkingConfig(Wire, frozen=True, kw_only=True):
    endpoints_config: dict[str, Json | None] = {}


class ContainerCreate(Wire, frozen=True, kw_only=True):
    """As much of `POST /containers/create` as says where it is attached, and whose socket it gets."""

    labels: dict[str, str] = {}
    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()


class Connect(Wire, frozen=True, kw_only=True):
    """The body of `POST /networks/{id}/connect`."""

    container: str = ""
    endpoint_config: Json | None = None


class AttachmentRoutes:
    """`networks` knows the engine's; `socket` says what containers get that bind Docker's."""

    def __init__(
        self,
        node: SwarmNode,
        engine: LocalEngine,
        networks: NetworkRoutes,
        socket: Given = no_socket,
    ) -> None:
        self._node = node
        self._engine = engine
        self._networks = networks
        self._socket = socket
        self._passthrough = Passthrough(engine)

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/containers/create", self.create),
            Route("POST", "/networks/{id}/connect", self.connect),
            Route("POST", "/networks/{id}/disconnect", self.disconnect),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await read_bytes(request, CONTAINER_BODY_MAX_BYTES)
        # Off the loop: a second where ten thousand ports and more are published.
        asked, body = await in_thread(_read, body, self._socket())
        endpoints = {name: each or {} for name, each in asked.networking_config.endpoints_config.items()}
        if asked.host_config.network_mode:
            endpoints.setdefault(asked.host_config.network_mode, {})
        names = {}
        for name in sorted(endpoints):
            target = await self._swarms(name)
            if target is not None:
                names[name] = target
        attachments = self._node.attachments()
        if attachments is None or not names:
            return await self._passthrough.handle(request, body)
        async with attachments.change():
            places = {}
            for name, target in names.items():
                # Nobody's: it is made, and cannot be started. A 404 now would send the client for its image.
                with contextlib.suppress(NotFound):
                    places[name] = await self._attach(attachments, name, target, endpoints[name])
            placed = await in_thread(_placed, body, asked, endpoints, places)
            return await self._passthrough.handle(request, placed)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        term = request.match_info["id"]
        target, attachments = await self._swarms(term), self._node.attachments()
        if target is None or attachments is None:
            return await self._passthrough.handle(request)
        asked, _ = decode_body(await read_bytes(request), Connect)
        await self._check_container(asked.container, target)
        async with attachments.change():
            endpoint = asked.endpoint_config or {}
            place = await self._attach(attachments, term, target, endpoint)
            body = {"Container": asked.container, "EndpointConfig": _endpoint(endpoint, place)}
            path = _path(request, place.network, "connect")
            return await self._passthrough.handle(request, msgspec.json.encode(body), path)

    async def disconnect(self, request: web.Request) -> web.StreamResponse:
        term = request.match_info["id"]
        target, attachments = await self._swarms(term), self._node.attachments()
        bridge = await self._networks.bridge_of(target) if target is not None else None
        if bridge is None or attachments is None:
            return await self._passthrough.handle(request)
        async with attachments.change():
            path = _path(request, str(bridge["Name"]), "disconnect")
            return await self._passthrough.handle(request, await read_bytes(request), path)

    async def _swarms(self, term: str) -> str | None:
        """Returns what to ask the swarm for; None where the engine has the network itself, or there is no
        swarm."""
        if term in _OWN_MODES or term.startswith("container:") or self._node.attachments() is None:
            return None
        local = await self._networks.of_engine(term)
        if local is None:
            return term
        # A name is the swarm's to look up: the bridge may be that of a network of before, which had it.
        return term if is_named(local, term) else copy_of(local) or None

    async def _attach(
        self, attachments: Attachments, name: str, target: str, endpoint: Json
    ) -> ContainerPlace:
        """Returns where the container is to be. Errors: `NotFound`, `Denied`, in Docker's words; `Conflict`,
        `Invalid`, `Unavailable`."""
        given = endpoint.get("IPAMConfig") or {}
        try:
            wanted = str(given.get("IPv4Address") or given.get("IPv6Address") or "")
            return await attachments.attach(target, wanted)
        except NotFound as error:
            text = f"rpc error: code = NotFound desc = {error}"
            raise NotFound(f"Could not attach to network {name}: {text}") from error
        except Denied as error:
            raise Denied(f"Could not attach to network {name}: {error}") from error

    async def _check_container(self, container: str, target: str) -> None:
        """Errors: `NotFound`; `Conflict` for one that is on the network, in Docker's words; `Denied` for a
        service's: its service says what it is attached to."""
        found = await self._engine.ask(f"/containers/{quote(container, safe='')}/json")
        labels = found["Config"].get("Labels") or {}
        if TASK_LABEL in labels:
            service = labels.get("com.docker.swarm.service.name", "")
            raise Denied(
                f"container {container} is a task of service {service}:"
                " docker service update --network-add attaches all of them"
            )
        bridge = await self._networks.bridge_of(target)
        if bridge is not None and bridge["Name"] in found["NetworkSettings"].get("Networks", {}):
            raise Conflict(f"{container} is already attached to network {bridge['Name']}")


def _placed(
    body: bytes, asked: ContainerCreate, endpoints: dict[str, Json], places: dict[str, ContainerPlace]
) -> bytes:
    """Returns the request with the bridges' names and the addresses that were given; the rest as it was."""
    whole: Json = msgspec.json.decode(body)
    mode = asked.host_config.network_mode
    if mode in places:
        _set(_member(whole, "HostConfig"), "NetworkMode", places[mode].network)
    named = {}
    for name in [*asked.networking_config.endpoints_config, *places]:
        place = places.get(name)
        if place is not None:
            named[place.network] = _endpoint(endpoints[name], place)
        else:
            named[name] = endpoints[name]
    asks = [places[name].nameservers for name in (mode, *places) if name in places]
    _resolve_by(whole, next(filter(None, asks), ()), asked.host_config.dns or [])
    networking = _member(whole, "NetworkingConfig")
    _set(networking, "EndpointsConfig", named)
    _set(whole, "NetworkingConfig", networking)
    return msgspec.json.encode(whole)


def _resolve_by(whole: Json, nameservers: tuple[str, ...], own: list[str]) -> None:
    """Has the container ask the node for names. Whom its user has named, it asks in turn."""
    if not nameservers:
        return
    host, labels = _member(whole, "HostConfig"), _member(whole, "Labels")
    _set(host, "Dns", [nameservers[0], *own] if own else list(nameservers))
    _set(whole, "HostConfig", host)
    if own:
        _set(whole, "Labels", {**labels, NAMESERVERS_LABEL: ",".join(own)})


def _read(body: bytes, socket: DockerSocket | None) -> tuple[ContainerCreate, bytes]:
    """Returns what is asked for, and the request as the engine is to get it. Errors: `Invalid`."""
    decode_body(body, ContainerCreate, CONTAINER_ELEMENTS_MAX)
    body = one_of_each(body)
    asked, _ = decode_body(body, ContainerCreate, CONTAINER_ELEMENTS_MAX)
    if socket is not None and not wants_engine(asked.labels):
        body = with_socket(body, socket)
    return asked, body


def one_of_each(body: bytes) -> bytes:
    """Returns a request, which can be decoded, with one spelling of each member that is looked at here; as it
    was where no name is there twice. Go merges `HostConfig` and `hostconfig`: so does the engine."""
    whole: Json = msgspec.json.decode(body)
    folded = [_fold(whole, name) for name in ("Labels", "HostConfig", "NetworkingConfig")]
    folded.append(_fold(_member(whole, "NetworkingConfig"), "EndpointsConfig"))
    return msgspec.json.encode(whole) if any(folded) else body


def _fold(value: Json, name: str) -> bool:
    """Makes one member of those of that name; True where there were several."""
    members = [(key, each) for key, each in value.items() if key.lower() == name.lower()]
    if len(members) < 2 or not all(each is None or isinstance(each, dict) for _, each in members):
        return False  # of a wrong type: the engine says so
    merged: Json = {}
    for key, each in members:
        del value[key]
        if each is None:
            merged = {}
        for inner, what in (each or {}).items():
            merged.pop(inner, None)  # so that what was said last is last
            merged[inner] = what
    value[name] = merged
    return True


def with_socket(body: bytes, socket: DockerSocket) -> bytes:
    """Returns the request with skepd's socket for Docker's; as it was where it binds none."""
    whole: Json = msgspec.json.decode(body)
    return msgspec.json.encode(whole) if socket.put_into(_member(whole, "HostConfig")) else body


def _member(value: Json, name: str) -> Json:
    """Returns the member, whatever its name's case: Go's decoder does not look at it."""
    found = next((each for key, each in value.items() if key.lower() == name.lower()), None)
    return found if isinstance(found, dict) else {}


def _set(value: Json, name: str, member: object) -> None:
    for key in [each for each in value if each.lower() == name.lower()]:
        del value[key]
    value[name] = member


def _endpoint(asked: Json, place: ContainerPlace) -> Json:
    """Returns what the user asked of the endpoint, with the address, and who it is of."""
    family = "IPv6Address" if ":" in place.address else "IPv4Address"
    addresses = {**(asked.get("IPAMConfig") or {}), family: place.address}
    options = {**(asked.get("DriverOpts") or {}), NODE_OPTION: place.node_id}
    return {**asked, "IPAMConfig": addresses, "DriverOpts": options}


def _path(request: web.Request, network: str, action: str) -> str:
    """Returns the request's path with another network in it."""
    before = request.raw_path.partition("/networks/")[0]
    return f"{before}/networks/{quote(network, safe='')}/{action}"
