"""What this node was told of a task of its own: its address, so that connections to it find their way back,
and whether it still serves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from skep.model.ipv4 import is_ipv4
from skep.model.mesh import ENDPOINTS_MAX, Mesh, MeshEndpoint
from skep.model.overlay import Overlay, OverlayEndpoint
from skep.model.task import TaskAddress


def is_told(
    mesh: Mesh, overlays: Mapping[str, Overlay], service_id: str, addresses: Iterable[TaskAddress]
) -> bool:
    """Returns whether all addresses of a service's task were told of that nodes are told of. Cost: the tasks
    of the service."""
    return all(
        _is_known(mesh, overlays, service_id, each.network_id, each.address.partition("/")[0])
        for each in addresses
    )


def _is_known(
    mesh: Mesh, overlays: Mapping[str, Overlay], service_id: str, network_id: str, address: str
) -> bool:
    if not is_ipv4(address):
        return True  # nobody is told of others
    if mesh.network is not None and mesh.network.id == network_id:
        published = mesh.services.get(service_id)
        endpoints = published.endpoints if published is not None else ()
        return len(endpoints) >= ENDPOINTS_MAX or any(each.address == address for each in endpoints)
    overlay = overlays.get(network_id)
    if overlay is None:
        return False
    if overlay.network.is_large:
        return address in overlay.endpoints
    service = overlay.services.get(service_id)
    return service is not None and any(each.address == address for each in service.endpoints)


def is_serving(
    mesh: Mesh, overlays: Mapping[str, Overlay], service_id: str, addresses: Iterable[TaskAddress]
) -> bool:
    """Returns whether new connections are led to one of the addresses of a service's task, by what was told.
    Cost: the tasks of the service."""
    return any(
        _takes_new(mesh, overlays, service_id, each.network_id, each.address.partition("/")[0])
        for each in addresses
    )


def _takes_new(
    mesh: Mesh, overlays: Mapping[str, Overlay], service_id: str, network_id: str, address: str
) -> bool:
    found: Iterable[MeshEndpoint | OverlayEndpoint] = ()
    if mesh.network is not None and mesh.network.id == network_id:
        published = mesh.services.get(service_id)
        found = published.endpoints if published is not None else ()
    elif (overlay := overlays.get(network_id)) is not None:
        service = overlay.services.get(service_id)
        own = overlay.endpoints.get(address)  # in a large network
        found = (*(service.endpoints if service is not None else ()), *((own,) if own is not None else ()))
    return any(each.address == address and each.takes_new for each in found)
