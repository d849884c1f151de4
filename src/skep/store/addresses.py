"""Who holds which address of one network: an index of the view, made again from services and tasks.

Which address somebody gets is the allocator's to say (`manager.allocator`); here it is only written down.
Every call costs the addresses it names.
"""

from __future__ import annotations

import ipaddress

from skep.model.network import Network

TOP = 1 << 128


class AddressBook:
    """Addresses are texts with their prefix length (`10.0.1.3/24`), as Docker shows them.

    `cursor` is where the next search begins: addresses are given out one after the other, so that one that
    was let go is not given out again at once.
    """

    __slots__ = ("cursor", "first", "gateways", "holders", "is_ipv6", "last", "prefix_length", "reserved")

    def __init__(self, network: Network) -> None:
        pool = network.pools[0]
        subnet = ipaddress.ip_network(pool.subnet, strict=False)
        within = ipaddress.ip_network(pool.ip_range, strict=False) if pool.ip_range else subnet
        self.is_ipv6 = subnet.version == 6
        self.prefix_length = subnet.prefixlen
        self.first, self.last = int(within.network_address), int(within.broadcast_address)
        others = [text for text in (pool.gateway, *pool.auxiliary_addresses.values()) if text]
        never = {int(subnet.network_address), int(subnet.broadcast_address)}
        self.reserved = frozenset(never.union(int(ipaddress.ip_address(text)) for text in others))
        self.cursor = self.first
        self.holders: dict[str, str] = {}  # address -> id of the task, service or node that has it
        self.gateways: dict[str, tuple[str, int]] = {}  # node -> its own address here, tasks that need it

    @property
    def size(self) -> int:
        """How many addresses there are to give out."""
        inside = sum(1 for each in self.reserved if self.first <= each <= self.last)
        return self.last - self.first + 1 - inside

    def text(self, number: int) -> str:
        """Returns the address with its prefix length."""
        if self.is_ipv6:
            return f"{ipaddress.IPv6Address(number)}/{self.prefix_length}"
        a, b, c, d = number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255
        return f"{a}.{b}.{c}.{d}/{self.prefix_length}"

    def hold(self, address: str, holder: str) -> None:
        self.holders[address] = holder

    def release(self, address: str, holder: str) -> None:
        """Nothing happens where somebody else has it."""
        if self.holders.get(address) == holder:
            del self.holders[address]

    def hold_gateway(self, node_id: str, address: str) -> None:
        """One more task of the node needs the node's own address here."""
        known, count = self.gateways.get(node_id, (address, 0))
        self.gateways[node_id] = (known, count + 1)
        self.holders.setdefault(address, node_id)

    def release_gateway(self, node_id: str) -> None:
        address, count = self.gateways.get(node_id, ("", 0))
        if count > 1:
            self.gateways[node_id] = (address, count - 1)
        elif count:
            del self.gateways[node_id]
            self.release(address, node_id)
