"""In how many parts a published service is told, and which node leads to which of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .cutting import power_of_two

# A service of more tasks is told in parts, where there are nodes enough to lead to all of them: a part has 33
# to 128, and each node leads to its own tasks besides. With 128 a node has some 1,000 objects in its kernel:
# one for each task, five for each of their nodes and for each by which connections come to its own tasks; the
# latter are about as many as tasks in a part, whatever the numbers of tasks and nodes.
WHOLE_MAX, PART_MAX = 256, 128
# Each part is led to by two nodes at least: where they are few, parts are longer, up to so many tasks, as
# many as a node may have of its own: a bridge has 1,024 ports.
HEARERS_MIN, PART_MAX_OF_FEW_NODES = 2, 1024


def parts_of(tasks: int, nodes: int, before: int = 1) -> int:
    """Returns in how many parts a service of so many tasks is told to so many nodes, a power of two; 1: it is
    told whole. `before`: so far. All nodes are told anew when that changes: it comes late on the way back."""
    wanted = _parts(tasks, nodes)
    return before if wanted < before <= _parts(2 * tasks, 2 * nodes) else wanted


def _parts(tasks: int, nodes: int) -> int:
    if tasks <= WHOLE_MAX:
        return 1
    of_nodes = 1 << max(0, (nodes // HEARERS_MIN).bit_length() - 1)
    return min(power_of_two(tasks, PART_MAX), max(of_nodes, power_of_two(tasks, PART_MAX_OF_FEW_NODES)))


class Cut:
    """`hearers` are, for each part, the nodes that lead to it; `of_node` says it by node."""

    __slots__ = ("hearers", "of_node")

    def __init__(self, count: int, of_node: Iterable[tuple[str, int]] = ()) -> None:
        self.of_node: dict[str, int] = {}
        self.hearers: list[set[str]] = [set() for _ in range(count)]
        for node_id, part in of_node:
            self.put(node_id, part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cut) and (self.count, self.of_node) == (other.count, other.of_node)

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        return len(self.hearers)

    def put(self, node_id: str, part: int) -> None:
        self.drop(node_id)
        self.of_node[node_id] = part
        self.hearers[part].add(node_id)

    def drop(self, node_id: str) -> bool:
        """Returns whether the node led to a part."""
        part = self.of_node.pop(node_id, None)
        if part is not None:
            self.hearers[part].discard(node_id)
        return part is not None

    def join(self, node_id: str, serving: Sequence[int], part: int | None = None) -> None:
        """The node leads to the part, or to the one that serves and has the fewest nodes. Cost: the parts."""
        if part is None:
            sizes = [len(each) for each in self.hearers]
            part = min(serving or range(self.count), key=sizes.__getitem__)
        self.put(node_id, part)

    def join_all(self, nodes: Iterable[tuple[str, int | None]]) -> None:
        """The nodes lead to these parts; those that have none to where the fewest do."""
        rest = []
        for node_id, part in nodes:
            if part is None:
                rest.append(node_id)
            else:
                self.put(node_id, part)
        if rest:
            _fill(self, sorted(rest), list(range(self.count)))


def leaving_empty(cut: Cut, serving: Collection[int]) -> Cut:
    """Returns the cut with those elsewhere, evenly, whose part does not serve; the others stay. Where none
    does, all stay. Cost: the nodes and the parts."""
    found = Cut(cut.count, cut.of_node.items())
    lost = [node_id for node_id, part in cut.of_node.items() if part not in serving]
    if serving and lost:
        for node_id in lost:
            found.drop(node_id)
        _fill(found, sorted(lost), sorted(serving))
    return found


def balanced(before: Cut, count: int, serving: Collection[int]) -> Cut:
    """Returns who leads to which of so many parts, of those that serve, where any does: each has as many
    nodes as any other, give or take one, and as few as can be lead to another one than before. Of a part that
    is cut each node has a piece, and of parts that become one, that. Cost: the nodes and the parts."""
    allowed = sorted(serving) or list(range(count))
    is_allowed = set(allowed)
    found, rest = Cut(count), list[str]()
    for number, nodes in enumerate(before.hearers):
        pieces = [p for p in range(number % count, count, min(before.count, count)) if p in is_allowed]
        for turn, node_id in enumerate(sorted(nodes)):
            if pieces:
                found.put(node_id, pieces[turn % len(pieces)])
            else:
                rest.append(node_id)
    low, extra = divmod(len(before.of_node), len(allowed))
    by_size = sorted(allowed, key=lambda each: (-len(found.hearers[each]), each))
    for turn, part in enumerate(by_size):
        surplus = sorted(found.hearers[part])[low + (turn < extra) :]
        for node_id in surplus:
            found.drop(node_id)
        rest += surplus
    _fill(found, sorted(rest), allowed)
    return found


def _fill(cut: Cut, nodes: list[str], allowed: list[int]) -> None:
    """Puts the nodes where there are the fewest."""
    sizes = sorted((len(cut.hearers[part]), part) for part in allowed)
    level, turn = sizes[0][0], 0
    for node_id in nodes:
        if turn >= len(sizes) or sizes[turn][0] > level:
            level, turn = level + 1, 0
        cut.put(node_id, sizes[turn][1])
        turn += 1
