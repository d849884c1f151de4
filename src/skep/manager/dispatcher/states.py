"""A node's state as the leader sees it: ready while it has a session, down after it was silent too long."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from msgspec.structs import replace

from skep.model.node import DOWN, READY, NodeStatus
from skep.runtime.clock import Clock
from skep.store.view import View

log = structlog.get_logger()

SILENT = "heartbeat failure"  # Docker's words


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

    def refused(self, node_id: str, reason: str) -> None:
        """What the node said was refused. Its message says so until it is down, or another manager leads."""
        if node_id in self._view.nodes:
            said = f"what the node said was refused, and its session ended: {reason}"
            known = self._view.node_state(node_id)
            self._view.put_node_status(node_id, replace(known, message=said))

    def gone(self, node_id: str) -> None:
        """Nothing was heard of the node for too long."""
        if node_id not in self._view.nodes:
            return
        log.warning("node.down", node_id=node_id)
        known = self._view.node_state(node_id)
        message = known.message if known.state == DOWN else "; ".join(filter(None, [SILENT, known.message]))
        self._view.put_node_status(node_id, NodeStatus(DOWN, message, self._clock.now()))
        self._changed(node_id, known.state)
