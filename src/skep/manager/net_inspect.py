"""What a node should have of the swarm's networks in its kernel, and what it says that it cannot.

Pure, of the leader's present view."""

from __future__ import annotations

from msgspec import Struct

from skep.manager.dispatcher.mesh import is_published, mesh_network, node_address
from skep.manager.dispatcher.overlay_views import networks_of_node, overlay_network
from skep.manager.scheduler.explain_nodes import node_name
from skep.manager.task_texts import task_name
from skep.model.kernel_net import KernelNet
from skep.model.mesh import bridge_name, tunnel_name
from skep.model.node import Node
from skep.model.overlay import OverlayNetwork
from skep.store.overlaps import no_place_for
from skep.store.view import View


class NetworkOnNode(Struct, frozen=True, rename="pascal"):
    """`here` are who is on it on this node, each with its address, `services` those with one of their own."""

    name: str
    id: str
    subnet: str
    bridge: str
    tunnel: str
    here: dict[str, str]
    services: dict[str, str]


class PublishedPort(Struct, frozen=True, rename="pascal"):
    """`running`: tasks of the service, on all nodes."""

    port: str
    service: str
    target: int
    running: int


class NodeNet(Struct, frozen=True, rename="pascal"):
    """`says` are the node's own words of what does not work there, and for which networks its host has no
    room, `kernel` what it finds when it is asked; where it cannot be, `unknown` says why."""

    node: str
    state: str
    tunnels_end_at: str
    networks: list[NetworkOnNode]
    ports: list[PublishedPort]
    says: list[str]
    kernel: KernelNet | None
    unknown: str


def inspect_net(view: View, node: Node, kernel: KernelNet | None = None, unknown: str = "") -> NodeNet:
    """Returns the networks that somebody on the node is on, and the ports that answer there. Cost: what it
    has, and all services."""
    networks = [overlay_network(view, each) for each in networks_of_node(view, node.id)]
    found = [network for network in networks if network is not None]
    mesh = mesh_network(view)
    ports = _ports(view)
    if mesh is not None and ports:
        found.append(mesh)
    return NodeNet(
        node_name(node, node.id),
        view.node_state(node.id).state,
        node_address(view, node.id),
        sorted((_network(view, node, each) for each in found), key=lambda each: each.name),
        ports,
        [*view.node_state(node.id).mesh, *no_place_for(view, node.id)],
        kernel,
        unknown,
    )


def _network(view: View, node: Node, network: OverlayNetwork) -> NetworkOnNode:
    here = {}
    for task in view.tasks_of_node(node.id):
        for given in task.addresses:
            if given.network_id == network.id and task.result is None:
                here[f"{task_name(view, task)} ({task.id})"] = given.address
    for each in view.attached.get(node.id, {}).values():
        if each.address.network_id == network.id:
            here[f"container {each.names[0] if each.names else each.id}"] = each.address.address
    name = view.networks[network.id].spec.name
    bridge, tunnel = bridge_name(network.vni), tunnel_name(network.vni)
    return NetworkOnNode(name, network.id, network.subnet, bridge, tunnel, here, _services(view, network.id))


def _services(view: View, network_id: str) -> dict[str, str]:
    """Returns the services' own addresses on a network, by their names."""
    return {
        service.spec.name: given.addr.partition("/")[0]
        for service in view.services.values()
        for given in (service.endpoint.vips if service.endpoint is not None else ())
        if given.network_id == network_id
    }


def _ports(view: View) -> list[PublishedPort]:
    """Returns the mesh's ports, which answer on each node."""
    found = []
    for service in view.services.values():
        if service.endpoint is None or not is_published(view, service.id):
            continue
        running = view.running.get(service.id, 0)
        for port in service.endpoint.ports:
            if port.publish_mode == "ingress":
                text = f"{port.published_port}/{port.protocol}"
                found.append(PublishedPort(text, service.spec.name, port.target_port, running))
    return sorted(found, key=lambda each: each.port)
