"""What this node's kernel should have for what its manager told: objects, and what cannot be. Pure.

A packet's way, in the terms used here: a client's connection to a published port of any node (the *ingress*
node) gets a task's address there (DNAT), nothing else of it changes, and goes, through the tunnel where the
task is elsewhere, to the task's node. That one knows by the sender's MAC address which node it came by, keeps
that in the connection's mark, and sends the answers back there, where they get the published address again.
So the task sees the client's own address. Only what starts on a host of the swarm itself, or in its
containers, has its address replaced by the node's (SNAT): another node could not tell it from its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from skep.model.mesh import TCP, UDP, Mesh, MeshService, bridge_name, tunnel_name
from skep.model.overlay import OverlayNetwork
from skep.network.chains import base_chains, port_chain
from skep.network.clash import REMEDY, clash
from skep.network.host import Host
from skep.network.marks import FLOW
from skep.network.objects import (
    Accept,
    Bridge,
    Forward,
    Hairpin,
    Neighbour,
    Object,
    PortForward,
    PortJump,
    ReturnRoute,
    ReturnRule,
    SubnetRoute,
    Sysctl,
    Table,
    Tunnel,
)
from skep.network.ways import Ways, is_usable, mac_of, numbers

MTU = 1450  # what a VXLAN tunnel leaves of an Ethernet frame; the engine's networks have it, too
NAMED_MAX = 3  # nodes in a sentence: an id and an address have 43 characters, and it has 600

NO_ADDRESS = "the manager knows no address of this node: its tunnels cannot begin anywhere"


class Desired(Struct, frozen=True):
    """`failures` are sentences for people: what of the mesh this node cannot do, and why. `is_unknown`: it
    cannot be said what should be, so what there is stays."""

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
    """True where something is published, or connections of before may go on."""
    return any(each.ports or each.endpoints for each in mesh.services.values())


def desired(
    mesh: Mesh,
    node_id: str,
    host: Host,
    refused: Collection[tuple[str, int]] = (),
    known: Mapping[str, int] = {},
) -> Desired:
    """Returns what this node should have: nothing where its host would lose its way to others. `refused` are
    ports that somebody else on the host has; `known` are numbers of other nodes that connections may have in
    their marks. A swarm that publishes nothing, and whose last connections have ended with their tasks, has
    nothing but the bridge, until it is left."""
    network, ports = mesh.network, ports_of(mesh)
    own = mesh.nodes.get(node_id, "")
    if network is None:
        return Desired()
    is_own_usable = is_usable(own)
    if not is_used(mesh):
        name = bridge_name(network.vni)
        if name not in host.bridges:
            return Desired()
        # An engine's network may be on it for a while yet.
        return Desired((Bridge(name, mac_of(own), MTU),)) if is_own_usable else Desired(is_unknown=True)
    if whose := clash(mesh, network, own, host):
        return Desired(failures=(whose,))
    if not is_own_usable:
        what = f"its address {own} is none of one host's, of IPv4, which tunnels need" if own else NO_ADDRESS
        return Desired(failures=(what,), is_unknown=True)
    ways = Ways(mesh, own, host)
    objects: list[Object] = [*_links(network, own, ways), *_ways_to(network, ways)]
    objects += [*host.ports, *host.gateways, *(Hairpin(port.name) for port in host.ports)]
    if host.accept_in:
        objects.append(Accept(host.accept_in, network.subnet))
    # Answers of tasks go back by the node that their connection came by.
    numbered = numbers(known, ways.others) if ways.local else {}
    objects += _ways_back(network, numbered)
    objects += [Table(), *base_chains(network, host, mesh, ways, numbered)]
    for (protocol, published), service in ports.items():
        if (protocol, published) in refused:
            continue
        port = next(p for p in service.ports if (p.protocol, p.published) == (protocol, published))
        made = port_chain(port, ways.usable(service), node_id)
        objects += [made, PortJump(protocol, published, made.name)]
    failures = (*ways.failures(), *_inside(network, ways), *_beside(network, host), *_dropped(host))
    return Desired(tuple(objects), failures)


def _dropped(host: Host) -> Iterable[str]:
    """Yields which firewall drops the mesh's packets: another table's verdict cannot keep it from that."""
    for table in host.firewalls:
        yield (
            f"the nftables table {table} drops what is forwarded, and has no rule for the routing mesh:"
            f" published ports do not answer here. Add to its forward chain: {FLOW} accept"
        )


def _inside(network: OverlayNetwork, ways: Ways) -> Iterable[str]:
    """Yields which nodes have no way, as theirs would be a task's."""
    if not ways.inside:
        return
    named = [f"{node} ({address})" for node, address in sorted(ways.inside.items())]
    more = f" and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
    yield (
        f"nodes with an address of the mesh's own network {network.subnet} are not reached by published"
        f" ports: {', '.join(named[:NAMED_MAX])}{more}. On each: docker swarm leave, then join with"
        f" --data-path-addr; or, if it has no other: {REMEDY[0].lower()}{REMEDY[1:]}"
    )


