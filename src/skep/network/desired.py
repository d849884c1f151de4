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

from skep.model.mesh import (
    TCP,
    UDP,
    Mesh,
    MeshEndpoint,
    MeshNetwork,
    MeshPort,
    MeshService,
    bridge_name,
    is_host_address,
    tunnel_name,
)
from skep.network.clash import REMEDY, clash, nodes_inside
from skep.network.host import Host
from skep.network.objects import (
    PORTS,
    Accept,
    Bridge,
    Chain,
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
    chain,
)

MTU = 1450  # what a VXLAN tunnel leaves of an Ethernet frame; the engine's networks have it, too
OURS, OURS_MASK = 0x5A00_0000, 0xFF00_0000  # in marks of connections and packets: one of the mesh's
NUMBER_MASK = (
    0xFFFF  # … and by which node it came in; 0: this one. VXLAN's devices and engines use none of it
)
NAMED_MAX = 3  # nodes in a sentence: an id and an address have 43 characters, and it has 600
TUNNELLED = OURS | 0x0001_0000  # a packet's mark: it came by the tunnel. No node's number, so of no rule's
RETURNS_MAX = 4000  # ways back to other nodes: each is a rule that packets with no route yet are held against
FLOW = f"ct mark and {OURS_MASK:#x} == {OURS:#x}"  # nftables: of the mesh's connections

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


def mac_of(address: str) -> str:
    """Returns the MAC address of the bridges of the node with that address: everybody can tell it."""
    return "02:6e:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def numbers(known: Mapping[str, int], others: Iterable[str]) -> dict[str, int]:
    """Returns a number for each of the other nodes' addresses. Who has one keeps it: connections that stand
    have it in their marks. `known` is what the kernel has."""
    wanted = sorted(set(others))[:RETURNS_MAX]
    found = {address: known[address] for address in wanted if address in known}
    taken = set(found.values())
    free = (number for number in range(1, NUMBER_MASK) if number not in taken)
    return {address: found.get(address) or next(free) for address in wanted}


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
    is_own_usable = _is_usable(own)
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
    ways = _Ways(mesh, own, host)
    objects: list[Object] = [*_links(network, own, ways), *_ways_to(network, ways)]
    objects += [*host.ports, *host.gateways, *(Hairpin(port.name) for port in host.ports)]
    if host.accept_in:
        objects.append(Accept(host.accept_in, network.subnet))
    local = {each.address for each in ways.local}
    if local:
        objects += _ways_back(network, numbers(known, ways.others))
    objects += [Table(), *_base_chains(network, own, host, mesh, ways, known if local else {}, bool(local))]
    for (protocol, published), service in ports.items():
        if (protocol, published) in refused:
            continue
        port = next(p for p in service.ports if (p.protocol, p.published) == (protocol, published))
        made = _port_chain(port, ways.usable(service), node_id)
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


def _inside(network: MeshNetwork, ways: _Ways) -> Iterable[str]:
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


def _beside(network: MeshNetwork, host: Host) -> Iterable[str]:
    """Yields who else has the mesh's addresses here: what is on his device is not on the mesh's bridge."""
    subnet = ipaddress.IPv4Network(network.subnet)
    for address, device in sorted(host.devices.items()):
        if device != bridge_name(network.vni) and ipaddress.IPv4Address(address) in subnet:
            yield (
                f"device {device} has address {address} of the mesh's own network {subnet}: tasks there are"
                " not reached by published ports. If it is a bridge that an earlier skep had the engine make:"
                " docker node update --availability drain, and active when its tasks are gone"
            )


class _Ways:
    """Which tasks can be reached, and how."""

    def __init__(self, mesh: Mesh, own: str, host: Host) -> None:
        self._mesh = mesh
        self._own = own
        self._host = host
        # A host may lose its address for a moment: what stands is not to go for that.
        is_there = own in host.addresses or own in host.tunnels
        self.has_tunnel = is_there and not _is_loopback(own)
        # What another node says of itself may be wrong: no way leads there, and the kernel takes none.
        wrong = {own} | host.addresses | host.broadcasts
        self.inside = nodes_inside(mesh, own)
        wrong |= set(self.inside.values())
        found = {each for each in mesh.nodes.values() if _is_usable(each) and not _is_loopback(each)}
        self.others = sorted(found - wrong) if self.has_tunnel else []
        everyone = [each for service in mesh.services.values() for each in service.endpoints]
        self.local = [each for each in everyone if mesh.nodes.get(each.node_id) == own]
        others = set(self.others)
        self.remote = [each for each in everyone if mesh.nodes.get(each.node_id) in others]

    def address_of(self, endpoint: MeshEndpoint) -> str:
        """Returns the address of an endpoint's node."""
        return self._mesh.nodes[endpoint.node_id]

    def usable(self, service: MeshService) -> list[str]:
        """Returns the addresses of the service's tasks that this node has a way to, in one order."""
        reachable = {self._own, *self.others}
        nodes = self._mesh.nodes
        found = (e.address for e in service.endpoints if e.takes_new and nodes.get(e.node_id) in reachable)
        return sorted(found, key=ipaddress.IPv4Address)

    def failures(self) -> Iterable[str]:
        """Yields what keeps this node from tasks of others."""
        nodes = self._mesh.nodes
        if all(nodes[each] == self._own for each in nodes):
            return
        if _is_loopback(self._own):
            yield (
                f"its address {self._own} is for this host alone, and other nodes have others: tasks of"
                " theirs are not reached from here. docker swarm leave, then join with --advertise-addr"
            )
        elif self._own not in self._host.addresses:
            yield (
                f"its address {self._own} is none of this host's: tunnels cannot begin there, and tasks of"
                " other nodes are not reached from here. docker swarm leave, then join with --data-path-addr"
            )


