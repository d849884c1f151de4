"""What nodes are told of the mesh and of overlays, cut into messages that a line takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from skep.model.mesh import MeshService
from skep.model.overlay import OverlayService
from skep.rpc.messages import MeshTold, OverlayTold, encode

from .overlay_news import News

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
    """What all nodes of a network are told, encoded once, and those to which something else is told."""

    def __init__(self, told: OverlayTold, news: list[News]) -> None:
        self.told = replace(told, services=[each.shared for each in news])
        self._frames: list[bytes] = []
        self._own: dict[str, dict[str, OverlayService]] = {}  # node -> service -> what it is told of it
        for each in news:
            for node_id, own in each.own.items():
                self._own.setdefault(node_id, {})[own.id] = own

    def frames(self, node_id: str) -> Sequence[bytes]:
        """Returns the messages for one node."""
        own = self._own.get(node_id)
        if own is not None:
            services = [own.get(each.id, each) for each in self.told.services]
            return [encode(each) for each in overlay_parts(replace(self.told, services=services))]
        if not self._frames:
            self._frames = [encode(each) for each in overlay_parts(self.told)]
        return self._frames


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
