"""What nodes are told of a service on an overlay network: all of it, or what has changed. Pure.

Of very many endpoints a share is told, the same one to all nodes, so that it is encoded once; a node is told
its own in any case, and where those are not of the share, its message is another one.
"""

from __future__ import annotations

from heapq import nsmallest
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from skep.model.overlay import OverlayEndpoint, OverlayService

# Of one network, a node is told so many: 300 kB, and its kernel has two neighbours for each. Its own ones it
# is told in any case.
OVERLAY_ENDPOINTS_MAX = 3000
SERVICE_ENDPOINTS_MIN = 4  # … but of each service some, whatever others have: a name must lead to somebody


class News(Struct, frozen=True):
    """What is told of one service: to all nodes, and to some, by id, in its place."""

    shared: OverlayService
    own: dict[str, OverlayService] = {}


def whole(service: OverlayService, stride: int) -> News:
    """Returns all of it."""
    shared = thinned(service, stride)
    if shared is service:
        return News(service)
    known, own = set(shared.endpoints), dict[str, list[OverlayEndpoint]]()
    for each in service.endpoints:
        if each not in known:
            own.setdefault(each.node_id, []).append(each)
    return News(shared, {n: replace(shared, endpoints=(*shared.endpoints, *e)) for n, e in own.items()})


def changes(before: OverlayService, now: OverlayService, stride: int) -> News:
    """Returns what makes it of what it was, told with the same stride; all of it where that is not more."""
    was, shared = thinned(before, stride), thinned(now, stride)
    told = _difference(was, shared)
    if len(told.endpoints) + len(told.gone or ()) > len(shared.endpoints) // 2:
        return whole(now, stride)
    if shared is now and was is before:
        return News(told)
    nodes = {each.address: each.node_id for each in before.endpoints}
    kept = {each.address for each in now.endpoints}
    if any(nodes.setdefault(each.address, each.node_id) != each.node_id for each in now.endpoints):
        return whole(now, stride)  # who had the address has it as its own
    own = _difference(before, now)
    new, gone = set(told.endpoints), set(told.gone or ())
    other = {each.node_id for each in own.endpoints if each not in new}
    other |= {nodes[each] for each in own.gone or () if each not in gone}
    other |= {nodes[each] for each in gone & kept}
    return News(told, {each: _for_node(each, told, own, kept, nodes) for each in sorted(other)})


def _difference(before: OverlayService, now: OverlayService) -> OverlayService:
    known = {each.address: each for each in before.endpoints}
    news = tuple(each for each in now.endpoints if known.pop(each.address, None) != each)
    return replace(now, endpoints=news, gone=tuple(known))


def _for_node(
    node_id: str, told: OverlayService, own: OverlayService, kept: set[str], nodes: dict[str, str]
) -> OverlayService:
    """Returns what all are told, and what has changed of the node's own; those do not go for others' sake."""
    endpoints = dict.fromkeys(told.endpoints)
    endpoints.update(dict.fromkeys(each for each in own.endpoints if each.node_id == node_id))
    gone = dict.fromkeys(each for each in told.gone or () if each not in kept or nodes[each] != node_id)
    gone.update(dict.fromkeys(each for each in own.gone or () if nodes[each] == node_id))
    return replace(told, endpoints=tuple(endpoints), gone=tuple(gone))


def stride_for(endpoints: int, before: int) -> int:
    """Returns of how many endpoints of a network one is told; `before`: so far. A change of it has all nodes
    told all anew: it comes late on the way back."""
    if before * OVERLAY_ENDPOINTS_MAX // 4 < endpoints <= before * OVERLAY_ENDPOINTS_MAX:
        return before
    stride = 1
    while endpoints > stride * OVERLAY_ENDPOINTS_MAX:
        stride *= 2
    return stride


def thinned(service: OverlayService, stride: int) -> OverlayService:
    """Returns the service with one endpoint of so many, spread evenly. Which ones is up to their addresses:
    they stay the same as others come and go, and connections to them stand."""
    count = max(SERVICE_ENDPOINTS_MIN, len(service.endpoints) // stride)
    if stride == 1 or count >= len(service.endpoints):
        return service
    chosen = nsmallest(count, service.endpoints, key=lambda each: crc32(each.address.encode()))
    return replace(service, endpoints=tuple(chosen))
