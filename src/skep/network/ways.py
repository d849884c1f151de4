"""Which nodes and endpoints of a network a node can reach, and by what addresses and numbers. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from skep.model.ipv4 import number_of
from skep.model.mesh import MeshEndpoint, is_host_address
from skep.model.overlay import OverlayEndpoint
from skep.network.clash import nodes_inside
from skep.network.host import Host
from skep.network.marks import NUMBER_MASK

RETURNS_MAX = 4000  # ways back to other nodes: each is a rule that packets with no route yet are held against


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


Endpoint = MeshEndpoint | OverlayEndpoint


class Ways:
    """Which endpoints of a network can be reached, and how. `nodes` are where tunnels end, by node id; `own`
    is where this node's do."""

    def __init__(
        self,
        subnet: ipaddress.IPv4Network,
        nodes: Mapping[str, str],
        endpoints: Iterable[Endpoint],
        own: str,
        host: Host,
        senders: Iterable[str] = (),
    ) -> None:
        self._nodes = nodes
        self.own = own
        self._host = host
        # A host may lose its address for a moment: what stands is not to go for that.
        self.is_there = own in host.addresses or own in host.tunnels
        has_tunnel = self.is_there and not is_loopback(own)
        # What another node says of itself may be wrong: no way leads there, and the kernel takes none.
        wrong = {own} | host.addresses | host.broadcasts
        self.inside = nodes_inside(subnet, nodes, own)
        wrong |= set(self.inside.values())
        found = {each for each in nodes.values() if is_usable(each) and not is_loopback(each)}
        self.others = sorted(found - wrong) if has_tunnel else []
        # Nodes that a large network's packets may come from, known otherwise or not.
        more = {each for each in senders if is_usable(each) and not is_loopback(each)}
        first, last = int(subnet.network_address), int(subnet.broadcast_address)
        more -= {each for each in more if first <= number_of(each) <= last}
        self.senders = sorted((found | more) - wrong) if has_tunnel else []
        everyone = [each for each in endpoints if first <= number_of(each.address) <= last]
        self.local = [each for each in everyone if nodes.get(each.node_id) == own]
        others, here = set(self.others), {each.address for each in self.local}
        # An address that one had elsewhere before is here from when it is said to be.
        self.remote = [e for e in everyone if nodes.get(e.node_id) in others and e.address not in here]
        self._reached = here | {each.address for each in self.remote}

    def address_of(self, endpoint: Endpoint) -> str:
        """Returns the address of an endpoint's node."""
        return self._nodes[endpoint.node_id]

    def usable(self, endpoints: Iterable[Endpoint]) -> list[str]:
        """Returns the addresses of those that take new connections and can be reached, in one order."""
        found = {each.address for each in endpoints if each.takes_new} & self._reached
        return sorted(found, key=number_of)

    def reached(self, endpoints: Iterable[Endpoint]) -> set[str]:
        """Returns the addresses of those that can be reached, also by connections that they have only."""
        return {each.address for each in endpoints} & self._reached

    def failures(self, has_others: bool = False) -> Iterable[str]:
        """Yields what keeps this node from tasks of others. `has_others`: there are some, known or not."""
        if not has_others and all(each == self.own for each in self._nodes.values()):
            return
        if is_loopback(self.own):
            yield (
                f"its address {self.own} is for this host alone, and other nodes have others: tasks of"
                " theirs are not reached from here. docker swarm leave, then join with --advertise-addr"
            )
        elif self.own not in self._host.addresses:
            yield (
                f"its address {self.own} is none of this host's: tunnels cannot begin there, and tasks of"
                " other nodes are not reached from here. docker swarm leave, then join with --data-path-addr"
            )


def is_usable(text: str) -> bool:
    """True for an address of IPv4 that can be one host's."""
    return is_host_address(text) and ":" not in text


def is_loopback(text: str) -> bool:
    return is_usable(text) and ipaddress.IPv4Address(text).is_loopback
