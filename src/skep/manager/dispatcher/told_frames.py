"""What nodes are told of the mesh and of overlays, cut into messages that a line takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from skep.model.mesh import MeshService
from skep.model.overlay import OverlayService
from skep.rpc.messages import MeshTold, OverlayTold, encode

# Of services in one message, as encoded: the largest one, of 3,000 tasks, has a third of it. A line takes
# sixteen times as much.
SERVICES_MAX_BYTES = 1 << 20

Service = TypeVar("Service", MeshService, OverlayService)
Located = Callable[[Iterable[str]], list[tuple[str, str]]]  # nodes -> where their tunnels end


def mesh_parts(told: MeshTold) -> Iterator[MeshTold]:
    """Yields the message, or several that say the same: each but the last says that more follows."""
    cut = list(_cut(told.services))
    yield replace(told, services=cut[0], more=len(cut) > 1)
    for n, services in enumerate(cut[1:], 2):
        yield MeshTold(services=services, lead=told.lead, more=n < len(cut))


def overlay_parts(told: OverlayTold) -> Iterator[OverlayTold]:
    """The same of one network that is told whole."""
    cut = list(_cut(told.services))
    yield replace(told, services=cut[0], more=len(cut) > 1)
    for n, services in enumerate(cut[1:], 2):
        yield OverlayTold(told.network, services=services, lead=told.lead, more=n < len(cut))


def whole_frames(told: OverlayTold) -> list[bytes]:
    """Returns the same as it is sent."""
    return [encode(each) for each in overlay_parts(told)]


class Frame:
    """A message to several nodes, encoded once; and once more where for some another one follows."""

    __slots__ = ("_encoded", "_told")

    def __init__(self, told: OverlayTold | MeshTold) -> None:
        self._told = told
        self._encoded: dict[bool, bytes] = {}

    def bytes(self, more: bool) -> bytes:
        """Returns the message. `more`: another one follows, and nothing is done before."""
        frame = self._encoded.get(more)
        if frame is None:
            told = self._told if more == self._told.more else replace(self._told, more=more)
            frame = self._encoded[more] = encode(told)
        return frame


class Frames:
    """What each of some nodes is told at once."""

    def __init__(self) -> None:
        self._of_node: dict[str, list[Frame]] = {}

    def add(self, frame: Frame, nodes: Iterable[str]) -> None:
        for node_id in nodes:
            self._of_node.setdefault(node_id, []).append(frame)

    def encoded(self) -> dict[str, Sequence[bytes]]:
        """Returns the messages for each node."""
        return {
            node_id: [each.bytes(n < len(frames)) for n, each in enumerate(frames, 1)]
            for node_id, frames in self._of_node.items()
        }


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
