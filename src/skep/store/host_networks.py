"""Which networks the nodes' hosts have of their own, and which of the swarm's overlap them. Pure; soft: as
the nodes said it to this leader.

Thousands of nodes say up to 64 prefixes each, mostly the same ones. Kept by prefix, with who has it. Two
prefixes overlap only where one is within the other: those around a subnet are found by their 32 names, those
within it by their order. What is asked with each placement (`clashing`) is kept up to date instead.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from skep.model.host_network import HostNetwork
from skep.model.network import Network

Range = tuple[int, int]  # first and last address, of an aligned block
KEPT = 1 << 12  # prefixes that are read once only; most hosts have the same docker0, and LANs of a few kinds


class KnownHostNetworks:
    """A node that is not heard any more keeps what it said: its host comes back with the same networks."""

    def __init__(self) -> None:
        # network id -> node id -> what of its host's overlaps that network; no network without any
        self.clashing: dict[str, dict[str, HostNetwork]] = {}
        self._said: dict[str, tuple[HostNetwork, ...]] = {}
        self._holders: dict[Range, dict[str, HostNetwork]] = {}
        self._subnets: dict[str, tuple[Range, ...]] = {}  # of the swarm's networks
        self._subnet_order: list[tuple[Range, str]] = []
        # Of what hosts have: all in order, and what of it is within nothing else. Made when a subnet is
        # looked for, and kept until a prefix comes or goes that no other node has: half a second where each
        # of 2,300 nodes has 64 of its own, in a tenth of a millisecond where they have the same.
        self._sorted: list[Range] | None = None
        self._merged: list[Range] | None = None

    # Asking

    def on(self, subnet: ipaddress.IPv4Network) -> dict[str, HostNetwork]:
        """Returns the nodes whose hosts have something of the subnet, each with what it is."""
        found: dict[str, HostNetwork] = {}
        for each in self._overlapping(_range(subnet)):
            for node_id, network in self._holders[each].items():
                found.setdefault(node_id, network)
        return found

    def merged(self) -> list[Range]:
        """Returns what hosts have, in order, without what is within another's."""
        if self._merged is None:
            self._merged = []
            for first, last in self._order():
                if not self._merged or first > self._merged[-1][1]:
                    self._merged.append((first, last))
        return self._merged

    def of_node(self, node_id: str) -> Iterator[tuple[str, HostNetwork]]:
        """Yields the swarm's networks that overlap one of this node's host, each with that."""
        for network_id, nodes in self.clashing.items():
            if node_id in nodes:
                yield network_id, nodes[node_id]

    # Changing

    def put_node(self, node_id: str, networks: Collection[HostNetwork]) -> bool:
        """A node has said what its host has. Returns whether other networks of the swarm overlap that than
        before."""
        networks = tuple(networks)
        if self._said.get(node_id, ()) == networks:
            return False
        before = dict(self.of_node(node_id))
        self.drop_node(node_id)
        if networks:
            self._said[node_id] = networks
        for network in networks:
            place = _range_of(network.prefix)
            holders = self._holders.get(place)
            if holders is None:
                holders = self._holders[place] = {}
                self._sorted = self._merged = None
            holders[node_id] = network
            for network_id in self._networks_on(place):
                self.clashing.setdefault(network_id, {}).setdefault(node_id, network)
        return dict(self.of_node(node_id)).keys() != before.keys()

    def drop_node(self, node_id: str) -> None:
        for network in self._said.pop(node_id, ()):
            place = _range_of(network.prefix)
            holders = self._holders.get(place, {})
            holders.pop(node_id, None)
            if not holders and self._holders.pop(place, None) is not None:
                self._sorted = self._merged = None
        for network_id, _ in list(self.of_node(node_id)):
            del self.clashing[network_id][node_id]
            if not self.clashing[network_id]:
                del self.clashing[network_id]

    def put_network(self, network: Network) -> None:
        """A network of the swarm has come, or is another."""
        self.drop_network(network.id)
        if not network.is_overlay:
            return
        subnets = [ipaddress.ip_network(pool.subnet, strict=False) for pool in network.pools]
        fours = [each for each in subnets if isinstance(each, ipaddress.IPv4Network)]
        if not fours:
            return
        self._subnets[network.id] = tuple(map(_range, fours))
        nodes: dict[str, HostNetwork] = {}
        for subnet in fours:
            bisect.insort(self._subnet_order, (_range(subnet), network.id))
            nodes = self.on(subnet) | nodes
        if nodes:
            self.clashing[network.id] = nodes

    def drop_network(self, network_id: str) -> None:
        for each in self._subnets.pop(network_id, ()):
            del self._subnet_order[bisect.bisect_left(self._subnet_order, (each, network_id))]
        self.clashing.pop(network_id, None)

    # Inside

    def _order(self) -> list[Range]:
        if self._sorted is None:
            self._sorted = sorted(self._holders, key=_wide_first)
        return self._sorted

    def _overlapping(self, place: Range) -> Iterator[Range]:
        """Yields what hosts have of these addresses: the blocks that they are in, then those in them."""
        first, last = place
        size = last - first + 1
        while size < 1 << 32:
            around = first - first % size, first - first % size + size - 1
            if around in self._holders:
                yield around
            size *= 2
        order = self._order()
        begin = bisect.bisect_left(order, _wide_first(place), key=_wide_first)
        for at in range(begin, len(order)):
            each = order[at]
            if each[0] > last:
                break
            if each != place:
                yield each

    def _networks_on(self, place: Range) -> Iterable[str]:
        """Yields the swarm's networks that have some of these addresses: they overlap no others of its."""
        first, last = place
        at = bisect.bisect_right(self._subnet_order, ((first, 1 << 32), "")) - 1
        if at >= 0 and self._subnet_order[at][0][1] >= first:
            yield self._subnet_order[at][1]
        for later in range(at + 1, len(self._subnet_order)):
            (begin, _), network_id = self._subnet_order[later]
            if begin > last:
                break
            yield network_id


def _wide_first(place: Range) -> Range:
    return place[0], -place[1]


def _range(network: ipaddress.IPv4Network) -> Range:
    return int(network.network_address), int(network.broadcast_address)


@lru_cache(maxsize=KEPT)
def _range_of(prefix: str) -> Range:
    return _range(ipaddress.IPv4Network(prefix))
