"""What nodes are told of published services with very many tasks: each a part, and its own tasks. No I/O.

Who hears of a part is told the same bytes. A node of tasks is told by which nodes connections come to them:
those that lead to the parts that they are in, and no others, for each is five objects in its kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from skep.model.mesh import MeshPart, MeshService
from skep.rpc.messages import Lead, MeshTold, encode

from .mesh_parted import PartedService
from .told_frames import Frame, Frames
from .tunnel_ends import TunnelEnds

# How long before a node is told of another part its tasks' nodes hear that connections will come by it: an
# agent has what it is told in its kernel within half a second.
ANNOUNCE_S = 1.0

Send = Callable[[Iterable[str], bytes], None]  # to nodes, one and the same
# Where the tunnels of those end that lead to a part, as they are packed, by service, cut and part: looked up
# once for all that are told at a time.
PartEnds = dict[tuple[str, int, int], set[bytes]]


class PartsTeller:
    """`ends` says where nodes' tunnels end; `send` sends, to those that have a session; `is_informed` says
    whether a node knows all ways back, from others."""

    def __init__(
        self, ends: TunnelEnds, send: Send, lead: Lead | None, is_informed: Callable[[str], bool]
    ) -> None:
        self.services: dict[str, PartedService] = {}
        self.hearers: set[str] = set()
        self.is_settled = False  # all nodes that will come to this leader have come: others are not spared
        self._ends = ends
        self._send = send
        self._lead = lead
        self._is_informed = is_informed
        self._said: dict[str, dict[str, tuple[int, int]]] = {}  # node -> service -> its part, by its own word
        # node, service -> its tasks, as it was told; None: nobody knows what it was told.
        self._own: dict[tuple[str, str], MeshService | None] = {}
        self._removed: set[str] = set()  # services that were told in parts until now
        self._unaware: set[str] = set()  # nodes whose tasks are no more, of services that are not told here
        # By node, as it was told, and whether those are all.
        self._returns: dict[str, tuple[bytes, bool]] = {}

    # Services

    def add(self, words: MeshService, count: int) -> PartedService:
        """Returns a service that is told in parts from now on: nobody has heard of it so."""
        id = words.id
        service = self.services[id] = PartedService(words, count)
        service.join_all((each, self._said.get(each, {}).get(id)) for each in self.hearers)
        service.moved.update(self.hearers)
        if id in self._removed:  # nobody was told that
            service.touched.update(node_id for node_id, of in self._own if of == id)
        return service

    def count_before(self, service_id: str) -> int:
        """Returns in how many parts nodes have heard of a service from an earlier leader; 1: in none."""
        found = [said[service_id][1] for said in self._said.values() if service_id in said]
        return max(set(found), key=found.count) if found else 1

    def remove(self, service_id: str) -> None:
        """The service is not told in parts any more."""
        service = self.services.pop(service_id)
        self._unaware.update(service.own.keys() | service.unaware)
        self._own.update((key, None) for key in list(self._own) if key[1] == service_id)
        self._removed.add(service_id)

    def is_host(self, node_id: str) -> bool:
        return any(node_id in each.own for each in self.services.values())

    # Nodes

    def hear(self, node_id: str, said: Sequence[tuple[str, int, int]]) -> None:
        """A node that is about to come says of which parts it has heard."""
        if said:
            self._said[node_id] = {service_id: (number, count) for service_id, number, count in said}

    def come(self, node_id: str) -> None:
        """A session with a node has begun, which knows parts: nobody knows what of it."""
        self.hearers.add(node_id)
        self._forget_told(node_id)
        for service_id, service in self.services.items():
            service.join(node_id, self._said.get(node_id, {}).get(service_id))
            service.moved.discard(node_id)
            service.touched.discard(node_id)
            service.unaware.discard(node_id)

    def leave(self, node_id: str) -> None:
        """The node is down, gone, or an earlier skep's by now."""
        self.hearers.discard(node_id)
        self._said.pop(node_id, None)
        self._forget_told(node_id)
        for service in self.services.values():
            service.leave(node_id)

    def moved(self, node_id: str) -> None:
        """The node is elsewhere."""
        for service in self.services.values():
            service.node_moved(node_id)

    def _forget_told(self, node_id: str) -> None:
        self._returns.pop(node_id, None)
        for service_id in self.services:
            self._own.pop((node_id, service_id), None)

    # Telling

    def all(self, node_id: str, is_informed: bool) -> list[bytes]:
        """Returns what a node is told that has come: messages after which more follows. `is_informed`: it is
        told all ways back."""
        frames = []
        for service_id, service in sorted(self.services.items()):
            number = service.cut.of_node.get(node_id)
            if number is not None:
                frames.append(self._whole(service, number))
            if node_id in service.own:
                own = self._own[node_id, service_id] = service.own_of(node_id)
                frames.append(encode(MeshTold(own=[own], lead=self._lead, more=True)))
        returns = self._returns_of(node_id, {}) if self.is_host(node_id) and not is_informed else None
        if returns is not None:
            frames.append(encode(replace(returns, more=True)))
        return frames

    def settle(self, counts: Callable[[PartedService], int], now: float) -> float | None:
        """Decides who leads to what. Returns when to come again."""
        times = [
            service.settle(counts(service), now, ANNOUNCE_S, self.is_settled)
            for service in self.services.values()
        ]
        return min((each for each in times if each is not None), default=None)

    @property
    def waiting(self) -> int:
        """Returns how many nodes, about, do not know their own tasks."""
        return sum(len(each.touched) for each in self.services.values())

    def tell(self) -> None:
        """Tells all what they do not know yet: first the nodes of tasks, of those and by whom connections
        come. Where that fails all are told all the next time."""
        try:
            self._tell()
        except Exception:
            self._own = dict.fromkeys(self._own)
            self._returns.clear()
            for service in self.services.values():
                service.moved.update(self.hearers)
                service.touched.update(service.own, (node_id for node_id, _ in self._own))
                service.unaware.update(service.touched)
            raise

    def _tell(self) -> None:
        unaware = self._unaware.union(*(each.unaware for each in self.services.values()))
        frames, ended, part_ends = Frames(), list[tuple[str, str]](), PartEnds()
        for node_id in sorted(unaware.union(*(each.touched for each in self.services.values()))):
            told = self._own_news(node_id, part_ends if node_id in unaware else None)
            if told is not None:
                frames.add(Frame(told), [node_id])
                ended += [(node_id, each.id) for each in told.own if not each.endpoints and each.gone is None]
        self._unaware.clear()
        for service in self.services.values():
            service.touched.clear()
            service.unaware.clear()
            self._add_parts(service, frames)
        for node_id, of_node in frames.encoded().items():
            for frame in of_node:
                self._send([node_id], frame)
        for key in ended:  # their nodes know it now
            del self._own[key]
        if self._removed:  # these are told whole, or that they are no more
            gone, self._removed = self._removed - self.services.keys(), set()
            self._own = {key: own for key, own in self._own.items() if key[1] not in gone}

    def inform(self, node_id: str) -> None:
        """The node does not know all ways back any more, or not from others: it is told those it needs."""
        self._returns.pop(node_id, None)
        if (returns := self._returns_of(node_id, {})) is not None:
            self._send([node_id], encode(returns))

    def now_settled(self) -> None:
        """All have come: nodes of tasks hear that there are no other ways back."""
        self.is_settled = True
        self._said.clear()
        for service in self.services.values():
            service.spread_anew()

    def _own_news(self, node_id: str, part_ends: PartEnds | None) -> MeshTold | None:
        """Returns what the node does not know of its own tasks, and, with `part_ends`, of its ways back."""
        if node_id not in self.hearers:
            return None
        news = []
        for service_id, service in self.services.items():
            if node_id not in service.touched:
                continue
            key, now = (node_id, service_id), service.own_of(node_id)
            before = self._own.get(key)
            if now != before and (now.endpoints or key in self._own):
                news.append(_news(now, before))
                self._own[key] = now
        returns = None
        if part_ends is not None and not self._is_informed(node_id):
            returns = self._returns_of(node_id, part_ends)
        if returns is not None:
            return replace(returns, own=news) if news else returns
        return MeshTold(own=news, lead=self._lead) if news else None

    def _returns_of(self, node_id: str, part_ends: PartEnds) -> MeshTold | None:
        """Returns by which nodes connections come to one's tasks; None: it knows."""
        found = b"".join(sorted(self._leading_to(node_id, part_ends)))
        now = found, self.is_settled
        if self._returns.get(node_id, (b"", not found and not self.is_settled)) == now:
            return None
        self._returns[node_id] = now
        return MeshTold(returns=found, returns_whole=self.is_settled, lead=self._lead)

    def _leading_to(self, node_id: str, part_ends: PartEnds) -> set[bytes]:
        """Returns where the tunnels of those end by which connections may come. Cost: the node's tasks."""
        found = set[bytes]()
        for id, service in self.services.items():
            for turn, (cut, numbers) in enumerate(service.led_by(node_id)):
                for number in numbers:
                    ends = part_ends.get((id, turn, number))
                    if ends is None:
                        ends = part_ends[id, turn, number] = self._ends.packed_of(cut.hearers[number])
                    found |= ends
        return found

    def _add_parts(self, service: PartedService, frames: Frames) -> None:
        """Adds what those are told that hear of parts."""
        moved = service.take_moved() & self.hearers
        for number, news in service.take_changes().items():
            nodes = service.cut.hearers[number] - moved
            if nodes:
                part = self._part(news, number, service.cut.count)
                frames.add(Frame(MeshTold(parts=[part], lead=self._lead)), sorted(nodes))
        by_part: dict[int, list[str]] = {}
        for node_id in sorted(moved):
            by_part.setdefault(service.cut.of_node[node_id], []).append(node_id)
        for number, of_part in by_part.items():
            part = self._part(service.whole(number), number, service.cut.count)
            frames.add(Frame(MeshTold(parts=[part], lead=self._lead)), of_part)

    def _whole(self, service: PartedService, number: int) -> bytes:
        """Made once for all that come until it changes: after a new leader, all do."""
        frame = service.frames.get(number)
        if frame is None:
            part = self._part(service.whole(number), number, service.cut.count)
            frame = encode(MeshTold(parts=[part], lead=self._lead, more=True))
            service.frames[number] = frame
        return frame

    def _part(self, told: MeshService, number: int, count: int) -> MeshPart:
        nodes = self._ends.of({each.node_id for each in told.endpoints})
        return MeshPart(told, number, count, tuple(nodes))


def _news(now: MeshService, before: MeshService | None) -> MeshService:
    return now if before is None else now.since(before)
