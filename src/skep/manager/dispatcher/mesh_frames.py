"""What nodes are told of the mesh, cut into messages that a line takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from skep.model.mesh import MeshService
from skep.rpc.messages import MeshTold

# Of services in one message, as encoded: the largest one, of 3,000 tasks, has a fifth of it. A line takes
# sixteen times as much.
SERVICES_MAX_BYTES = 1 << 20
_ENDPOINT_BYTES = 64  # a node's id of 25 letters, an address, and what is between them
_PORT_BYTES = 32
_REST_BYTES = 128  # the service's id


def parts(told: MeshTold) -> Iterator[MeshTold]:
    """Yields the message, or several that say the same: each but the last says that more follows."""
    cut = list(_cut(told.services))
    yield replace(told, services=cut[0], more=len(cut) > 1)
    for n, services in enumerate(cut[1:], 2):
        yield MeshTold(services=services, lead=told.lead, more=n < len(cut))


def _cut(services: list[MeshService]) -> Iterator[list[MeshService]]:
    part: list[MeshService] = []
    size = 0
    for each in services:
        more = _size_bytes(each)
        if part and size + more > SERVICES_MAX_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += more
    yield part


def _size_bytes(service: MeshService) -> int:
    """Returns what a service has in a message, at most."""
    name = 2 * len(service.name.encode())  # quotes in it count twice
    return _REST_BYTES + name + _PORT_BYTES * len(service.ports) + _ENDPOINT_BYTES * len(service.endpoints)
