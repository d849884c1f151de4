"""What this node's kernel should have for what its manager told: objects, and what cannot be. Pure.

A packet's way through the mesh, in the terms used here: a client's connection to a published port of any node
(the *ingress* node) gets a task's address there (DNAT), nothing else of it changes, and goes, through the
tunnel where the task is elsewhere, to the task's node. That one knows by the sender's MAC address which node
it came by, keeps that in the connection's mark, and sends the answers back there, where they get the
published address again. So the task sees the client's own address. Only what starts on a host of the swarm
itself, or in its containers, has its address replaced by the node's (SNAT): another node could not tell it
from its own. How endpoints of other nodes are reached is `segment`'s, and the same for all networks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from skep.model.mesh import BRIDGE_PREFIX, TCP, UDP, Mesh, MeshService
from skep.network.chains import mesh_chains, port_chain, shared_chains
from skep.network.esp import esp_chains, esp_failures, esp_objects
from skep.network.host import Host
from skep.network.marks import FLOW
from skep.network.objects import (
    Accept,
    Counter,
    Hairpin,
    Neighbour,
    Object,
    PortJump,
    ReturnRoute,
    ReturnRule,
    Sysctl,
    Table,
)
from skep.network.segment import (
    Segment,
    clash_of,
    failures_of,
    is_published,
    objects_of,
    segments_of,
    settings,
    unusable,
)
from skep.network.steering import (
    PublishedPort,
    fwmarks,
    is_steered,
    steered_chain,
    steering_chains,
    steering_failures,
    steering_objects,
    steering_settings,
)
from skep.network.vips import vip_objects
from skep.network.ways import mac_of, numbers


class Desired(Struct, frozen=True):
    """`failures` are sentences for people: what of the mesh and its networks this node cannot do, and why.
    `is_unknown`: it cannot be said what should be, so what there is stays."""

    objects: tuple[Object, ...] = ()
    failures: tuple[str, ...] = ()
    is_unknown: bool = False


def ports_of(mesh: Mesh) -> dict[tuple[str, int], MeshService]:
    """Returns who publishes what, by (protocol, port)."""
    return {
        (port.protocol, port.published): service
        for service in sorted(mesh.services.values(), key=lambda each: each.id)
        for port in service.ports
        if port.protocol in (TCP, UDP)
    }


def is_used(mesh: Mesh) -> bool:
    """True where this node has something of the mesh's to do, or of other networks'."""
    return is_published(mesh) or bool(mesh.overlays)


def settings_of(mesh: Mesh) -> Iterable[Sysctl]:
    """Yields what the kernel is to be set to, if all that was told can be."""
    if mesh.network is not None:
        yield from settings(mesh.network, is_mesh=True)
    for overlay in mesh.overlays.values():
        yield from settings(overlay.network, is_mesh=False)


def desired(
    mesh: Mesh,
    node_id: str,
    host: Host,
    refused: Collection[tuple[str, int]] = (),
    known: Mapping[str, int] = {},
    marks: Mapping[PublishedPort, int] = {},
) -> Desired:
    """Returns what this node should have: nothing of a network for which its host would lose its way to
    others. `refused` are ports that somebody else on the host has; `known` are numbers of other nodes that
    connections may have in their marks, `marks` those by which IPVS knows ports. A swarm that publishes
    nothing, and whose last connections have ended with their tasks, has nothing but the bridge, until it is
    left; another network nothing but that, until the node is told that it has none of it any more."""
    objects: list[Object] = []
    failures: list[str] = []
    used: list[Segment] = []
    is_unknown = False
    for segment in segments_of(mesh, node_id, host):
        if not segment.is_used and segment.bridge not in host.bridges:
            continue
        if segment.is_used and (whose := clash_of(segment, mesh, host)):
            failures.append(whose)
        elif why := unusable(segment):
            is_unknown = True
            failures += [why] if segment.is_used else []
        elif segment.is_used:
            used.append(segment)
        else:
            objects.append(segment.bridge_object())
    if is_unknown:
        return Desired(failures=tuple(dict.fromkeys(failures)), is_unknown=True)
    if used:
        objects += [*host.ports, *host.gateways, *(Hairpin(port.name) for port in host.ports)]
        objects += [Table(), *shared_chains(used, host), *vip_objects(used, node_id, host)]
        objects += [*esp_objects(used, mesh.keys), *esp_chains(used)]
        failures += esp_failures(used, mesh.keys)
    for segment in used:
        objects += objects_of(segment)
        if segment.is_mesh:
            objects += _mesh_objects(segment, mesh, node_id, host, refused, known, marks)
            failures += steering_failures(mesh, host)
        failures += failures_of(segment, host)
    failures += _dropped(used, host)
    return Desired(tuple(objects), tuple(dict.fromkeys(failures)))


def _mesh_objects(
    segment: Segment,
    mesh: Mesh,
    node_id: str,
    host: Host,
    refused: Collection[tuple[str, int]],
    known: Mapping[str, int],
    marks: Mapping[PublishedPort, int],
) -> Iterable[Object]:
    """Yields what published ports need beside their network."""
    ways = segment.ways
    if host.accept_in:
        yield Accept(host.accept_in, str(segment.subnet))
    # Answers of tasks go back by the node that their connection came by.
    numbered = numbers(known, ways.others) if ways.local else {}
    for node, number in numbered.items():
        yield Neighbour(segment.bridge, node, mac_of(node))
        yield ReturnRoute(number, node, segment.bridge)
        yield ReturnRule(number)
    yield from mesh_chains(segment, host, mesh, numbered)
    ports = {each: service for each, service in ports_of(mesh).items() if each not in refused}
    steered: Mapping[PublishedPort, int] = {}
    if is_steered(mesh, host):
        steered = fwmarks(marks, ports, host.fwmarks_taken)
        yield from steering_settings()
        yield from steering_chains()
    for (protocol, published), service in ports.items():
        port = next(p for p in service.ports if (p.protocol, p.published) == (protocol, published))
        usable = ways.usable(service.endpoints)
        made = port_chain(port, usable, node_id)
        if (mark := steered.get((protocol, published))) is not None:
            yield from steering_objects(service, port, ways, mark)
            made = steered_chain(made) if usable else made
        yield made
        yield Counter(made.name)
        yield PortJump(protocol, published, made.name)


def _dropped(used: Collection[Segment], host: Host) -> Iterable[str]:
    """Yields which firewall drops our packets: another table's verdict cannot keep it from that."""
    for_mesh = host.firewalls if any(each.is_mesh for each in used) else ()
    for_overlays = host.overlay_firewalls if any(not each.is_mesh for each in used) else ()
    for table in for_mesh:
        yield (
            f"the nftables table {table} drops what is forwarded, and has no rule for the routing mesh:"
            f" published ports do not answer here. Add to its forward chain: {FLOW} accept"
        )
    ours = f'"{BRIDGE_PREFIX}*"'
    for table in for_overlays:
        yield (
            f"the nftables table {table} drops what is forwarded, and has no rule for overlay networks: their"
            " tasks here and on other nodes do not reach each other. Add to its forward chain: iifname"
            f" {ours} oifname {ours} accept"
        )
