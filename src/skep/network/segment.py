"""One network of the swarm as this node has it: the mesh's own, or one that its tasks are on. Pure.

Each is a bridge, with a tunnel to the bridges of other nodes. Endpoints of other nodes are reached by *their
nodes' bridges*, at layer 3, so nobody has to know of a container's MAC address, and each host's firewall sees
both directions. On an overlay network containers ask for each other by ARP: the tunnel answers them itself,
from its own table of neighbours, with the MAC address of this node's own bridge, and nothing is flooded. What
is not in that table the kernel says (`misses`): of a large network a node is told what it asks for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from skep.model.mesh import Mesh, bridge_name, tunnel_name
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network.clash import clash
from skep.network.host import Host
from skep.network.objects import (
    Bridge,
    Forward,
    Neighbour,
    Object,
    PortForward,
    SubnetRoute,
    Sysctl,
    Tunnel,
)
from skep.network.ways import Ways, is_loopback, is_usable, mac_of

NAMED_MAX = 3  # nodes in a sentence: an id and an address have 43 characters, and it has 600

_MESHS_REMEDY = (
    "Give the mesh another one: docker network rm ingress, then docker network create --ingress --driver"
    " overlay --subnet …; or begin a swarm with docker swarm init --default-addr-pool"
)
_REMEDY = (
    "Give it another one: docker network rm, then docker network create --driver overlay --subnet …; or begin"
    " a swarm with docker swarm init --default-addr-pool"
)


class Segment(Struct, frozen=True):
    """`own` is where this node's tunnels end, `addresses` those that somebody is known to have. One that is
    not used has nothing but its bridge, where that is there: an engine's network may be on it for a while, or
    about to be."""

    network: OverlayNetwork
    subnet: ipaddress.IPv4Network
    own: str
    ways: Ways
    is_mesh: bool
    is_used: bool
    services: tuple[OverlayService, ...] = ()
    addresses: frozenset[str] = frozenset()

    @property
    def bridge(self) -> str:
        return bridge_name(self.network.vni)

    @property
    def tunnel(self) -> str:
        return tunnel_name(self.network.vni)

    @property
    def is_encrypted(self) -> bool:
        """True where what goes to other nodes is to be encrypted."""
        return self.network.is_encrypted

    @property
    def has_tunnel(self) -> bool:
        """True where a tunnel can begin here. One of an overlay network is wanted also where it leads
        nowhere: it answers who asks for a service's address."""
        return self.ways.is_there and not (self.is_mesh and is_loopback(self.own))

    def bridge_object(self) -> Bridge:
        return Bridge(self.bridge, mac_of(self.own), self.network.mtu)


def is_published(mesh: Mesh) -> bool:
    """True where something is published, or connections of before may go on."""
    return any(each.ports or each.endpoints for each in mesh.services.values())


def is_encrypted(mesh: Mesh) -> bool:
    """True where the node was told of an encrypted network."""
    return any(each.network.is_encrypted for each in mesh.overlays.values())


def segments_of(mesh: Mesh, node_id: str, host: Host) -> Iterator[Segment]:
    """Yields the mesh's network, then the others that this node was told of, in one order."""
    own = mesh.nodes.get(node_id, "")
    if mesh.network is not None:
        endpoints = (each for service in mesh.services.values() for each in service.endpoints)
        subnet = subnet_of(mesh.network)
        ways = Ways(subnet, mesh.nodes, endpoints, own, host)
        yield Segment(mesh.network, subnet, own, ways, True, is_published(mesh))
    for _, overlay in sorted(mesh.overlays.items()):
        on_it = _told(overlay)
        own_there = overlay.nodes.get(node_id, own)
        subnet = subnet_of(overlay.network)
        services = tuple(each for _, each in sorted(overlay.services.items()))
        ways = Ways(subnet, overlay.nodes, on_it, own_there, host, overlay.senders)
        addresses = frozenset(each.address for each in on_it)
        yield Segment(overlay.network, subnet, own_there, ways, False, bool(ways.local), services, addresses)


def _told(overlay: Overlay) -> Collection[OverlayEndpoint]:
    """Returns all endpoints, two with one address where one of them has moved: `Ways` knows which it is."""
    services = (each for service in overlay.services.values() for each in service.endpoints)
    return dict.fromkeys((*overlay.endpoints.values(), *services)).keys()


def subnet_of(network: OverlayNetwork) -> ipaddress.IPv4Network:
    """Returns its subnet; users may write it with an address of it."""
    return ipaddress.IPv4Network(network.subnet, strict=False)


