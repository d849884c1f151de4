"""How many there are of what the view holds, kept as it changes: who asks must not have to count.

The view tells of each change, with the one before and the one after.
"""

from __future__ import annotations

from collections import defaultdict

from skep.model.node import DOWN, Node
from skep.model.service import Service
from skep.model.states import COMPLETE, RUNNING


class NodeCounts:
    """`by_state` is by (state, availability); `down` names those that are down."""

    __slots__ = ("by_state", "down")

    def __init__(self) -> None:
        self.by_state: dict[tuple[str, ...], int] = {}
        self.down: set[str] = set()

    def count(self, node: Node | None, state: str, sign: int) -> None:
        """Counts a node that is in that state, with +1, or was, with -1; None is in no state."""
        if node is None:
            return
        key = (state, node.spec.availability)
        self.by_state[key] = self.by_state.get(key, 0) + sign
        if state == DOWN:
            (self.down.add if sign > 0 else self.down.discard)(node.id)


class ServiceCounts:
    """`by_mode` is by Docker's word for what `docker service ls` shows, `by_update` by its word for how the
    last update goes, of those that had one; removed ones count no more."""

    __slots__ = ("by_mode", "by_update")

    def __init__(self) -> None:
        self.by_mode: dict[str, int] = {}
        self.by_update: dict[str, int] = {}

    def count(self, service: Service | None, sign: int) -> None:
        if service is not None:
            mode = service.spec.mode_name
            self.by_mode[mode] = self.by_mode.get(mode, 0) + sign
            if service.update is not None:
                state = service.update.state
                self.by_update[state] = self.by_update.get(state, 0) + sign


class TaskCounts:
    """Written by the view: it counts each change of a hundred thousand tasks. `by_states` is by (desired,
    observed) state, both as they are written; `stranded` are to run on nodes that are down: they are not yet
    placed again."""

    __slots__ = ("by_states", "stranded")

    def __init__(self) -> None:
        self.by_states = defaultdict[tuple[int, int], int](int)
        self.stranded = 0

    def strand(self, count: int) -> None:
        """So many more, or fewer, are to run on nodes that are down."""
        self.stranded += count

    @property
    def running(self) -> int:
        """Returns how many are wanted and observed running."""
        found = self.by_states.items()
        return sum(n for (desired, state), n in found if desired < COMPLETE and state == RUNNING)
