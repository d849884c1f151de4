"""The routing mesh as the view has it: which ports there are, and which tasks take connections. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from zlib import crc32

from msgspec.structs import replace

from skep.model.mesh import ENDPOINTS_MAX, PROTOCOLS, MeshEndpoint, MeshPort, MeshService
from skep.model.network import VXLAN_OPTION, Network, ingress_of
from skep.model.node import DOWN
from skep.model.overlay import OverlayNetwork
from skep.model.states import RUNNING, is_terminal
from skep.model.task import Task, TaskStatus
from skep.store.view import View

DATA_PORT = 4789  # Docker's own, where the swarm's record says nothing


def mesh_network(view: View) -> OverlayNetwork | None:
    """Returns the network that the mesh is on; None where users removed it."""
    network = ingress_of(view.networks.values())
    vni = vni_of(network) if network is not None else 0
    if network is None or not vni or network.spec.is_encrypted:  # which an earlier skep took for the mesh's
        return None
    return OverlayNetwork(network.id, network.pools[0].subnet, vni, data_port(view))


def data_port(view: View) -> int:
    """Returns the UDP port that tunnels between nodes end at."""
    return view.cluster.data_path_port if view.cluster is not None else DATA_PORT


def vni_of(network: Network) -> int:
    """Returns the number of a network on the wire; 0: it has none, or is not of IPv4."""
    text = network.options.get(VXLAN_OPTION, "").partition(",")[0]
    return int(text) if text.isdigit() and network.pools and ":" not in network.pools[0].subnet else 0


def is_published(view: View, service_id: str) -> bool:
    """True where the mesh has ports of the service."""
    return bool(_ports(view, service_id))


def mesh_service(
    view: View, service_id: str, network_id: str, deaf: Collection[str] = ()
) -> MeshService | None:
    """Returns what nodes are told of a service: all of it that matters. None: nothing of it does. Nodes that
    are `deaf` know no mesh: nothing leads to their tasks. Cost: the tasks of the service."""
    words = mesh_words(view, service_id)
    found = tuple(_endpoints(view, service_id, network_id, deaf))
    if not words.ports and not found:
        return None
    return replace(words, endpoints=spread(found))


def mesh_words(view: View, service_id: str) -> MeshService:
    """Returns the same without its tasks. Cost: the tasks of the service."""
    service, removed = view.services.get(service_id), view.removed.get(service_id)
    name = service.spec.name if service is not None else removed.name if removed is not None else ""
    versions = {task.spec_version for task in view.tasks_of_service(service_id) if task.result is None}
    is_alone = all(len(view.demand(service_id, version).networks) <= 1 for version in versions)
    return MeshService(service_id, name, _ports(view, service_id), is_alone=is_alone)


def mesh_endpoint(view: View, task: Task, network_id: str, deaf: Collection[str] = ()) -> MeshEndpoint | None:
    """Returns a task as nodes are told of it. None: they are not."""
    takes_new = takes_connections(view, task, deaf)
    if takes_new is None or view.node_state(task.node_id).state == DOWN:
        return None
    for given in task.addresses:  # with no generator: it is asked twice for each task
        if given.network_id == network_id:
            return MeshEndpoint(given.address.partition("/")[0], task.node_id, takes_new)
    return None


def node_address(view: View, node_id: str) -> str:
    """Returns where a node's tunnels end; an empty text where it has not said and was not seen."""
    node = view.nodes.get(node_id)
    return (node.data_addr or node.addr) if node is not None else ""


def takes_connections(view: View, task: Task, deaf: Collection[str]) -> bool | None:
    """Returns whether the task takes new connections: it runs, and is to. None: nobody is told of it, as it
    has ended, or its node is gone, or `deaf`."""
    status = view.status_of(task)
    if status is not None and is_terminal(status.state):
        return None
    if task.node_id not in view.nodes or task.node_id in deaf:
        return None
    return view.desired_of(task) <= RUNNING and _runs(view, task, status)


def _ports(view: View, service_id: str) -> tuple[MeshPort, ...]:
    service, cluster = view.services.get(service_id), view.cluster
    if service is None or service.endpoint is None or not service.endpoint.ports:
        return ()  # asked for each task that is reported, and most publish nothing
    return tuple(
        MeshPort(port.protocol, port.published_port, port.target_port)
        for port in service.endpoint.ports
        if port.publish_mode == "ingress"
        and port.protocol in PROTOCOLS
        and port.published_port
        # An earlier skep's service may have it.
        and not (cluster is not None and cluster.is_data_path(port.protocol, port.published_port))
    )


def _endpoints(view: View, service_id: str, network_id: str, deaf: Collection[str]) -> Iterator[MeshEndpoint]:
    """Yields also tasks that do not run yet: their nodes must know the ways back when the first connection
    comes."""
    for task in view.tasks_of_service(service_id):
        endpoint = mesh_endpoint(view, task, network_id, deaf)
        if endpoint is not None:
            yield endpoint


def _runs(view: View, task: Task, status: TaskStatus | None) -> bool:
    if status is None:
        # A new leader has not heard of it yet: it ran before, as far as anybody knows, and is not to be
        # missing for the moment in which its node comes.
        return task.updated_at < view.led_since
    return status.state == RUNNING


def spread(found: tuple[MeshEndpoint, ...]) -> tuple[MeshEndpoint, ...]:
    """Returns at most as many as may be told: here and there of all of them, and where one comes or goes the
    same others as before."""
    if len(found) <= ENDPOINTS_MAX:
        return found
    serving = [each for each in found if each.takes_new] or found
    return tuple(heapq.nsmallest(ENDPOINTS_MAX, serving, key=lambda each: crc32(each.address.encode())))
