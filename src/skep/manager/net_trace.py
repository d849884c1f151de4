"""The way of a connection to a service, hop by hop, in sentences: from a node, or from one of its tasks.

Pure, of the leader's present view; what nodes say of their kernels is in it. Answers are bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from skep.manager.dispatcher.mesh import mesh_network, node_address
from skep.manager.dispatcher.overlay_views import overlay_network
from skep.manager.scheduler.explain_nodes import node_name
from skep.manager.task_texts import task_name
from skep.model.container import PortConfig
from skep.model.mesh import bridge_name, concerns, tunnel_name
from skep.model.node import DOWN, Node
from skep.model.overlay import OverlayNetwork
from skep.model.service import Service
from skep.model.states import RUNNING, is_terminal
from skep.model.task import Task, assigned_status
from skep.store.view import View

TASKS_MAX = 10  # that are named one by one
KNOWN_MAX = 256  # of one service, a node may know fewer than there are
SCAN_MAX = 20_000  # tasks of a service that are looked at: 20 ms


class NetTrace(Struct, frozen=True, rename="pascal"):
    """`hops` are what happens, in order; `troubles` what keeps it from happening, by the nodes' own word."""

    begin: str
    hops: list[str]
    troubles: list[str]


class _Place(Struct, frozen=True):
    """Where a connection is led to other addresses: a node, on a network of the swarm."""

    network: OverlayNetwork
    node_id: str


def trace(view: View, service: Service, port: int, protocol: str, start: Node | Task) -> NetTrace:
    """Returns how a client that connects to a node, or a task, gets to the service."""
    if isinstance(start, Task):
        return _from_task(view, service, port, protocol, start)
    return _from_node(view, service, port, protocol, start)


def _from_node(view: View, service: Service, port: int, protocol: str, node: Node) -> NetTrace:
    name = node_name(node, node.id)
    begin = f"A client connects to {name} ({node.addr or 'no address'}), port {port}/{protocol}."
    found = next((p for p in _ports(service) if (p.published_port, p.protocol) == (port, protocol)), None)
    if found is None:
        return NetTrace(begin, [_not_published(service, port, protocol)], [])
    if view.node_state(node.id).state == DOWN:
        return NetTrace(begin, [f"{name} is down: nobody there answers."], [])
    if found.publish_mode != "ingress":
        return NetTrace(begin, list(_in_host_mode(view, service, found, node)), [])
    network = mesh_network(view)
    if network is None:
        said = "There is no ingress network: published ports answer nowhere. docker network create --ingress"
        return NetTrace(begin, [said], [])
    place = _Place(network, node.id)
    begins = f"{name}'s kernel (nft list table ip skep) has the port, keeps the client's address, and"
    hops = list(_led(view, service, place, begins, found.target_port))
    return NetTrace(begin, hops, _troubles(view, node.id, service))


def _from_task(view: View, service: Service, port: int, protocol: str, task: Task) -> NetTrace:
    whose, web = task_name(view, task), service.spec.name
    on = node_name(view.nodes.get(task.node_id), task.node_id)
    begin = f"{whose} on {on} connects to {web}, port {port}/{protocol}."
    own = {given.network_id: given for given in task.addresses}
    there = _networks(view, service)
    common = [each for each in own if each in there and overlay_network(view, each) is not None]
    if not common:
        said = (
            f"They have no network across hosts in common: {whose} is on {_called(view, own)}, {web} on"
            f" {_called(view, there)}. The name {web} is not known to it"
        )
        return NetTrace(begin, [said + _by_port(service) + "."], [])
    hops = list(_inside_port(service, port, protocol))
    for network_id in common:
        network = overlay_network(view, network_id)
        assert network is not None
        gateway = own[network_id].gateway.partition("/")[0]
        hops.append(
            f"On network {network.name} it is {_plain(own[network_id].address)}, and asks for the name at"
            f" {gateway or 'its gateway'}, where skepd of {on} answers."
        )
        vip = _vip(service, network_id)
        begins = f"The name leads to the service's own address {vip}, which {on}'s kernel has, and"
        if not vip:
            begins = "The name leads to the tasks' addresses; who asks has one of them. It"
        hops += _led(view, service, _Place(network, task.node_id), begins, port)
    return NetTrace(begin, hops, _troubles(view, task.node_id, service))


