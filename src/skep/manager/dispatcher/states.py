"""A node's state as the leader sees it: ready while it has a session, down after it was silent too long."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from skep.model.node import DOWN, READY, NodeStatus
from skep.runtime.clock import Clock
from skep.store.view import View

log = structlog.get_logger()


class NodeStates:
    """`changed(node id, state before)` hears of a node that became ready or down."""

    def __init__(self, view: View, clock: Clock, changed: Callable[[str, str], None]) -> None:
        self._view = view
        self._clock = clock
        self._changed = changed

    def came(self, node_id: str) -> None:
        """The node has a session."""
        before = self._view.node_state(node_id).state
        if before != READY:
            self._view.put_node_status(node_id, NodeStatus(READY, since=self._clock.now()))
            self._changed(node_id, before)

    def gone(self, node_id: str) -> None:
        """Nothing was heard of the node for too long."""
        if node_id not in self._view.nodes:
            return
        log.warning("node.down", node_id=node_id)
        before = self._view.node_state(node_id).state
        self._view.put_node_status(node_id, NodeStatus(DOWN, "heartbeat failure", self._clock.now()))
        self._changed(node_id, before)
