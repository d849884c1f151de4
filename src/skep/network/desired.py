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

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from skep.model.mesh import BRIDGE_PREFIX, TCP, UDP, Mesh, MeshPort, MeshService
from skep.network.chains import mesh_chains, port_chain, shared_chains
from skep.network.esp import ends_of, esp_failures, esp_objects
from skep.network.fast_path import add_fast_paths
from skep.network.host import HostFacts
from skep.network.making import Key, Made, Making, Objects
from skep.network.marks import FLOW
from skep.network.objects import (
    Accept,
    ChainCounter,
    Gateway,
    Hairpin,
    Neighbour,
    Object,
    Port,
    PortJump,
    ReturnRoute,
    Sysctl,
    Table,
    Traffic,
    Trusted,
)
from skep.network.return_rules import return_rules
from skep.network.segment import (
    Segment,
    add_objects,
    clash_of,
    failures_of,
    is_published,
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
from skep.network.vips import add_vips
from skep.network.ways import mac_of, numbers


class Desired(Struct, frozen=True):
    """`parts` are the objects that are wanted, what one service needs together, `vips` services' own
    addresses that lead to their tasks, `numbers` those of other nodes' addresses in connections' marks,
    `fwmarks` those by which IPVS knows ports.
    `failures` are sentences for people: what of the mesh and its networks this node cannot do, and why.
    `is_unknown`: it cannot be said what should be, so what there is stays. `made` is for the next time."""

    parts: dict[Key, Objects] = {}
    vips: frozenset[str] = frozenset()
    numbers: dict[str, int] = {}
    fwmarks: dict[PublishedPort, int] = {}
    failures: tuple[str, ...] = ()
    is_unknown: bool = False
    made: Made = {}

    @property
    def objects(self) -> Objects:
        return tuple(chain.from_iterable(self.parts.values()))


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
    host: HostFacts,
    refused: Collection[tuple[str, int]] = (),
    known: Mapping[str, int] = {},
    before: Desired = Desired(),
    marks: Mapping[PublishedPort, int] = {},
) -> Desired:
    """Returns what this node should have: nothing of a network for which its host would lose its way to
    others. `refused` are ports that somebody else on the host has; `known` are numbers of other nodes that
    connections may have in their marks, `marks` those by which IPVS knows ports; of what was wanted `before`,
    nothing that is the same is made anew. A swarm that publishes nothing, and whose last connections have
    ended with their tasks, has nothing but the bridge, until it is left; another network nothing but that,
    until the node is told that it has none of it any more."""
    making = Making(before.made)
    failures: list[str] = []
    used: list[Segment] = []
    is_unknown = False
    for segment in segments_of(mesh, node_id, host, making):
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
            making.parts["bridge", segment.network.id] = (segment.bridge_object(),)
    if is_unknown:
        return Desired(failures=tuple(dict.fromkeys(failures)), is_unknown=True)
    vips: frozenset[str] = frozenset()
    numbered: dict[str, int] = {}
    steered: dict[PublishedPort, int] = {}
    if used:
        making.add(("host",), _of_host, host.ports, host.gateways)
        if host.has_firewalld:
            making.parts["trusted",] = (Trusted(),)
        numbered = _numbered(used, known)
        making.add(("chains",), _shared, tuple(map(_without_tasks, used)), numbered)
        vips = add_vips(making, used, node_id, host)
        if host.has_fast_path:
            crossing = [each for each in host.ports if each.name in host.crossing]
            add_fast_paths(making, used, crossing, host.gateways)
        if ends := ends_of(used):
            making.add(("esp",), esp_objects, ends, mesh.keys, host.esp)
            failures += esp_failures(used, mesh.keys)
    for segment in used:
        add_objects(making, segment)
        if segment.is_mesh:
            steered = _add_mesh(making, segment, mesh, node_id, host, refused, numbered, marks)
            failures += steering_failures(mesh, host)
        failures += failures_of(segment, host)
    failures += _dropped(used, host)
    said = tuple(dict.fromkeys(failures))
    return Desired(making.parts, vips, numbered, steered, said, made=making.made)


def _shared(segments: Collection[Segment], numbered: Mapping[str, int]) -> Objects:
    return (Table(), *shared_chains(segments, numbered))


def _without_tasks(segment: Segment) -> Segment:
    """Returns what the chains that all share are made of: no service's change is one of theirs."""
    ways = replace(segment.ways, placed={}, lost={})
    return replace(segment, ways=ways, services=())