def settings(network: OverlayNetwork, is_mesh: bool) -> Iterable[Sysctl]:
    """Yields what the kernel is to be set to."""
    bridge = bridge_name(network.vni)
    yield Sysctl("ipv4/ip_forward", "1")
    # A client may be reached by another way than through here.
    yield Sysctl(f"ipv4/conf/{bridge}/rp_filter", "2")
    if is_mesh:
        yield Sysctl(f"ipv4/conf/{bridge}/route_localnet", "1")  # connections from 127.0.0.1
    yield Sysctl(f"ipv4/conf/{bridge}/arp_ignore", "1")  # nobody is told of the host's other addresses
    yield Sysctl(f"ipv6/conf/{bridge}/disable_ipv6", "1")  # it would talk to itself on all nodes


def objects_of(segment: Segment) -> Iterable[Object]:
    """Yields the devices of one that is used, and the ways to others' endpoints."""
    network, bridge, tunnel, ways = segment.network, segment.bridge, segment.tunnel, segment.ways
    yield segment.bridge_object()
    if segment.has_tunnel:
        own, port, mtu = segment.own, network.data_port, network.mtu
        yield Tunnel(tunnel, bridge, network.vni, own, port, mtu, tells_misses=not segment.is_mesh)
    yield from settings(network, segment.is_mesh)
    yield SubnetRoute(str(segment.subnet), bridge)
    nodes = {ways.address_of(each) for each in ways.remote} | set(ways.others if ways.local else ())
    macs = {node: mac_of(node) for node in nodes}
    own_mac = mac_of(segment.own)
    for node, mac in macs.items():
        yield PortForward(tunnel, mac)
        yield Forward(tunnel, mac, node)
    for each in ways.remote:
        yield Neighbour(bridge, each.address, macs[ways.address_of(each)])
        if not segment.is_mesh:
            yield Neighbour(tunnel, each.address, own_mac)  # what containers are answered


def clash_of(segment: Segment, mesh: Mesh, host: Host) -> str:
    """Returns why this host cannot have the network, for people; empty where it can."""
    lost = clash(segment.subnet, segment.own, mesh.managers, host)
    if not lost:
        return ""
    if segment.is_mesh:
        what = f"the routing mesh is not here, as its network {segment.subnet}"
        return f"{what} would take away {lost}. {_MESHS_REMEDY}"
    what = f"network {segment.network.name} is not here, as its subnet {segment.subnet}"
    return f"{what} would take away {lost}. {_REMEDY}"


def failures_of(segment: Segment, host: Host) -> Iterable[str]:
    """Yields what of a network that is used does not work here, and why, for people."""
    yield from segment.ways.failures(has_others=segment.network.is_large)
    yield from _inside(segment)
    yield from _beside(segment, host)


def _inside(segment: Segment) -> Iterable[str]:
    """Yields which nodes have no way, as theirs would be a task's."""
    inside = segment.ways.inside
    if not inside:
        return
    named = [f"{node} ({address})" for node, address in sorted(inside.items())]
    more = f" and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
    remedy = _MESHS_REMEDY if segment.is_mesh else _REMEDY
    who = f"published ports: {', '.join(named[:NAMED_MAX])}{more}"
    if not segment.is_mesh:
        who = f"tasks here: {', '.join(named[:NAMED_MAX])}{more}"
    yield (
        f"nodes with an address of {_called(segment)} are not reached by {who}. On each: docker swarm leave,"
        f" then join with --data-path-addr; or, if it has no other: {remedy[0].lower()}{remedy[1:]}"
    )


def _beside(segment: Segment, host: Host) -> Iterable[str]:
    """Yields who else has the network's addresses here: what is on his device is not on its bridge."""
    reached = "published ports" if segment.is_mesh else "those of other nodes"
    for address, device in sorted(host.devices.items()):
        if device != segment.bridge and ipaddress.IPv4Address(address) in segment.subnet:
            yield (
                f"device {device} has address {address} of {_called(segment)}: tasks there are not reached by"
                f" {reached}. If it is a bridge that an earlier skep had the engine make: docker node update"
                " --availability drain, and active when its tasks are gone"
            )


def _called(segment: Segment) -> str:
    if segment.is_mesh:
        return f"the mesh's own network {segment.subnet}"
    return f"network {segment.network.name} ({segment.subnet})"


def unusable(segment: Segment) -> str:
    """Returns why this node has no part of any network, for people; empty where it can."""
    if is_usable(segment.own):
        return ""
    if not segment.own:
        return "the manager knows no address of this node: its tunnels cannot begin anywhere"
    return f"its address {segment.own} is none of one host's, of IPv4, which tunnels need"
