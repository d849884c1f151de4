"""Which nodes have asked for what of a large overlay network, and how much of it they may have. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .overlay_bounds import Bounds
from .overlay_state import KnownService

NOBODY: frozenset[str] = frozenset()


class _Hearers:
    """Who hears of each part of one service."""

    __slots__ = ("_fewest", "_next", "parts")

    def __init__(self, count: int) -> None:
        self.parts: list[set[str]] = [set() for _ in range(count)]
        self._next = 0  # where the search goes on
        self._fewest = 0  # no part has less hearers

    def join(self, node_id: str) -> int:
        """The node hears of the part with the fewest hearers, which is returned. Cost: one step for each of
        many that come, not all parts."""
        while True:
            for _ in self.parts:
                number, self._next = self._next, (self._next + 1) % len(self.parts)
                if len(self.parts[number]) <= self._fewest:
                    self.parts[number].add(node_id)
                    return number
            self._fewest += 1

    def join_one_of(self, numbers: range, node_id: str) -> int:
        """The same of some parts only. Cost: those."""
        number = min(numbers, key=lambda each: len(self.parts[each]))
        self.parts[number].add(node_id)
        return number

    def leave(self, number: int, node_id: str) -> None:
        self.parts[number].discard(node_id)
        self._fewest = min(self._fewest, len(self.parts[number]))


class Subscribers:
    """Where a node asks for more than it may have, the oldest goes. What is asked for again is new again."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._services: dict[str, dict[str, int]] = {}  # node -> service -> its part, the oldest first
        self._addresses: dict[str, dict[str, None]] = {}  # node -> addresses, the oldest first
        self._hearers: dict[str, _Hearers] = {}  # by service
        self._singles: dict[str, set[str]] = {}  # address -> who asked for it

    def parts(self, service_id: str) -> Sequence[Collection[str]]:
        """Returns who hears of a service, for each of its parts; nothing where nobody does."""
        hearers = self._hearers.get(service_id)
        return hearers.parts if hearers is not None else ()

    def part(self, service_id: str, number: int) -> Collection[str]:
        """Returns who hears of this part of a service."""
        hearers = self._hearers.get(service_id)
        return hearers.parts[number] if hearers is not None else NOBODY

    def singles(self, address: str) -> Collection[str]:
        """Returns who asked for a single address."""
        return self._singles.get(address, NOBODY)

    # Asking

    def ask_services(self, node_id: str, services: Iterable[KnownService]) -> list[str]:
        """The node hears of these services from now on. Returns of which it does not hear any more."""
        of_node = self._services.setdefault(node_id, {})
        for service in services:
            service_id = service.words.id
            part = of_node.pop(service_id, None)
            of_node[service_id] = part if part is not None else self._join(node_id, service)
        gone = list(of_node)[: max(0, len(of_node) - self._bounds.services_max)]
        for service_id in gone:
            self._leave(service_id, of_node.pop(service_id), node_id)
        return gone

    def ask_addresses(self, node_id: str, addresses: Iterable[str]) -> list[str]:
        """The same of single addresses."""
        of_node = self._addresses.setdefault(node_id, {})
        for address in addresses:
            of_node.pop(address, None)
            of_node[address] = None
            self._singles.setdefault(address, set()).add(node_id)
        gone = list(of_node)[: max(0, len(of_node) - self._bounds.addresses_max)]
        for address in gone:
            self.leave_address(node_id, address)
        return gone

    def part_of(self, node_id: str, service_id: str) -> int:
        """Returns the part of which a node hears."""
        return self._services[node_id][service_id]

    # Leaving

    def forget(self, node_id: str) -> None:
        """The node hears of nothing any more."""
        for service_id, part in self._services.pop(node_id, {}).items():
            self._leave(service_id, part, node_id)
        for address in list(self._addresses.get(node_id, ())):
            self.leave_address(node_id, address)
        self._addresses.pop(node_id, None)

    def leave_address(self, node_id: str, address: str) -> None:
        """The node hears of this address no more, if it did."""
        if self._addresses.get(node_id, {}).pop(address, ()) is None:
            nodes = self._singles[address]
            nodes.discard(node_id)
            if not nodes:
                del self._singles[address]

    def drop_service(self, service_id: str) -> list[str]:
        """Nobody hears of the service any more. Returns who did."""
        nodes = [node_id for part in self.parts(service_id) for node_id in part]
        self._hearers.pop(service_id, None)
        for node_id in nodes:
            del self._services[node_id][service_id]
        return nodes

    def cut(self, service_id: str, count: int) -> list[tuple[str, int, int]]:
        """The service has so many parts from now on. Returns who hears of which one, as (node, part before,
        part): each of what has become of its own, evenly."""
        before = self._hearers[service_id].parts
        hearers = self._hearers[service_id] = _Hearers(count)
        moves = []
        for number, nodes in enumerate(before):
            for node_id in sorted(nodes):
                own = range(number % count, count, min(len(before), count))
                part = hearers.join_one_of(own, node_id)
                self._services[node_id][service_id] = part
                moves.append((node_id, number, part))
        return moves

    def _join(self, node_id: str, service: KnownService) -> int:
        hearers = self._hearers.get(service.words.id)
        if hearers is None:
            hearers = self._hearers[service.words.id] = _Hearers(len(service.parts))
        return hearers.join(node_id)

    def _leave(self, service_id: str, part: int, node_id: str) -> None:
        hearers = self._hearers[service_id]
        hearers.leave(part, node_id)
        if not any(hearers.parts):
            del self._hearers[service_id]
