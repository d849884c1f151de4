"""One published service that is told in parts: its tasks, by part and by node, and who leads to which. Pure.

A part has those tasks that serve, or have served until they go; of its own tasks each node hears whether they
serve or not. A change costs what has changed, however many tasks the service has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from skep.model.mesh import MeshEndpoint, MeshService

from .cutting import part_of
from .mesh_cut import Cut, balanced, leaving_empty


class PartedService:
    """`words` are all but its tasks. `cut` says who leads to which part, and `coming`, where it is one, who
    is about to: first the nodes of tasks hear by which others connections will come. `changed` are addresses
    of which those that hear of their parts do not know, `touched` nodes that do not know their own tasks,
    `unaware` nodes that may not know by which nodes connections come to them,
    `moved` nodes that are to hear of another part from now on."""

    def __init__(self, words: MeshService, count: int) -> None:
        self.words = words
        self.cut = Cut(count)
        self.coming: Cut | None = None
        self.comes_at = 0.0  # loop time
        self.parts: list[dict[str, MeshEndpoint]] = [{} for _ in range(count)]  # those that are listed
        self.places: list[dict[str, str]] = [{} for _ in range(count)]  # the nodes of all of them, by address
        self.own: dict[str, dict[str, MeshEndpoint]] = {}  # by node: all of them
        self.frames: dict[int, bytes] = {}  # parts as they are told whole, while they are as they were
        self.changed: dict[str, None] = {}
        self.touched: set[str] = set()
        self.unaware: set[str] = set()
        self.moved: set[str] = set()
        self.serving = [0] * count  # by part: tasks that take new connections
        self.is_reworded = False  # nobody was told of the words
        self.is_uneven = False  # nodes may be spread otherwise than they should be
        self._tasks: dict[str, str] = {}  # address -> task
        self._addresses: dict[str, str] = {}  # task -> address

    @property
    def size(self) -> int:
        """Returns how many tasks are told of."""
        return len(self._tasks)

    @property
    def serving_parts(self) -> list[int]:
        return [number for number, count in enumerate(self.serving) if count]

    def endpoints(self) -> Iterator[MeshEndpoint]:
        """Yields all of them."""
        for of_node in self.own.values():
            yield from of_node.values()

    # Tasks

    def put_words(self, words: MeshService) -> None:
        """Takes what is otherwise than its tasks. All that hear of it are told that with their part, and not
        of its tasks; of what a node was told of its own tasks, the words do not count beside a part."""
        if words != self.words:
            self.words = words
            self.frames.clear()
            self.is_reworded = True

    def put(self, task_id: str, endpoint: MeshEndpoint) -> None:
        """Takes a task as it is now. Who had its address has it no more."""
        address, node_id = endpoint.address, endpoint.node_id
        number = part_of(address, len(self.parts))
        if self._addresses.get(task_id) != address or self.places[number][address] != node_id:
            self._hold(task_id, address, node_id, number)
        of_node = self.own[node_id]
        known = of_node.get(address)
        if known is not None and known == endpoint:
            return
        of_node[address] = endpoint
        self.touched.add(node_id)
        part = self.parts[number]
        before = part.get(address)
        if before is not None or endpoint.takes_new:
            part[address] = endpoint
            self._changed(address, number, endpoint.takes_new - (before is not None and before.takes_new))

    def _hold(self, task_id: str, address: str, node_id: str, number: int) -> None:
        """The task is there from now on, and has the address."""
        if address in self._tasks:
            self.drop(self._tasks[address])
        if task_id in self._addresses:
            self.drop(task_id)
        self._tasks[address], self._addresses[task_id] = task_id, address
        if node_id not in self.own:
            self.own[node_id] = {}
        self.unaware.add(node_id)
        self.places[number][address] = node_id

    def drop(self, task_id: str) -> None:
        """The task is not told of any more, if it was."""
        address = self._addresses.pop(task_id, None)
        if address is None:
            return
        number = part_of(address, len(self.parts))
        node_id = self.places[number].pop(address)
        del self._tasks[address]
        del self.own[node_id][address]
        if not self.own[node_id]:
            del self.own[node_id]
        self.touched.add(node_id)
        self.unaware.add(node_id)
        before = self.parts[number].pop(address, None)
        if before is not None:
            self._changed(address, number, -before.takes_new)

    def has(self, task_id: str) -> bool:
        return task_id in self._addresses

    def tasks(self) -> Iterable[str]:
        return self._addresses

    def node_moved(self, node_id: str) -> None:
        """A node is elsewhere: who leads to its tasks is told so, and those to whose tasks it leads."""
        for address in self.own.get(node_id, ()):
            number = part_of(address, len(self.parts))
            if address in self.parts[number]:
                self._changed(address, number, 0)
        for cut in self._cuts:
            if node_id in cut.of_node:
                self._touch_part(cut.of_node[node_id], cut.count)

    def _changed(self, address: str, number: int, more: int) -> None:
        before = self.serving[number]
        self.serving[number] += more
        self.is_uneven = self.is_uneven or not before or not self.serving[number]
        self.changed[address] = None
        self.frames.pop(number, None)

    # Nodes

    @property
    def _cuts(self) -> list[Cut]:
        return [self.cut, self.coming] if self.coming is not None else [self.cut]

    def join(self, node_id: str, said: tuple[int, int] | None = None) -> None:
        """The node leads to a part from now on: to the one that it has led to, as it says (number, count), or
        to the one with the fewest nodes. A new leader has no parts yet, and leaves as many as there were."""
        if node_id in self.cut.of_node:
            return
        for cut in self._cuts:
            part = said[0] if said is not None and said[1] == cut.count else None
            cut.join(node_id, self.serving_parts if cut is self.cut else (), part)
            self._touch_part(cut.of_node[node_id], cut.count)
        self.is_uneven = True

    def join_all(self, said: Iterable[tuple[str, tuple[int, int] | None]]) -> None:
        """The same of nodes that have no part yet, while nothing serves. Cost: the nodes."""
        count = self.cut.count
        self.cut.join_all((n, each[0] if each is not None and each[1] == count else None) for n, each in said)
        self.is_uneven = True

    def leave(self, node_id: str) -> None:
        """The node hears of nothing any more."""
        for cut in self._cuts:
            part = cut.of_node.get(node_id)
            if part is not None:
                cut.drop(node_id)
                self._touch_part(part, cut.count)
                self.is_uneven = True
        self.moved.discard(node_id)

    def led_by(self, node_id: str) -> Iterator[tuple[Cut, set[int]]]:
        """Yields in which parts the node's own tasks are, of who leads to which, and of who is about to."""
        own = self.own.get(node_id)
        for cut in self._cuts if own else ():
            yield cut, {part_of(address, cut.count) for address in own or ()}

    def settle(self, count: int, now: float, announce_s: float, may_move: bool) -> float | None:
        """Decides who leads to which of so many parts, and takes what has come. Who leads to nothing that
        serves is told of another part at once, the others after `announce_s`; but for those nobody is moved
        where not `may_move`. Returns when to come again; None: all is as it should be."""
        if self.coming is not None and now >= self.comes_at:
            self._take(self.coming)
            self.coming = None
        if self.is_uneven and not all(self.serving[part] for part in self.cut.of_node.values()):
            self._take(leaving_empty(self.cut, self.serving_parts))
        if self.coming is None and (count != self.cut.count or (may_move and self.is_uneven)):
            self._plan(count, now + announce_s)
        return self.comes_at if self.coming is not None else None

    def _plan(self, count: int, at: float) -> None:
        coming = balanced(self.cut, count, self._serving_of(count))
        self.is_uneven = False
        if coming != self.cut:
            self.coming, self.comes_at = coming, at
            self._touch_moves(self.cut, coming)

    def _serving_of(self, count: int) -> list[int]:
        if count == self.cut.count:
            return self.serving_parts
        found = {part_of(e.address, count) for part in self.parts for e in part.values() if e.takes_new}
        return sorted(found)

    def _take(self, cut: Cut) -> None:
        before, self.cut = self.cut, cut
        if before.count != cut.count:
            self._cut_anew(cut.count)
            self.moved.update(cut.of_node)
        else:
            self.moved.update(n for n, part in cut.of_node.items() if before.of_node.get(n) != part)
        self._touch_moves(before, cut)

    def _cut_anew(self, count: int) -> None:
        """Cost: the tasks."""
        listed = [each for part in self.parts for each in part.values()]
        self.parts, self.serving = [{} for _ in range(count)], [0] * count
        places, self.places = self.places, [{} for _ in range(count)]
        for address, node_id in (each for of_part in places for each in of_part.items()):
            self.places[part_of(address, count)][address] = node_id
        self.frames.clear()
        self.changed.clear()  # all are told whole
        self.is_uneven = True
        for each in listed:
            number = part_of(each.address, count)
            self.parts[number][each.address] = each
            self.serving[number] += each.takes_new

    def _touch_moves(self, before: Cut, now: Cut) -> None:
        """The nodes of tasks hear by which nodes connections come."""
        if before.count != now.count:
            self.unaware.update(self.own)
            return
        parts = set[int]()
        for node_id, part in now.of_node.items():
            if (was := before.of_node.get(node_id)) != part:
                parts |= {part} if was is None else {part, was}
        self._touch_parts(parts, now.count)

    def _touch_part(self, number: int, count: int) -> None:
        self._touch_parts({number}, count)

    def _touch_parts(self, numbers: Iterable[int], count: int) -> None:
        """Touches the nodes of these parts' tasks, of those that do not serve yet, too. Cost: the parts."""
        if count != len(self.parts):  # for a moment, while it is cut anew
            self.unaware.update(self.own)
            return
        for number in numbers:
            self.unaware.update(self.places[number].values())

    def spread_anew(self) -> None:
        """Who leads to which part is looked at again, and its tasks' nodes hear of it all."""
        self.is_uneven = True
        self.unaware.update(self.own)

    def take_moved(self) -> set[str]:
        """Returns the nodes that are to hear of another part, and forgets them."""
        moved, self.moved = self.moved, set()
        return moved

    def whole(self, number: int) -> MeshService:
        """Returns a part as it is."""
        return replace(self.words, endpoints=tuple(self.parts[number].values()))

    def own_of(self, node_id: str) -> MeshService:
        """Returns the node's own tasks."""
        return replace(self.words, endpoints=tuple(self.own.get(node_id, {}).values()))

    def take_changes(self) -> dict[int, MeshService]:
        """Returns what has changed of parts that somebody hears of, and forgets it."""
        by_part: dict[int, list[str]] = {n: [] for n in range(len(self.parts))} if self.is_reworded else {}
        self.is_reworded = False
        for address in self.changed:
            by_part.setdefault(part_of(address, len(self.parts)), []).append(address)
        self.changed.clear()
        return {n: self._since(self.parts[n], of) for n, of in by_part.items() if self.cut.hearers[n]}

    def _since(self, part: dict[str, MeshEndpoint], addresses: list[str]) -> MeshService:
        now = tuple([part[each] for each in addresses if each in part])
        gone = () if len(now) == len(addresses) else tuple(each for each in addresses if each not in part)
        return replace(self.words, endpoints=now, gone=gone)