def _links(network: MeshNetwork, own: str, ways: _Ways) -> Iterable[Object]:
    bridge, tunnel = bridge_name(network.vni), tunnel_name(network.vni)
    yield Bridge(bridge, mac_of(own), MTU)
    if ways.has_tunnel:
        yield Tunnel(tunnel, bridge, network.vni, own, network.data_port, MTU)
    yield Sysctl("ipv4/ip_forward", "1")
    yield Sysctl(
        f"ipv4/conf/{bridge}/rp_filter", "2"
    )  # a client may be reached by another way than through here
    yield Sysctl(f"ipv4/conf/{bridge}/route_localnet", "1")  # connections from 127.0.0.1
    yield Sysctl(f"ipv4/conf/{bridge}/arp_ignore", "1")  # nobody is told of the host's other addresses
    yield Sysctl(f"ipv6/conf/{bridge}/disable_ipv6", "1")  # it would talk to itself on all nodes
    yield SubnetRoute(network.subnet, bridge)


def _ways_to(network: MeshNetwork, ways: _Ways) -> Iterable[Object]:
    """Tasks of other nodes are reached by their nodes' bridges, which know the way from there: nobody has to
    know of a task's MAC address."""
    bridge, tunnel = bridge_name(network.vni), tunnel_name(network.vni)
    nodes = {ways.address_of(each) for each in ways.remote} | set(ways.others if ways.local else ())
    for node in nodes:
        yield PortForward(tunnel, mac_of(node))
        yield Forward(tunnel, mac_of(node), node)
    for each in ways.remote:
        yield Neighbour(bridge, each.address, mac_of(ways.address_of(each)))


def _ways_back(network: MeshNetwork, numbered: Mapping[str, int]) -> Iterable[Object]:
    bridge = bridge_name(network.vni)
    for node, number in numbered.items():
        yield Neighbour(bridge, node, mac_of(node))
        yield ReturnRoute(number, node, bridge)
        yield ReturnRule(number)


def _base_chains(
    network: MeshNetwork,
    own: str,
    host: Host,
    mesh: Mesh,
    ways: _Ways,
    known: Mapping[str, int],
    has_tasks: bool,
) -> Iterable[Chain]:
    bridge = bridge_name(network.vni)
    numbered = numbers(known, ways.others) if has_tasks else {}
    # Only who goes to a task comes by a node: any container may take a node's MAC address for its own.
    inside = f'iifname "{bridge}" ip daddr {network.subnet}'
    early = [*_outside(network, ways), *_early(bridge, inside, numbered)]
    yield chain("early", early, ("filter", "prerouting", -301))
    yield chain("arrive", _arrive(network, bridge, ways), ("filter", "prerouting", -199))  # -200: conntrack
    yield chain("marks", _marks(inside, numbered), ("filter", "prerouting", -150))
    jump = f"fib daddr type local meta l4proto . th dport vmap @{PORTS}"
    yield chain("enter", [jump], ("nat", "prerouting", -105))  # before the engine's own, at -100
    yield chain("begin", [jump], ("nat", "output", -105))
    # That a packet goes out by the bridge it came in by is no news for its sender.
    yield chain("quiet", [f"{FLOW} icmp type redirect drop"], ("filter", "output", -150))
    # The tunnel's own packets look for their way with the mark of what they carry.
    unmark = f"meta mark and {OURS_MASK:#x} == {OURS:#x} meta mark set 0"
    yield chain("unmark", [unmark], ("filter", "postrouting", -150))
    yield chain("leave", _leave(network, own, host, mesh, ways), ("nat", "postrouting", 95))


