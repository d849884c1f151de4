"""What nodes are told of the mesh and of overlays, cut into messages that a line takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from skep.model.mesh import MeshService
from skep.model.overlay import OverlayEndpoint, OverlayService
from skep.rpc.messages import MeshTold, OverlayTold, encode

# Of services in one message, as encoded: the largest one, of 3,000 tasks, has a third of it. A line takes
# sixteen times as much.
SERVICES_MAX_BYTES = 1 << 20

Service = TypeVar("Service", MeshService, OverlayService)


def mesh_parts(told: MeshTold) -> Iterator[MeshTold]:
    """Yields the message, or several that say the same: each but the last says that more follows."""
    cut = list(_cut(told.services))
    yield replace(told, services=cut[0], more=len(cut) > 1)
    for n, services in enumerate(cut[1:], 2):
        yield MeshTold(services=services, lead=told.lead, more=n < len(cut))


def overlay_parts(told: OverlayTold) -> Iterator[OverlayTold]:
    """The same of one network."""
    cut = list(_cut(told.services))
    yield replace(told, services=cut[0], more=len(cut) > 1)
    for n, services in enumerate(cut[1:], 2):
        yield OverlayTold(told.network, services=services, lead=told.lead, more=n < len(cut))


class ForHearers:
    """What all nodes of a network are told, encoded once. Where it has not all endpoints of a service, as
    they are too many, a node is told its own as well: `whole` are the services with all they have."""

    def __init__(self, told: OverlayTold, whole: Mapping[str, OverlayService]) -> None:
        self.told = told
        self._frames: list[bytes] = []
        self._own: dict[str, dict[str, list[OverlayEndpoint]]] = {}  # node -> service -> those left out
        for service in told.services:
            self._leave_out(service, whole[service.id].endpoints)

    def frames(self, node_id: str) -> Sequence[bytes]:
        """Returns the messages for one node."""
        own = self._own.get(node_id)
        if own is not None:
            services = [_with(each, own.get(each.id, ())) for each in self.told.services]
            return [encode(each) for each in overlay_parts(replace(self.told, services=services))]
        if not self._frames:
            self._frames = [encode(each) for each in overlay_parts(self.told)]
        return self._frames

    def _leave_out(self, told: OverlayService, all_endpoints: tuple[OverlayEndpoint, ...]) -> None:
        if len(told.endpoints) == len(all_endpoints):
            return
        known = set(told.endpoints)
        for each in all_endpoints:
            if each not in known:
                self._own.setdefault(each.node_id, {}).setdefault(told.id, []).append(each)


def _with(service: OverlayService, endpoints: Iterable[OverlayEndpoint]) -> OverlayService:
    return replace(service, endpoints=(*service.endpoints, *endpoints))


def _cut(services: list[Service]) -> Iterator[list[Service]]:
    part: list[Service] = []
    size = 0
    for each in services:
        more = len(encode(each)) if len(services) > 1 else 0  # one service has room in any case
        if part and size + more > SERVICES_MAX_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += more
    yield part
