"""A node's state as the leader sees it: ready while it has a session and its engine answers, else down. For
how long it is waited, `presence` says; for its engine, the node itself."""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from skep.manager.signals import NodeStateChanged
from skep.manager.term import Term
from skep.model.node import DOWN, ENGINE_SILENT, HELD, READY, UNKNOWN, Node, NodeStatus
from skep.rpc.messages import Heartbeat

from .observer import NodeObserver

log = structlog.get_logger()

SILENT = "heartbeat failure"  # Docker's words
REFUSED = "what the node said was refused, and its session ended: "


class NodeStates(NodeObserver):
    """See the module's text."""

    def __init__(self, term: Term) -> None:
        self._term = term
        self._view = term.view
        self._clock = term.clock
        self._in_doubt: set[str] = set()  # nodes whose engine did not answer just now

    def heard(self, node_id: str, said: Heartbeat) -> None:
        """A node with a session has said whether its engine answers."""
        if said.engine_is_in_doubt:
            self._in_doubt.add(node_id)
        else:
            self._in_doubt.discard(node_id)
        self.came(node_id, said.engine_is_silent)

    def came(self, node_id: str, engine_is_silent: bool = False) -> None:
        """The node has a session."""
        before = self._view.node_state(node_id)
        state, message = READY, ""
        if engine_is_silent:
            state, message = self._without_engine(node_id, before), ENGINE_SILENT
        is_known = (before.state, before.engine_is_silent) == (state, engine_is_silent)
        if is_known or node_id not in self._view.nodes:
            return
        if engine_is_silent:
            log.warning("node.engine_silent", node_id=node_id, state=state)
        self._put(node_id, NodeStatus(state, message, self._clock.now(), engine_is_silent))

    def _without_engine(self, node_id: str, before: NodeStatus) -> str:
        """Down, so that others do its work. Where there are none, or all of them have just the same trouble,
        nothing is won by that, and all that it runs would start anew afterwards: then nobody knows what it
        does, and it is given nothing."""
        if before.engine_is_silent and before.state == DOWN:
            return DOWN
        others = self._view.nodes.values()
        return DOWN if any(self._may_help(node) for node in others if node.id != node_id) else UNKNOWN

    def _may_help(self, node: Node) -> bool:
        is_ready = self._view.node_state(node.id).state == READY
        return is_ready and node.spec.availability == "active" and node.id not in self._in_doubt

    def held(self, node_id: str) -> None:
        """Nothing was heard of the node for too long, and it may be this manager that is cut off: its tasks
        stay where they are, and no new ones go there."""
        self._in_doubt.discard(node_id)
        if node_id in self._view.nodes and self._view.node_state(node_id).state != DOWN:
            self._put(node_id, NodeStatus(UNKNOWN, HELD, self._clock.now(), is_held=True))

    def refused(self, node_id: str, reason: str) -> None:
        """What the node said was refused. Its message says so until it is down, or another manager leads."""
        if node_id in self._view.nodes:
            known = self._view.node_state(node_id)
            silent = f"{ENGINE_SILENT}; " if known.engine_is_silent else ""
            self._view.put_node_status(node_id, replace(known, message=silent + REFUSED + reason))

    def left_out(self, node_id: str, what: str) -> None:
        """The node has described itself, and this of it is not kept; an empty text where all of it is. Its
        message says so until it describes itself again; the log does once."""
        known = self._view.node_state(node_id)
        if node_id in self._view.nodes and known.left_out != what:
            if what:
                log.warning("node.description_trimmed", node_id=node_id, left_out=what)
            self._view.put_node_status(node_id, replace(known, left_out=what))

    def mesh_failed(self, node_id: str, failures: list[str]) -> None:
        """The node has said what it cannot do for the routing mesh; nothing, where it can all. Its message
        says so until it says otherwise; the log does once."""
        known, what = self._view.node_state(node_id), tuple(failures)
        if node_id in self._view.nodes and known.mesh != what:
            if what:
                log.warning("node.mesh_failed", node_id=node_id, failures=what)
            self._view.put_node_status(node_id, replace(known, mesh=what))

    def gone(self, node_id: str) -> None:
        """Nothing was heard of the node for too long."""
        self._in_doubt.discard(node_id)
        if node_id not in self._view.nodes:
            return
        log.warning("node.down", node_id=node_id)
        _, refused, why = self._view.node_state(node_id).message.partition(REFUSED)
        message = f"{SILENT}; {refused}{why}" if refused else SILENT
        self._put(node_id, NodeStatus(DOWN, message, self._clock.now()))

    def _put(self, node_id: str, status: NodeStatus) -> None:
        before = self._view.node_state(node_id)
        self._view.put_node_status(node_id, replace(status, left_out=before.left_out, mesh=before.mesh))
        if before.state != status.state:
            self._term.tell(NodeStateChanged(node_id, before.state))
