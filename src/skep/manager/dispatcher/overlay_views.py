"""Overlay networks as the view has them: who is on one, where, and by which names. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from skep.model.attachment import Attachment
from skep.model.node import DOWN
from skep.model.overlay import OverlayEndpoint, OverlayNetwork, OverlayService, mtu_of
from skep.model.overlay_keys import encrypted_port
from skep.model.service import Service
from skep.model.states import is_terminal
from skep.model.task import Task, container_name
from skep.store.view import View

from .mesh import data_port, takes_connections, vni_of


def overlay_network(view: View, network_id: str) -> OverlayNetwork | None:
    """Returns the network as nodes are told of it. None: they are told nothing of it, as it is none across
    hosts, or is the routing mesh's, or of IPv6."""
    network = view.networks.get(network_id)
    if network is None or not network.is_overlay or network.spec.ingress or not vni_of(network):
        return None
    spec, port = network.spec, data_port(view)
    is_encrypted = spec.is_encrypted
    return OverlayNetwork(
        network.id,
        network.pools[0].subnet,
        vni_of(network),
        encrypted_port(port) if is_encrypted else port,
        spec.name,
        mtu_of(spec.options),
        is_encrypted=is_encrypted,
    )


def overlay_words(view: View, service_id: str, network_id: str) -> OverlayService:
    """Returns what the service is called on the network, without its tasks."""
    service = view.services.get(service_id)
    if service is None:
        return OverlayService(service_id, _name(view, service_id))
    return OverlayService(
        service_id, service.spec.name, _aliases(service, network_id), _vip(service, network_id)
    )


def replicas_wanted(view: View, service_id: str) -> int:
    """Returns how many tasks a replicated service is to have: but for those that no node has room for."""
    service = view.services.get(service_id)
    wanted = service.spec.replicas or 0 if service is not None else 0
    return max(0, wanted - len(view.pending.get(service_id, ())))


def overlay_task(
    view: View, task: Task, network_id: str, deaf: Collection[str] = ()
) -> OverlayEndpoint | None:
    """Returns the task as the network has it. None: it is not there, or has ended.

    One of a node that is down is told of, and takes no new connections: who reaches it still does. Nodes that
    are `deaf` know no overlays: nobody reaches their tasks.
    """
    for given in task.addresses:
        if given.network_id == network_id:
            break
    else:
        return None
    takes_new = takes_connections(view, task, deaf)
    if takes_new is None:
        return None
    name = _name(view, task.service_id)
    own = container_name(name, view.shown_slot(task), task.node_id, task.id) if name else ""
    takes_new = takes_new and view.node_state(task.node_id).state != DOWN
    return OverlayEndpoint(_plain(given.address), task.node_id, own, takes_new)


def overlay_attachment(
    view: View, attachment: Attachment, deaf: Collection[str] = ()
) -> OverlayService | None:
    """Returns a single container. None: it is gone, or its node is, or knows no overlays."""
    node_id = attachment.node_id
    is_there = attachment.id in view.attached.get(node_id, {}) and node_id in view.nodes
    if not is_there or node_id in deaf:
        return None
    endpoint = OverlayEndpoint(_plain(attachment.address.address), node_id)
    return OverlayService(attachment.id, aliases=attachment.names, endpoints=(endpoint,))


def networks_of_node(view: View, node_id: str) -> set[str]:
    """Returns the networks that tasks of the node that have not ended, and its single containers, are on."""
    return set(_networks_of(view, node_id))


def is_on(view: View, node_id: str, network_id: str) -> bool:
    """Returns whether the network is one of those. Cost: nearly nothing where it is."""
    return any(each == network_id for each in _networks_of(view, node_id))


def _networks_of(view: View, node_id: str) -> Iterator[str]:
    for each in view.attached.get(node_id, {}).values():
        yield each.address.network_id
    for task in view.tasks_of_node(node_id):
        status = view.status_of(task)
        if task.addresses and not (status is not None and is_terminal(status.state)):
            for given in task.addresses:
                yield given.network_id


def _name(view: View, service_id: str) -> str:
    service = view.services.get(service_id)
    if service is not None:
        return service.spec.name
    removed = view.removed.get(service_id)
    return removed.name if removed is not None else ""  # one that cannot be read


def _plain(address: str) -> str:
    return address.partition("/")[0]


def _aliases(service: Service, network_id: str) -> tuple[str, ...]:
    attached = service.spec.task_template.networks or service.spec.networks
    return tuple(dict.fromkeys(a for each in attached if each.target == network_id for a in each.aliases))


def _vip(service: Service, network_id: str) -> str:
    if service.endpoint is None:
        return ""
    mode = service.spec.endpoint_spec.mode if service.spec.endpoint_spec is not None else ""
    if mode == "dnsrr":
        return ""
    return next((_plain(vip.addr) for vip in service.endpoint.vips if vip.network_id == network_id), "")
