"""One overlay network as the view had it last: who is on it, and what has changed of it since that was told.

By task, not by service: a change costs what has changed, however many tasks the service has. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec import Struct

from skep.model.overlay import OverlayEndpoint, OverlayService

from .cutting import part_of
from .overlay_index import Index
from .told_frames import Frame


class Held(Struct, frozen=True, gc=False):
    """An address, and whose it is: the holder is a task, or a single container, which is its own service."""

    holder_id: str
    service_id: str
    endpoint: OverlayEndpoint


class KnownService:
    """`words` are its names and its own address; `parts` its endpoints by address, cut by those. `frames` are
    what is told of parts, whole, as long as they are as they were. Of a large network `waiting` are those
    that have not begun to serve, and are in no part: whoever hears of the service has no use for them."""

    __slots__ = ("frames", "is_removed", "lists_all", "parts", "serving", "size", "waiting", "words")

    def __init__(self, words: OverlayService, lists_all: bool = True) -> None:
        self.words = words
        self.is_removed = False
        self.lists_all = lists_all
        self.parts: list[dict[str, OverlayEndpoint]] = [{}]
        self.waiting: dict[str, OverlayEndpoint] = {}
        self.size, self.serving = 0, 0  # endpoints, and those that take new connections
        self.frames: dict[int, Frame] = {}

    @property
    def listed(self) -> int:
        """Returns how many there are in all parts."""
        return self.size - len(self.waiting)

    def part_of(self, address: str) -> int:
        return part_of(address, len(self.parts))

    def endpoints(self) -> Iterator[OverlayEndpoint]:
        return chain.from_iterable(part.values() for part in self.parts)

    def lists(self, address: str) -> bool:
        """Returns whether the address is in one of the parts."""
        return address in self.parts[part_of(address, len(self.parts))]

    def put(self, endpoint: OverlayEndpoint) -> bool:
        """Takes an endpoint that is new, or another one. Returns whether it is in a part: one that has served
        stays there until it goes, as others may still have connections with it."""
        address = endpoint.address
        number = part_of(address, len(self.parts))
        part = self.parts[number]
        before = part.get(address)
        if before is None:
            self.size += self.waiting.pop(address, None) is None
            if not (endpoint.takes_new or self.lists_all):
                self.waiting[address] = endpoint
                return False
        self.serving += endpoint.takes_new - (before is not None and before.takes_new)
        part[address] = endpoint
        self.frames.pop(number, None)
        return True

    def drop(self, address: str) -> bool:
        """Returns whether it was in a part."""
        self.size -= 1
        if self.waiting.pop(address, None) is not None:
            return False
        part = self.part_of(address)
        self.serving -= self.parts[part].pop(address).takes_new
        self.frames.pop(part, None)
        return True

    def list_all(self, lists_all: bool) -> None:
        """It is one part again, with those that wait in it or not. Who has served by then nobody remembers.
        Cost: its endpoints."""
        everyone = [*self.endpoints(), *self.waiting.values()]
        self.lists_all, self.waiting, self.parts = lists_all, {}, [{}]
        self.size = self.serving = 0
        self.frames.clear()
        for each in everyone:
            self.put(each)

    def cut(self, count: int) -> list[dict[str, OverlayEndpoint]]:
        """Cuts it into so many parts. Returns those of before. Cost: its endpoints."""
        before, self.parts = self.parts, [{} for _ in range(count)]
        self.frames.clear()
        for each in chain.from_iterable(part.values() for part in before):
            self.parts[self.part_of(each.address)][each.address] = each
        return before


def _is_same(held: Held, now: Held) -> bool:
    """True for a task that is where it was, as it was or not."""
    is_there = held.endpoint.node_id == now.endpoint.node_id and held.service_id == now.service_id
    return is_there and held.holder_id == now.holder_id


class Change:
    """What may be another than it was told of a service: whether its words are, and which addresses of its
    parts."""

    __slots__ = ("addresses", "words")

    def __init__(self) -> None:
        self.addresses: dict[str, None] = {}
        self.words = False


class OverlayChanges:
    """`services` are by id. `singles` are the addresses that are another's than they were, or take nothing
    new any more: that one begins to serve matters to who hears of its service, and not to its own node or
    who asked for it alone. `left` says, by address, of which nodes it was in between, and is no more;
    `hosts`, by node, whether it had somebody on the network; `moved` are nodes that are elsewhere."""

    __slots__ = ("hosts", "left", "moved", "services", "singles")

    def __init__(self) -> None:
        self.services: dict[str, Change] = {}
        self.singles: dict[str, None] = {}
        self.left: dict[str, dict[str, None]] = {}
        self.hosts: dict[str, bool] = {}
        self.moved: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.services or self.moved)

    def of(self, service_id: str) -> Change:
        change = self.services.get(service_id)
        if change is None:
            change = self.services[service_id] = Change()
        return change


class OverlayState:
    """`services` are by id; one without endpoints is there until that is told. `hosts` are the nodes with
    somebody on the network, with their addresses. `version` is another one after each change."""

    def __init__(self) -> None:
        self.version = 0
        self.is_large = False
        self.services: dict[str, KnownService] = {}
        self.hosts: dict[str, dict[str, None]] = {}
        self.changes = OverlayChanges()
        self._held: dict[str, Held] = {}  # by address
        self._holders: dict[str, str] = {}  # holder -> its address
        self._index = Index()

    @property
    def size(self) -> int:
        """Returns how many endpoints there are."""
        return len(self._held)

    # Changing

    def become(self, is_large: bool) -> None:
        """The network is large from now on, or small. Cost: its endpoints."""
        self.is_large = is_large
        for service in self.services.values():
            service.list_all(not is_large)

    def set_removed(self, service_id: str, is_removed: bool) -> None:
        """Whether users have removed a service that is known here."""
        self.services[service_id].is_removed = is_removed

    def put_words(self, words: OverlayService) -> None:
        """Takes what a service is called now."""
        service = self.services.get(words.id)
        if service is None:
            self.services[words.id] = KnownService(words, not self.is_large)
        elif service.words != words:
            self._index.drop(service.words)
            service.words = words
            service.frames.clear()
            self.version += 1
            self.changes.of(words.id).words = True
        self._index.add(words)

    def put(self, holder_id: str, service_id: str, endpoint: OverlayEndpoint) -> None:
        """Takes a task of a service that is known as it is now. Who had its address has it no more."""
        address = endpoint.address
        held, had = self._held.get(address), self._holders.get(holder_id)
        now = Held(holder_id, service_id, endpoint)
        if held is not None and _is_same(held, now):
            if held.endpoint != endpoint:
                self._take(address, now)
                if not endpoint.takes_new or held.endpoint.name != endpoint.name:
                    self.changes.singles[address] = None
            return
        if held is not None:
            self.drop(held.holder_id)
        if had is not None and had != address:
            self.drop(holder_id)
        self._take(address, now)
        self.changes.singles[address] = None
        self._holders[holder_id] = address
        of_node = self.hosts.get(endpoint.node_id)
        if of_node is None:
            self.changes.hosts.setdefault(endpoint.node_id, False)
            of_node = self.hosts[endpoint.node_id] = {}
        of_node[address] = None

    def _take(self, address: str, now: Held) -> None:
        self.version += 1
        self._held[address] = now
        change = self.changes.of(now.service_id)
        if self.services[now.service_id].put(now.endpoint):
            change.addresses[address] = None

    def drop(self, holder_id: str) -> None:
        """A task, or a single container, is no more on the network, if it was."""
        address = self._holders.pop(holder_id, None)
        if address is None:
            return
        self.version += 1
        held = self._held.pop(address)
        change = self.changes.of(held.service_id)
        if self.services[held.service_id].drop(address):
            change.addresses[address] = None
        self.changes.singles[address] = None
        node_id = held.endpoint.node_id
        self.changes.left.setdefault(address, {})[node_id] = None
        of_node = self.hosts[node_id]
        del of_node[address]
        if not of_node:
            del self.hosts[node_id]
            self.changes.hosts.setdefault(node_id, True)

    def moved(self, node_id: str) -> None:
        """A node that has somebody on the network is elsewhere."""
        self.version += 1
        self.changes.moved.add(node_id)
        for each in self.held(self.hosts[node_id]):
            self.services[each.service_id].frames.clear()  # they say where it was

    def take_changes(self) -> OverlayChanges:
        """Returns what is to be told, and forgets it, with the services that have nobody there any more."""
        taken, self.changes = self.changes, OverlayChanges()
        for service_id in taken.services:
            service = self.services[service_id]
            if not service.size:
                self._index.drop(service.words)
                del self.services[service_id]
        return taken

    # Finding

    def at(self, address: str) -> OverlayEndpoint | None:
        """Returns who has the address."""
        held = self._held.get(address)
        return held.endpoint if held is not None else None

    def service(self, service_id: str) -> KnownService | None:
        """Returns the service, where it has somebody there."""
        service = self.services.get(service_id)
        return service if service is not None and service.size else None

    def named(self, name: str) -> list[str]:
        """Returns the services with a name or an alias, in small letters, by id."""
        return [each for each in self._index.named(name) if self.services[each].size]

    def singles(self, name: str) -> list[str]:
        """Returns the single containers with a name, in small letters, by id."""
        return [each for each in self._index.singles(name) if self.services[each].size]

    def with_vip(self, address: str) -> str:
        """Returns the service whose own address it is, by id; an empty text: nobody's."""
        found = self._index.with_vip(address)
        return found if found and self.services[found].size else ""

    def container(self, name: str) -> OverlayEndpoint | None:
        """Returns the task whose container has the name, in small letters: it ends with the task's id."""
        address = self._holders.get(name.rpartition(".")[2])
        found = self.at(address) if address is not None else None
        return found if found is not None and found.name.lower() == name else None

    def held(self, addresses: Iterable[str]) -> Iterator[Held]:
        """Yields whose the addresses are, where they are somebody's."""
        return (held for each in addresses if (held := self._held.get(each)) is not None)
