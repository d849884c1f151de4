"""Who holds which address of one network: an index of the view, made again from services and tasks.

Which address somebody gets is the allocator's to say (`manager.allocator`); here it is only written down.
Every call costs the addresses it names.
"""

from __future__ import annotations

import ipaddress

from skep.model.network import Network


class AddressBook:
    """Addresses are texts with their prefix length (`10.0.1.3/24`), as Docker shows them.

    They are given out one after the other, so that one that was let go is not given out again at once.
    """

    __slots__ = (
        "_cursor",
        "_gateways",
        "_taken",
        "first",
        "holders",
        "is_ipv6",
        "is_whole",
        "last",
        "prefix_length",
        "reserved",
        "size",
    )

    def __init__(self, network: Network) -> None:
        pool = network.pools[0]
        subnet = ipaddress.ip_network(pool.subnet, strict=False)
        within = ipaddress.ip_network(pool.ip_range, strict=False) if pool.ip_range else subnet
        self.is_ipv6 = subnet.version == 6
        self.is_whole = within == subnet  # nobody can have an address outside
        self.prefix_length = subnet.prefixlen
        self.first, self.last = int(within.network_address), int(within.broadcast_address)
        others = [text for text in (pool.gateway, *pool.auxiliary_addresses.values()) if text]
        never = {int(subnet.network_address), int(subnet.broadcast_address)}
        self.reserved = frozenset(never.union(int(ipaddress.ip_address(text)) for text in others))
        self.size = self.last - self.first + 1 - sum(self.first <= n <= self.last for n in self.reserved)
        self._cursor = self.first  # where the next search begins
        self.holders: dict[str, str] = {}  # address -> id of the task, service or node that has it
        self._taken = 0  # how many of them are of the range
        self._gateways: dict[str, tuple[str, set[str]]] = {}  # node -> its address here, tasks that need it

    @property
    def free(self) -> int:
        """How many addresses of the range nobody has."""
        return self.size - self._taken

    def is_of_range(self, address: str) -> bool:
        """False for one of the subnet that is only had by who asks for it."""
        if self.is_whole:  # most are: their addresses need no reading
            return True
        return self.first <= int(ipaddress.ip_address(address.partition("/")[0])) <= self.last

    def text(self, number: int) -> str:
        """Returns the address with its prefix length."""
        if self.is_ipv6:
            return f"{ipaddress.IPv6Address(number)}/{self.prefix_length}"
        a, b, c, d = number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255
        return f"{a}.{b}.{c}.{d}/{self.prefix_length}"

    def next_free(self) -> str:
        """Returns the next address that nobody has. Errors: `LookupError` where there is none (`free`).

        The search goes on where the last one ended: it costs little until nearly all are taken.
        """
        number = self._cursor
        for _ in range(len(self.holders) + len(self.reserved) + 1):
            number = number + 1 if number < self.last else self.first
            if number in self.reserved:
                continue
            text = self.text(number)
            if text not in self.holders:
                self._cursor = number
                return text
        raise LookupError("the network has no free address")

    def hold(self, address: str, holder: str) -> None:
        if address not in self.holders:
            self._taken += self.is_of_range(address)
        self.holders[address] = holder

    def release(self, address: str, holder: str) -> None:
        """Nothing happens where somebody else has it."""
        if self.holders.get(address) == holder:
            del self.holders[address]
            self._taken -= self.is_of_range(address)

    def gateway_of(self, node_id: str) -> str:
        """Returns the node's own address here; an empty text where no task of the node needs one yet."""
        known = self._gateways.get(node_id)
        return known[0] if known is not None else ""

    def hold_gateway(self, node_id: str, address: str, task_id: str) -> None:
        """A task needs its node's own address here; said twice, it counts once."""
        known = self._gateways.get(node_id)
        if known is None:
            known = self._gateways[node_id] = (address, set())
            self.hold(address, node_id)
        known[1].add(task_id)

    def release_gateway(self, node_id: str, task_id: str) -> None:
        """The node's address is free once no task of it is left."""
        known = self._gateways.get(node_id)
        if known is None:
            return
        known[1].discard(task_id)
        if not known[1]:
            del self._gateways[node_id]
            self.release(known[0], node_id)
