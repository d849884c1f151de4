"""One network of the swarm as this node has it: the mesh's own, or one that its tasks are on. Pure.

Each is a bridge, with a tunnel to the bridges of other nodes. Endpoints of other nodes are reached by *their
nodes' bridges*, at layer 3, so nobody has to know of a container's MAC address, and each host's firewall sees
both directions. On an overlay network containers ask for each other by ARP: the tunnel answers them itself,
from its own table of neighbours, with the MAC address of this node's own bridge, and nothing is flooded. What
is not in that table the kernel says (`misses`): of a large network a node is told what it asks for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from skep.model.mesh import Mesh, bridge_name, tunnel_name
from skep.model.overlay import OverlayNetwork, OverlayService
from skep.network.clash import clash
from skep.network.host import HostFacts
from skep.network.making import Making, Objects
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
from skep.network.ways import Endpoint, Placed, Ways, is_loopback, is_usable, mac_of, place, reach, ways

NO_SERVICE = ""  # whose those endpoints are that a node of a large network asked for by their addresses
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
    """`own` is where this node's tunnels end. One that is not used has nothing but its bridge, where that is
    there: an engine's network may be on it for a while, or about to be."""

    network: OverlayNetwork
    subnet: ipaddress.IPv4Network
    own: str
    ways: Ways
    is_mesh: bool
    is_used: bool
    services: tuple[OverlayService, ...] = ()

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
        return self.ways.reach.is_there and not (self.is_mesh and is_loopback(self.own))

    def bridge_object(self) -> Bridge:
        return Bridge(self.bridge, mac_of(self.own), self.network.mtu)


def is_published(mesh: Mesh) -> bool:
    """True where something is published, or connections of before may go on."""
    return any(each.ports or each.endpoints for each in mesh.services.values())


def is_encrypted(mesh: Mesh) -> bool:
    """True where the node was told of an encrypted network."""
    return any(each.network.is_encrypted for each in mesh.overlays.values())


def segments_of(mesh: Mesh, node_id: str, host: HostFacts, making: Making) -> Iterator[Segment]:
    """Yields the mesh's network, then the others that this node was told of, in one order."""
    own = mesh.nodes.get(node_id, "")
    if mesh.network is not None:
        told = {service_id: each.endpoints for service_id, each in mesh.services.items()}
        ways = _ways(making, mesh.network, mesh.nodes, told, own, host, returns=mesh.returns)
        subnet = subnet_of(mesh.network)
        yield Segment(mesh.network, subnet, own, ways, True, is_published(mesh))
    for _, overlay in sorted(mesh.overlays.items()):
        own_there = overlay.nodes.get(node_id, own)
        services = tuple(each for _, each in sorted(overlay.services.items()))
        on_it: dict[str, tuple[Endpoint, ...]] = {NO_SERVICE: tuple(overlay.endpoints.values())}
        on_it |= {each.id: each.endpoints for each in services}
        ways = _ways(making, overlay.network, overlay.nodes, on_it, own_there, host, overlay.senders)
        subnet = subnet_of(overlay.network)
        yield Segment(overlay.network, subnet, own_there, ways, False, bool(ways.here), services)


def _ways(
    making: Making,
    network: OverlayNetwork,
    nodes: dict[str, str],
    told: Mapping[str, tuple[Endpoint, ...]],
    own: str,
    host: HostFacts,
    senders: Collection[str] = (),
    returns: Collection[str] = (),
) -> Ways:
    of_host = host.addresses, host.broadcasts, host.tunnels
    key = "reach", network.id
    whom = making.of(key, reach, subnet_of(network), nodes, own, *of_host, senders, returns)
    placed: dict[str, Placed] = {
        service_id: making.of(("placed", network.id, service_id), place, endpoints, whom)
        for service_id, endpoints in told.items()
    }
    return ways(whom, placed)


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


def add_objects(making: Making, segment: Segment) -> None:
    """Adds the devices of one that is used, and the ways to others' endpoints."""
    ways, network, bridge = segment.ways, segment.network, segment.bridge
    nodes = ways.nodes | (ways.reach.others if ways.here else frozenset())
    making.add(("devices", network.id), _devices, network, segment.own, segment.has_tunnel, segment.is_mesh)
    making.add(("nodes", network.id), _to_nodes, segment.tunnel, nodes)
    tunnel, own_mac = ("", "") if segment.is_mesh else (segment.tunnel, mac_of(segment.own))
    none: frozenset[str] = frozenset()
    for service_id, placed in ways.placed.items():
        key, lost = ("endpoints", network.id, service_id), ways.lost.get(service_id, none)
        making.add(key, _to_endpoints, bridge, placed.there, lost, tunnel, own_mac)


def _devices(network: OverlayNetwork, own: str, has_tunnel: bool, is_mesh: bool) -> Objects:
    bridge, tunnel = bridge_name(network.vni), tunnel_name(network.vni)
    made: list[Object] = [Bridge(bridge, mac_of(own), network.mtu)]
    if has_tunnel:
        port, mtu = network.data_port, network.mtu
        made.append(Tunnel(tunnel, bridge, network.vni, own, port, mtu, tells_misses=not is_mesh))
    return (*made, *settings(network, is_mesh), SubnetRoute(str(subnet_of(network)), bridge))


def _to_nodes(tunnel: str, nodes: Collection[str]) -> Objects:
    ends = [(mac_of(node), node) for node in sorted(nodes)]
    return (*(PortForward(tunnel, mac) for mac, _ in ends), *(Forward(tunnel, *end) for end in ends))


def _to_endpoints(
    bridge: str, there: Mapping[str, str], lost: Collection[str], tunnel: str, own_mac: str
) -> Objects:
    """Returns the ways to a service's endpoints on other nodes, but to addresses that are another's now; with
    a tunnel, also what containers are answered that ask for them."""
    reached = [(address, node) for address, node in there.items() if address not in lost]
    ways = [Neighbour(bridge, address, mac_of(node)) for address, node in reached]
    answers = [Neighbour(tunnel, address, own_mac) for address, _ in reached] if tunnel else ()
    return (*ways, *answers)


def clash_of(segment: Segment, mesh: Mesh, host: HostFacts) -> str:
    """Returns why this host cannot have the network, for people; empty where it can."""
    lost = clash(segment.subnet, segment.own, mesh.managers, host)
    if not lost:
        return ""
    if segment.is_mesh:
        what = f"the routing mesh is not here, as its network {segment.subnet}"
        return f"{what} would take away {lost}. {_MESHS_REMEDY}"
    what = f"network {segment.network.name} is not here, as its subnet {segment.subnet}"
    return f"{what} would take away {lost}. {_REMEDY}"


def failures_of(segment: Segment, host: HostFacts) -> Iterable[str]:
    """Yields what of a network that is used does not work here, and why, for people."""
    yield from segment.ways.reach.failures(has_others=segment.network.is_large)
    yield from _inside(segment)
    yield from _beside(segment, host)


def _inside(segment: Segment) -> Iterable[str]:
    """Yields which nodes have no way, as theirs would be a task's."""
    inside = segment.ways.reach.inside
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


def _beside(segment: Segment, host: HostFacts) -> Iterable[str]:
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