def _of_host(ports: Collection[Port], gateways: Collection[Gateway]) -> Objects:
    return (*ports, *gateways, *(Hairpin(port.name) for port in ports))


def _numbered(used: Iterable[Segment], known: Mapping[str, int]) -> dict[str, int]:
    """Returns the other nodes' numbers: a task's answers go back by the node that the connection came by."""
    ways = next((each.ways for each in used if each.is_mesh), None)
    return numbers(known, ways.reach.others) if ways is not None and ways.here else {}


def _add_mesh(
    making: Making,
    segment: Segment,
    mesh: Mesh,
    node_id: str,
    host: HostFacts,
    refused: Collection[tuple[str, int]],
    numbered: Mapping[str, int],
    marks: Mapping[PublishedPort, int],
) -> dict[PublishedPort, int]:
    """Adds what published ports need beside their network. Returns the marks of those that IPVS leads."""
    bridge, subnet, ways = segment.bridge, str(segment.subnet), segment.ways
    if host.accept_in:
        making.parts["accept",] = (Accept(host.accept_in, subnet),)
    making.add(("back",), _ways_back, bridge, numbered)
    is_led = is_steered(mesh, host)
    together = (each for service_id, each in ways.placed.items() if not mesh.services[service_id].is_alone)
    shy = frozenset().union(*(each.here for each in together))
    making.add(("mesh",), mesh_chains, bridge, subnet, ways.reach, host.uplinks, shy, is_led)
    ports = {each: service for each, service in ports_of(mesh).items() if each not in refused}
    steered = fwmarks(marks, ports, host.fwmarks_taken) if is_led else {}
    if is_led:
        making.add(("steering",), _steering)
    own: dict[str, tuple[tuple[MeshPort, int], ...]] = {}
    for (protocol, published), service in ports.items():
        port = next(p for p in service.ports if (p.protocol, p.published) == (protocol, published))
        own[service.id] = (*own.get(service.id, ()), (port, steered.get((protocol, published), 0)))
    for service_id, marked in own.items():
        placed = ways.placed[service_id]
        reached = placed.here.union(placed.there) if is_led else frozenset()
        making.add(("ports", service_id), _ports, marked, placed.serving, reached, node_id)
    return steered


def _steering() -> Objects:
    return (*steering_settings(), *steering_chains())


def _ways_back(bridge: str, numbered: Mapping[str, int]) -> Objects:
    """Returns how answers of tasks go back by the node that their connection came by."""
    made: list[Object] = list(return_rules(numbered.values()))
    for node, number in numbered.items():
        made += Neighbour(bridge, node, mac_of(node)), ReturnRoute(number, node, bridge)
    return tuple(made)


def _ports(
    marked: Collection[tuple[MeshPort, int]], serving: Sequence[str], reached: Collection[str], node_id: str
) -> Objects:
    """Returns what leads connections to a service's published ports to its tasks; ports with a mark are
    IPVS's to lead."""
    made: list[Object] = []
    for port, mark in marked:
        led = port_chain(port, serving, node_id)
        if mark:
            made += steering_objects(port, serving, reached, mark)
            led = steered_chain(led) if serving else led
        made += led, ChainCounter(led.name), Traffic(port.protocol, str(port.published))
        made.append(PortJump(port.protocol, port.published, led.name))
    return tuple(made)


def _dropped(used: Collection[Segment], host: HostFacts) -> Iterable[str]:
    """Yields which firewall drops our packets: another table's verdict cannot keep it from that."""
    for_mesh = host.firewalls if any(each.is_mesh for each in used) else ()
    for_overlays = host.overlay_firewalls if any(not each.is_mesh for each in used) else ()
    for table in for_mesh:
        yield (
            f"the nftables table {table} drops what is forwarded, and has no rule for the routing mesh:"
            f" published ports do not answer here. Add to its forward chain: {FLOW} accept"
        )
    port = next((each.network.data_port for each in used if not each.network.is_encrypted), 0)
    if host.shut_zone and port:
        yield (
            f"firewalld keeps other nodes' tunnels out (zone {host.shut_zone}): tasks here are not reached"
            " from other nodes, nor those there from here. Type: firewall-cmd --permanent"
            f" --zone={host.shut_zone} --add-port={port}/udp; firewall-cmd --reload"
        )
    ours = f'"{BRIDGE_PREFIX}*"'
    for table in for_overlays:
        yield (
            f"the nftables table {table} drops what is forwarded, and has no rule for overlay networks: their"
            " tasks here and on other nodes do not reach each other. Add to its forward chain: iifname"
            f" {ours} oifname {ours} accept"
        )
