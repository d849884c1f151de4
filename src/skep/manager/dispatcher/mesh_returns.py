"""Ways back: which nodes know where all others are, and telling them when those are elsewhere.

Connections to the tasks of a service that is told whole may come by any node: who has such a task is informed
of all nodes. Who has none any more is spared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from skep.model.overlay import packed
from skep.rpc.messages import MESH, MeshTold, encode
from skep.store.view import View

from .mesh_teller import Send
from .sessions import Sessions
from .tunnel_ends import TunnelEnds


class WaysBack:
    """`earlier` are nodes that know the mesh, and no parts, by the latest word of each: they are told nodes,
    the others addresses. `send` sends, to those that have a session."""

    def __init__(
        self, view: View, sessions: Sessions, ends: TunnelEnds, earlier: Set[str], send: Send
    ) -> None:
        self._view = view
        self._sessions = sessions
        self._ends = ends
        self._earlier = earlier
        self._send = send
        self._informed: set[str] = set()  # nodes that know all others
        self._moved: set[str] = set()  # nodes of which those do not know yet where they are
        self._gone: set[str] = set()
        self._left: set[str] = set()  # nodes that have no tasks any more of which all nodes are told
        self._ends_told: frozenset[str] | None = None  # addresses of all nodes, as the informed know them
        self._ends_frame: bytes | None = None  # the same as it is told

    @property
    def moved(self) -> Set[str]:
        """Returns the nodes that are elsewhere, or new, since `told`."""
        return self._moved

    @property
    def gone(self) -> Set[str]:
        """Returns the nodes that were removed since `told`."""
        return self._gone

    def is_informed(self, node_id: str) -> bool:
        """Returns whether the node knows where all others are."""
        return node_id in self._informed

    # What has changed

    def node_moved(self, node_id: str) -> None:
        """A node is elsewhere, or new."""
        self._moved.add(node_id)

    def node_gone(self, node_id: str) -> None:
        """A node was removed."""
        self._gone.add(node_id)

    def node_ended(self, node_id: str) -> None:
        """A session has ended: nobody knows what the node will know when it comes again."""
        self._informed.discard(node_id)

    def nodes_left(self, nodes: Iterable[str]) -> None:
        """The nodes have no tasks any more of which all nodes are told."""
        self._left.update(nodes)

    def told(self) -> None:
        """Who moved or went until now is no news any more."""
        self._moved, self._gone = set(), set()

    # Telling

    def inform(self, node_id: str) -> None:
        """Tells a node that has tasks in the mesh where all others are: connections may come by any."""
        if node_id in self._informed or not self._sessions.understands(node_id, MESH):
            return
        if node_id in self._earlier:
            told = MeshTold(nodes=self._ends.of(self._view.nodes), lead=self._sessions.lead)
            self._sessions.send(node_id, told)
        else:
            self._send([node_id], self._all_ends())
        self._informed.add(node_id)

    def tell(self) -> None:
        """Tells those who know where all nodes are which came, moved or went, if any did."""
        if not self._moved and not self._gone:
            return
        earlier = self._informed & self._earlier
        if earlier and self._moved:
            told = MeshTold(nodes=self._ends.of(self._moved), lead=self._sessions.lead)
            self._send(earlier, encode(told))
        before, self._ends_frame = self._ends_told, None
        now = self._ends_now() if len(self._informed) > len(earlier) else None
        if before is not None and now is not None and before != now:
            came, gone = packed(now - before), packed(before - now)
            told = MeshTold(returns=came, gone_returns=gone, lead=self._sessions.lead)
            self._send(self._informed - earlier, encode(told))
        self._ends_told = now

    def spare(self, needs_all: Callable[[str], bool], inform: Callable[[str], None]) -> None:
        """Who has no tasks any more of which all nodes are told hears of all nodes no more, unless it needs
        them: `inform` tells it of those that it needs."""
        for node_id in sorted(self._left & (self._informed - self._earlier)):
            if not needs_all(node_id):
                self._informed.discard(node_id)
                inform(node_id)
        self._left.clear()

    def _all_ends(self) -> bytes:
        """Returns where all nodes' tunnels end, as it is told: four bytes each."""
        if self._ends_frame is None:
            ends = self._ends_now()
            if self._ends_told is None:
                self._ends_told = ends
            told = MeshTold(returns=packed(ends), returns_whole=True, lead=self._sessions.lead)
            self._ends_frame = encode(told)
        return self._ends_frame

    def _ends_now(self) -> frozenset[str]:
        return frozenset(address for _, address in self._ends.of(self._view.nodes))