def _beside(network: OverlayNetwork, host: Host) -> Iterable[str]:
    """Yields who else has the mesh's addresses here: what is on his device is not on the mesh's bridge."""
    subnet = ipaddress.IPv4Network(network.subnet)
    for address, device in sorted(host.devices.items()):
        if device != bridge_name(network.vni) and ipaddress.IPv4Address(address) in subnet:
            yield (
                f"device {device} has address {address} of the mesh's own network {subnet}: tasks there are"
                " not reached by published ports. If it is a bridge that an earlier skep had the engine make:"
                " docker node update --availability drain, and active when its tasks are gone"
            )


def _links(network: OverlayNetwork, own: str, ways: Ways) -> Iterable[Object]:
    bridge, tunnel = bridge_name(network.vni), tunnel_name(network.vni)
    yield Bridge(bridge, mac_of(own), MTU)
    if ways.has_tunnel:
        yield Tunnel(tunnel, bridge, network.vni, own, network.data_port, MTU)
    yield from settings(network)
    yield SubnetRoute(network.subnet, bridge)


def settings(network: OverlayNetwork) -> Iterable[Sysctl]:
    """Yields what the kernel is to be set to."""
    bridge = bridge_name(network.vni)
    yield Sysctl("ipv4/ip_forward", "1")
    # A client may be reached by another way than through here.
    yield Sysctl(f"ipv4/conf/{bridge}/rp_filter", "2")
    yield Sysctl(f"ipv4/conf/{bridge}/route_localnet", "1")  # connections from 127.0.0.1
    yield Sysctl(f"ipv4/conf/{bridge}/arp_ignore", "1")  # nobody is told of the host's other addresses
    yield Sysctl(f"ipv6/conf/{bridge}/disable_ipv6", "1")  # it would talk to itself on all nodes


def _ways_to(network: OverlayNetwork, ways: Ways) -> Iterable[Object]:
    """Tasks of other nodes are reached by their nodes' bridges, which know the way from there: nobody has to
    know of a task's MAC address."""
    bridge, tunnel = bridge_name(network.vni), tunnel_name(network.vni)
    nodes = {ways.address_of(each) for each in ways.remote} | set(ways.others if ways.local else ())
    for node in nodes:
        yield PortForward(tunnel, mac_of(node))
        yield Forward(tunnel, mac_of(node), node)
    for each in ways.remote:
        yield Neighbour(bridge, each.address, mac_of(ways.address_of(each)))


def _ways_back(network: OverlayNetwork, numbered: Mapping[str, int]) -> Iterable[Object]:
    bridge = bridge_name(network.vni)
    for node, number in numbered.items():
        yield Neighbour(bridge, node, mac_of(node))
        yield ReturnRoute(number, node, bridge)
        yield ReturnRule(number)
