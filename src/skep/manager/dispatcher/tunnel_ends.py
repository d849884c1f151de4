"""Where nodes' tunnels end, by their latest word."""

from __future__ import annotations

from collections.abc import Iterable

from skep.model.overlay import packed
from skep.rpc.messages import Register
from skep.store.view import View

from .mesh import node_address
from .sessions import Sessions


class TunnelEnds:
    """Addresses by node."""

    def __init__(self, view: View, sessions: Sessions) -> None:
        self._view = view
        self._sessions = sessions
        self._addresses: dict[str, str] = {}
        self._packed: dict[str, bytes] = {}  # the same in four bytes, of those that were asked for

    def begin(self) -> None:
        """Nodes are where they were, unless they say otherwise: else all that come to a new leader would be
        news for all that have tasks."""
        self._addresses = dict(self.of(self._view.nodes))
        self._packed.clear()

    def heard(self, node_id: str, said: Register) -> bool:
        """Returns whether the node is elsewhere than it was."""
        address = said.data_addr or self._sessions.remote_host(node_id)
        if self._addresses.get(node_id) == address:
            return False
        self._addresses[node_id] = address
        self._packed.pop(node_id, None)
        return True

    def forget(self, node_id: str) -> bool:
        """Returns whether it was known where the node is."""
        self._packed.pop(node_id, None)
        return self._addresses.pop(node_id, None) is not None

    def of(self, node_ids: Iterable[str]) -> list[tuple[str, str]]:
        """Returns the addresses of those of the nodes that have one, in one order."""
        known = self._addresses
        found = [(each, known.get(each) or node_address(self._view, each)) for each in sorted(node_ids)]
        return [each for each in found if each[1]]

    def packed_of(self, node_ids: Iterable[str]) -> set[bytes]:
        """Returns the addresses of those of the nodes that have one of IPv4, each as `packed`."""
        known = self._packed
        return {known.get(each) or self._pack(each) for each in node_ids}

    def _pack(self, node_id: str) -> bytes:
        data = packed(address for _, address in self.of([node_id]))
        if node_id in self._addresses:  # else it is where the view says, which may change unheard
            self._packed[node_id] = data
        return data