def _led(view: View, service: Service, place: _Place, begins: str, port: int) -> Iterator[str]:
    """Yields where the connection is led to, and why not elsewhere."""
    serving: list[tuple[Task, str]] = []
    others: list[str] = []
    is_part = False
    for n, task in enumerate(view.tasks_of_service(service.id)):
        if n == SCAN_MAX:
            is_part = True
            break
        address = next((a.address for a in task.addresses if a.network_id == place.network.id), "")
        why = _why_not(view, task, address)
        if why is None:
            serving.append((task, _plain(address)))
        elif why and len(others) < TASKS_MAX:
            others.append(f"Nothing is led to {task_name(view, task)}: {why}.")
    if not serving:
        yield f"{begins} refuses at once: no task of {service.spec.name} takes connections."
    else:
        count = "its one task" if len(serving) == 1 else f"one of {len(serving)} tasks, in turn"
        yield f"{begins} leads to {count}:"
        if len(serving) > KNOWN_MAX:
            yield "  (of so many a node knows a part: 3,000 of a published service, 100 on a large network)"
        serving.sort(key=lambda each: (each[0].node_id != place.node_id, each[0].slot))
        for task, address in islice(serving, TASKS_MAX):
            yield f"  {task_name(view, task)}, {address} port {port}, {_way(view, place, task)}."
        if len(serving) > TASKS_MAX:
            yield f"  and {len(serving) - TASKS_MAX} more."
    yield from others
    if is_part:
        yield f"Of its tasks {SCAN_MAX} were looked at."


def _way(view: View, place: _Place, task: Task) -> str:
    bridge, vni = bridge_name(place.network.vni), place.network.vni
    if task.node_id == place.node_id:
        return f"on the same node, by bridge {bridge}"
    name = node_name(view.nodes.get(task.node_id), task.node_id)
    address = node_address(view, task.node_id) or "an address that is not known"
    return (
        f"on {name}: by tunnel {tunnel_name(vni)} to {address}, UDP port {place.network.data_port}, from"
        f" there by bridge {bridge}"
    )


def _why_not(view: View, task: Task, address: str) -> str | None:
    """Returns why nothing is led to a task; None where it is, an empty text where it has ended."""
    status = view.status_of(task) or assigned_status(task)
    if is_terminal(status.state) or task.result is not None:
        return ""
    if not address:
        return "it has no address on this network; the service's next update gives it one"
    if view.node_state(task.node_id).state == DOWN:
        return f"its node {node_name(view.nodes.get(task.node_id), task.node_id)} is down"
    if view.desired_of(task) > RUNNING:
        return "it is to stop; what is open goes on"
    if status.state != RUNNING:
        checked = ", and healthy where it has a health check" if status.state < RUNNING else ""
        return f"it is {status.state_name}, and has to run first{checked}"
    return None


def _in_host_mode(view: View, service: Service, port: PortConfig, node: Node) -> Iterator[str]:
    yield "The port is published in host mode: it answers where a task runs, and nowhere else."
    on = [t for t in view.bucket(node.id, service.id).values() if _why_not(view, t, "-") is None]
    if on:
        yield f"{task_name(view, on[0])} runs there: the engine leads to its port {port.target_port}."
    else:
        yield f"No task of {service.spec.name} runs on {node_name(node, node.id)}: nothing answers."


def _not_published(service: Service, port: int, protocol: str) -> str:
    web = service.spec.name
    inside = next((p for p in _ports(service) if (p.target_port, p.protocol) == (port, protocol)), None)
    if inside is not None:
        return f"Port {port} is where {web}'s containers listen; it is published as {inside.published_port}."
    said = f"Service {web} does not publish port {port}/{protocol}"
    return f"{said}{_by_port(service)}."


def _inside_port(service: Service, port: int, protocol: str) -> Iterator[str]:
    """Yields a word where the port is the one for the world."""
    published = next((p for p in _ports(service) if (p.published_port, p.protocol) == (port, protocol)), None)
    if published is not None and published.target_port != port:
        yield (
            f"Port {port} is the one for clients outside: on its networks the service is at the port that its"
            f" containers listen at, {published.target_port}."
        )


def _by_port(service: Service) -> str:
    ports = [f"{p.published_port} (inside {p.target_port}/{p.protocol})" for p in _ports(service)]
    return f"; it publishes {', '.join(ports[:TASKS_MAX])}" if ports else "; it publishes none"


def _ports(service: Service) -> Iterable[PortConfig]:
    return service.endpoint.ports if service.endpoint is not None else ()


def _networks(view: View, service: Service) -> list[str]:
    """Returns those that the service is on, as it is wanted now."""
    attached = service.spec.task_template.networks or service.spec.networks
    return [view.network_ids.get(each.target, each.target) for each in attached]


def _called(view: View, network_ids: Iterable[str]) -> str:
    names = [view.networks[each].spec.name for each in network_ids if each in view.networks]
    return ", ".join(sorted(names)) or "none"


def _vip(service: Service, network_id: str) -> str:
    vips = service.endpoint.vips if service.endpoint is not None else ()
    return next((_plain(each.addr) for each in vips if each.network_id == network_id), "")


def _troubles(view: View, node_id: str, service: Service) -> list[str]:
    """Returns what the node cannot do, by its own word."""
    name = node_name(view.nodes.get(node_id), node_id)
    state = view.node_state(node_id)
    return [f"{name} says: {said}." for said in state.mesh if concerns(said, service.spec.name)]


def _plain(address: str) -> str:
    return address.partition("/")[0]