def _outside(network: MeshNetwork, ways: _Ways) -> Iterable[str]:
    """Yields who may use the tunnel: a tunnel takes what anybody sends to its port and number. Others have
    tunnels at the same port, whose packets are told by their number: 24 bits, 12 bytes behind UDP's begin."""
    if not ways.has_tunnel:
        return
    frames = f"udp dport {network.data_port} @th,96,24 {network.vni} fib daddr type local"
    if ways.others:
        yield f"{frames} ip saddr != {_elements(ways.others)} drop"
        yield f"{frames} meta mark set {TUNNELLED:#x}"  # what is in it keeps that
    else:
        yield f"{frames} drop"


def _arrive(network: MeshNetwork, bridge: str, ways: _Ways) -> list[str]:
    """By the tunnel come connections to tasks, and answers: nothing new for this host or for others."""
    if not ways.has_tunnel:
        return []
    tunnelled = f'iifname "{bridge}" meta mark {TUNNELLED:#x}'
    begun = f"{tunnelled} ct state new,invalid,untracked"
    return [
        f"{begun} ip daddr != {network.subnet} drop",
        f"{begun} fib daddr type local drop",  # the bridge's own address
        f"{tunnelled} meta mark set 0",
    ]


def _early(bridge: str, inside: str, numbered: Mapping[str, int]) -> list[str]:
    rules = [f'iifname "{bridge}" ip daddr 127.0.0.0/8 drop']  # route_localnet is for this host alone
    if numbered:
        # One client port may come in by two nodes and reach one task: two connections all the same.
        zones = _elements(f"{mac_of(node)} : {number}" for node, number in numbered.items())
        rules.append(f"{inside} ct original zone set ether saddr map {zones}")
    return rules


def _marks(inside: str, numbered: Mapping[str, int]) -> list[str]:
    if not numbered:
        return []
    marks = _elements(f"{mac_of(node)} : {OURS | number:#x}" for node, number in numbered.items())
    return [
        f"{inside} ct state new ct mark set ether saddr map {marks}",
        f"ct direction reply ct mark and {OURS_MASK | NUMBER_MASK:#x} > {OURS:#x} {FLOW}"
        " meta mark set ct mark",
    ]


def _leave(network: MeshNetwork, own: str, host: Host, mesh: Mesh, ways: _Ways) -> list[str]:
    """Whose address is replaced where a connection leaves for a task."""
    bridge = bridge_name(network.vni)
    out = f'oifname "{bridge}" {FLOW}'
    rules = []
    shy = {e.address for s in mesh.services.values() if not s.is_alone for e in s.endpoints}
    shy &= {each.address for each in ways.local}
    if shy:
        # A task on several networks answers by the one that leads outside, and over UDP with that address.
        rules.append(f"{out} meta l4proto udp ip daddr {_elements(shy)} masquerade")
    replaced = "masquerade" if _is_loopback(own) else f"snat to {own}"
    begun = f"{out} ct status dnat"
    rules.append(f"{begun} fib saddr type local {replaced}")
    rules.append(f"{begun} ip saddr {network.subnet} {replaced}")  # tasks; by the bridge, where no `iif` is
    if ways.others:
        rules.append(f"{begun} ip saddr {_elements(ways.others)} {replaced}")
    uplinks = (
        f"iifname != {_elements(f'{chr(34)}{n}{chr(34)}' for n in host.uplinks)} " if host.uplinks else ""
    )
    rules.append(f'{begun} meta iifkind "bridge" {uplinks}{replaced}')  # containers of this host
    return rules


def _port_chain(port: MeshPort, addresses: list[str], node_id: str) -> Chain:
    name = f"{port.protocol}-{port.published}"
    if not addresses:
        how = "tcp reset" if port.protocol == TCP else "icmp type port-unreachable"
        return chain(name, [f"meta l4proto {port.protocol} reject with {how}"])
    mark = f"ct mark set {OURS:#x}"
    to = f"meta l4proto {port.protocol} dnat ip to"
    if len(addresses) == 1:
        return chain(name, [mark, f"{to} {addresses[0]}:{port.target}"])
    # The count begins anew with each change: not with the same task on all nodes, nor always with the first.
    first = sum(node_id.encode(), start=len(addresses)) % len(addresses)
    turned = addresses[first:] + addresses[:first]
    targets = _elements(f"{n} : {address} . {port.target}" for n, address in enumerate(turned))
    return chain(name, [mark, f"{to} numgen inc mod {len(turned)} map {targets}"])


def _elements(texts: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(texts)) + " }"


def _is_usable(text: str) -> bool:
    """True for an address of IPv4 that can be one host's."""
    return is_host_address(text) and ":" not in text


def _is_loopback(text: str) -> bool:
    return ipaddress.IPv4Address(text).is_loopback
