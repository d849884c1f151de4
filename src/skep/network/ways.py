"""Which nodes and endpoints of a network a node can reach, and by what addresses and numbers. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from msgspec import Struct

from skep.model.ipv4 import number_of
from skep.model.mesh import MeshEndpoint, is_host_address
from skep.model.overlay import OverlayEndpoint
from skep.network.clash import nodes_inside
from skep.network.marks import NUMBER_MASK

RETURNS_MAX = 4000  # ways back to other nodes: each is a rule that packets with no route yet are held against
_MACS = 4096  # nodes of a swarm, and some; 100 bytes each


@lru_cache(maxsize=_MACS)  # each endpoint of another node has its node's
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


class Reach(Struct, frozen=True):
    """Which nodes this one can reach on a network. `nodes` are where tunnels end, by node id; `own` is where
    this node's do, which it has (`is_here`), or had (`is_there`): a host may lose its address for a moment,
    and what stands is not to go for that. `others` are the addresses that it reaches, `senders` those that a
    large network's packets may come from, known otherwise or not, `inside` nodes whose address would be a
    task's."""

    own: str
    nodes: dict[str, str]
    first: int  # of the network's addresses
    last: int
    is_here: bool
    is_there: bool
    others: frozenset[str]
    senders: frozenset[str]
    inside: dict[str, str]

    def failures(self, has_others: bool = False) -> Iterable[str]:
        """Yields what keeps this node from tasks of others. `has_others`: there are some, known or not."""
        if not has_others and all(each == self.own for each in self.nodes.values()):
            return
        if is_loopback(self.own):
            yield (
                f"its address {self.own} is for this host alone, and other nodes have others: tasks of"
                " theirs are not reached from here. docker swarm leave, then join with --advertise-addr"
            )
        elif not self.is_here:
            yield (
                f"its address {self.own} is none of this host's: tunnels cannot begin there, and tasks of"
                " other nodes are not reached from here. docker swarm leave, then join with --data-path-addr"
            )


def reach(
    subnet: ipaddress.IPv4Network,
    nodes: dict[str, str],
    own: str,
    addresses: frozenset[str],
    broadcasts: frozenset[str],
    tunnels: frozenset[str],
    senders: Collection[str],
    returns: Collection[str] = (),
) -> Reach:
    """Returns whom a node reaches whose host has these addresses, these that mean all hosts of a network, and
    tunnels that end at these. `returns` are nodes that answers go to, known otherwise or not."""
    is_here = own in addresses
    is_there = is_here or own in tunnels
    has_tunnel = is_there and not is_loopback(own)
    # What another node says of itself may be wrong: no way leads there, and the kernel takes none.
    inside = nodes_inside(subnet, nodes, own)
    wrong = {own} | addresses | broadcasts | set(inside.values())
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    found = {each for each in nodes.values() if is_usable(each) and not is_loopback(each)}
    found |= _outside(returns, first, last)
    more = _outside(senders, first, last)
    others = frozenset(found - wrong if has_tunnel else ())
    may_send = frozenset((found | more) - wrong if has_tunnel else ())
    return Reach(own, nodes, first, last, is_here, is_there, others, may_send, inside)


def _outside(addresses: Collection[str], first: int, last: int) -> set[str]:
    """Returns those that tunnels may end at and that are none of the network's own."""
    found = {each for each in addresses if is_usable(each) and not is_loopback(each)}
    return found - {each for each in found if first <= number_of(each) <= last}


class Placed(Struct, frozen=True):
    """Endpoints of one service. Of those that can be reached, `here` are the addresses of this node's,
    `there` those of others, each with its node's address, and `serving` those that take new connections, in
    one order. `addresses` are of all."""

    addresses: frozenset[str]
    here: frozenset[str]
    there: dict[str, str]
    serving: tuple[str, ...]


def place(endpoints: Collection[Endpoint], whom: Reach) -> Placed:
    """Returns where they are."""
    within = [each for each in endpoints if whom.first <= number_of(each.address) <= whom.last]
    node_of = whom.nodes.get
    # An address that one had elsewhere before is here from when it is said to be.
    here = frozenset(each.address for each in within if node_of(each.node_id) == whom.own)
    there = {
        each.address: node
        for each in within
        if (node := node_of(each.node_id)) in whom.others and node is not None and each.address not in here
    }
    serving = {each.address for each in within if each.takes_new} & (here | there.keys())
    addresses = frozenset(each.address for each in endpoints)
    return Placed(addresses, here, there, tuple(sorted(serving, key=number_of)))


class Ways(Struct, frozen=True):
    """Which endpoints of a network can be reached, and how: `placed` are they, by service, `lost`
    addresses of a service that another one has as well, and keeps: mostly there are none."""

    reach: Reach
    placed: dict[str, Placed]
    lost: dict[str, frozenset[str]]

    @property
    def here(self) -> frozenset[str]:
        """Returns the addresses of this node's endpoints."""
        return frozenset().union(*(each.here for each in self.placed.values()))

    @property
    def nodes(self) -> frozenset[str]:
        """Returns the addresses of other nodes that endpoints are on."""
        return frozenset().union(*(each.there.values() for each in self.placed.values()))

    @property
    def addresses(self) -> frozenset[str]:
        """Returns those that somebody is known to have."""
        return frozenset().union(*(each.addresses for each in self.placed.values()))


def ways(whom: Reach, placed: dict[str, Placed]) -> Ways:
    """Returns all of a network's. An address is on one node only: on this one, where anybody says so, else
    where the last one says."""
    here = frozenset().union(*(each.here for each in placed.values()))
    last: dict[str, str] = {}
    for service_id, each in placed.items():
        last.update(dict.fromkeys(each.there, service_id))
    told = sum(len(each.there) for each in placed.values())
    if told == len(last) and here.isdisjoint(last):
        return Ways(whom, placed, {})
    lost = {
        service_id: frozenset(a for a in each.there if a in here or last[a] != service_id)
        for service_id, each in placed.items()
    }
    return Ways(whom, placed, {service_id: each for service_id, each in lost.items() if each})


def is_usable(text: str) -> bool:
    """True for an address of IPv4 that can be one host's."""
    return is_host_address(text) and ":" not in text


def is_loopback(text: str) -> bool:
    return is_usable(text) and ipaddress.IPv4Address(text).is_loopback
