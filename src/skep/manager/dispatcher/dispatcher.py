"""One session per node, on the leader. Everything is callbacks: thousands of nodes share the loop.

In: frames of agents, and what was committed (`publish`). Out: frames to agents, and through `Listener`
what others must decide about. Cost: a heartbeat touches its own session; a commit the nodes it names.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable

import structlog
from msgspec.structs import replace

from skep.model.node import DOWN, READY, NodeDescription, NodeStatus
from skep.model.task import Task
from skep.rpc import messages
from skep.rpc.port import Connection
from skep.runtime.clock import Clock
from skep.runtime.errors import Invalid, SkepError
from skep.store.view import View

from .assignments import Sent, complete, difference, frames, is_news
from .guard import Guard
from .materials import given, withdrawn
from .port import Listener
from .presence import Presence
from .reports import Reports, bounded

log = structlog.get_logger()


KNOWN_FEATURES = (messages.LOGS, messages.ATTACH)  # of agents
OWN_FEATURES = [messages.ATTACH]


class _Session:
    """One registered node."""

    __slots__ = ("connection", "features", "sent")

    def __init__(self, connection: Connection, features: frozenset[str]) -> None:
        self.connection = connection
        self.features = features
        self.sent = Sent()

    def tell(self, assign: messages.Assign) -> None:
        for frame in frames(assign):
            self.connection.send(frame)


class Dispatcher:
    """`managers` are the addresses (host:port) told to agents, until others are; `start` begins the watch
    for silence."""

    def __init__(self, view: View, clock: Clock, listener: Listener, managers: list[str]) -> None:
        self._view = view
        self._clock = clock
        self._listener = listener
        self._managers = managers
        self._sessions: dict[str, _Session] = {}
        self._presence = Presence(lambda: self.heartbeat_s, self._silent, self._down)
        self._reports = Reports(self._reported)
        self.guard = Guard()
        self._stopped = False
        self._ack = b""
        self._ack_heartbeat_s = 0.0
        self._told_tls: messages.WantedTls | None = None

    @property
    def heartbeat_s(self) -> float:
        cluster = self._view.cluster
        return cluster.spec.heartbeat_s if cluster is not None else 5.0

    def start(self, grace_until: float = 0.0) -> None:
        """From now on every node has its grace to register before it is down: `grace_until` at least, by the
        loop's time."""
        self._told_tls = self._listener.wanted_tls()
        self._presence.start(self._view.nodes, grace_until)

    def stop(self, kind: str = "not-leader", message: str = "this manager no longer leads") -> None:
        """Ends all sessions; agents look for the next leader."""
        self._stopped = True
        self._reports.stop()
        self._presence.stop()
        for node_id in list(self._sessions):
            self._end(node_id, kind, message)

    def open(self, connection: Connection) -> SessionHandler:
        """Returns what receives the frames of a connection whose certificate was verified."""
        return SessionHandler(self, connection)

    def publish(self, changed: dict[str, tuple[list[Task], list[Task]]]) -> None:
        """Tells nodes what was committed: node id -> (tasks put, tasks dropped)."""
        for node_id, (put, dropped) in changed.items():
            session = self._sessions.get(node_id)
            if session is None:
                continue
            had = session.sent.materials
            told = [*given(self._view, put, had), difference(self._view, node_id, put, dropped, session.sent)]
            if had and (dropped or any(task.result is not None for task in put)):
                told.append(withdrawn(self._view, node_id, had))
            for assign in told:
                if assign is not None:
                    session.tell(assign)

    def publish_removing(self, service_id: str, node_ids: Iterable[str]) -> None:
        """Tells nodes that every task of a service is to end."""
        frame = messages.encode(messages.Assign(removing=[service_id]))
        for node_id in node_ids:
            session = self._sessions.get(node_id)
            if session is not None:
                session.connection.send(frame)

    def tell_heartbeat(self) -> None:
        """The heartbeat period may have changed: nodes learn it now, not at their next beat, which may be
        later than a shorter period allows."""
        self._presence.heard_all()
        for session in self._sessions.values():
            session.connection.send(self._heartbeat_ack())

    def set_managers(self, managers: list[str]) -> None:
        """These are the managers from now on; agents are told at once where they were others before."""
        if managers and managers != self._managers:
            self._managers = list(managers)
            self._ack_heartbeat_s = 0.0
            self.tell_heartbeat()

    def tell_role(self, node_id: str) -> None:
        """What the node is to act as, or whether it holds a copy of the store, may have changed."""
        node = self._view.nodes.get(node_id)
        if node is not None:
            self.answer(node_id, messages.Role(self._view.role_of(node), self._view.is_member(node_id)))

    def answer(self, node_id: str, message: messages.FromManager) -> None:
        """Sends a node something, if it is there."""
        session = self._sessions.get(node_id)
        if session is not None:
            session.connection.send(messages.encode(message))

    def tell_tls(self) -> None:
        """What nodes' certificates should be may have changed."""
        wanted, told = self._listener.wanted_tls(), self._told_tls
        if wanted is None or (told is not None and replace(told, spread_s=wanted.spread_s) == wanted):
            return
        self._told_tls = wanted
        frame = messages.encode(wanted)
        for session in self._sessions.values():
            session.connection.send(frame)

    def node_added(self, node_id: str) -> None:
        """A node was enrolled and is expected to register; one that is expected already keeps its grace."""
        if node_id not in self._sessions:
            self._presence.expect(node_id)

    def node_removed(self, node_id: str) -> None:
        """The node is no longer of this swarm."""
        self._presence.forget(node_id)
        self._end(node_id, "removed", "the node was removed from the swarm")

    # Called by the handlers of connections

    def register(self, connection: Connection, said: messages.Register) -> None:
        identity = connection.identity
        assert identity is not None
        node_id = identity.node_id
        if self._stopped:  # the connection was opened while this manager still led
            goodbye = messages.Goodbye("not-leader", "this manager no longer leads", self._managers)
            connection.send(messages.encode(goodbye))
            connection.close()
            return
        node = self._view.nodes.get(node_id)
        if node is None:
            goodbye = messages.Goodbye("removed", f"node {node_id} is not in this swarm")
            connection.send(messages.encode(goodbye))
            connection.close()
            return
        self._end(node_id, "replaced", "another session of this node was opened")
        session = self._sessions[node_id] = _Session(connection, _features(said))
        self._presence.came(node_id)
        registered = messages.Registered(
            self.heartbeat_s,
            self._managers,
            self._view.role_of(node),
            self._view.is_member(node_id),
            OWN_FEATURES,
        )
        connection.send(messages.encode(registered))
        wanted = self._listener.wanted_tls()
        if wanted is not None:
            connection.send(messages.encode(wanted))
        for assign in given(self._view, self._view.tasks_of_node(node_id), session.sent.materials):
            session.tell(assign)
        session.tell(complete(self._view, node_id, session.sent))
        self._listener.node_described(node_id, said.description, connection.remote_host, said.manager_addr)
        before = self._view.node_state(node_id).state
        if before != READY:
            self._view.put_node_status(node_id, NodeStatus(READY, since=self._clock.now()))
            self._listener.node_changed(node_id, before)
        self._listener.node_registered(node_id)

    def has(self, node_id: str) -> bool:
        """True while the node has a session."""
        return node_id in self._sessions

    def understands(self, node_id: str, feature: str) -> bool:
        """True where the node's agent knows messages that earlier ones did not."""
        session = self._sessions.get(node_id)
        return session is not None and feature in session.features

    def describe(self, node_id: str, connection: Connection, description: NodeDescription) -> None:
        self._listener.node_described(node_id, description, connection.remote_host, "")

    def is_current(self, node_id: str, connection: Connection) -> bool:
        session = self._sessions.get(node_id)
        return session is not None and session.connection is connection

    def heartbeat(self, node_id: str) -> None:
        self._presence.heard(node_id)
        self._sessions[node_id].connection.send(self._heartbeat_ack())

    def statuses(self, node_id: str, frame: bytes) -> None:
        self._presence.heard(node_id)
        self._reports.add(node_id, frame)

    def renew(self, node_id: str, request_pem: bytes) -> None:
        try:
            renewed = self._listener.renewed_certificate(node_id, request_pem)
        except SkepError as error:
            log.warning("certificate.refused", node_id=node_id, error=str(error))
            return  # the node asks again
        self._sessions[node_id].connection.send(messages.encode(renewed))

    def manage(self, node_id: str, manager_addr: str) -> None:
        self._listener.asked_to_manage(node_id, manager_addr)

    def attach(self, node_id: str, asked: messages.Attach | messages.HasAddresses) -> None:
        self._listener.about_attachments(node_id, asked)

    def has_tls(self, node_id: str, has: messages.HasTls) -> None:
        self._listener.has_tls(node_id, has)

    def refuse(self, node_id: str, connection: Connection, reason: str) -> None:
        """Ends a session, or what was to become one, whose node says what cannot be, or too much. The node's
        message says why until it is down, or another manager leads."""
        log.warning("session.refused", node_id=node_id, reason=reason)
        said = f"what the node said was refused, and its session ended: {reason}"
        if node_id in self._view.nodes:
            state = self._view.node_state(node_id)
            self._view.put_node_status(node_id, replace(state, message=said))
        if self.is_current(node_id, connection):
            self.closed(node_id, reason)
        goodbye = messages.Goodbye(messages.REFUSED, f"the manager refuses what this node says: {reason}")
        connection.send(messages.encode(goodbye))
        connection.close()

    def closed(self, node_id: str, reason: str) -> None:
        """A registered node's connection broke: it has a short grace to come back."""
        del self._sessions[node_id]
        self._presence.ended(node_id)
        if node_id in self._view.nodes:
            self._presence.broke(node_id)
            log.info("session.closed", node_id=node_id, reason=reason)

    # Inside

    def _reported(self, node_id: str, frame: bytes) -> None:
        view, listener = self._view, self._listener
        try:
            items = self.guard.read_report(frame)
        except Invalid as error:
            session = self._sessions.get(node_id)
            if session is not None:
                self.refuse(node_id, session.connection, str(error))
            return
        tasks = view.tasks
        for task_id, status in items:
            task = tasks.get(task_id)
            if task is None or task.node_id != node_id:
                continue
            status = bounded(status)
            if view.put_status(task, status):
                listener.task_reported(task, status, is_news(view, task, status.state))

    def _heartbeat_ack(self) -> bytes:
        if self._ack_heartbeat_s != self.heartbeat_s:
            self._ack_heartbeat_s = self.heartbeat_s
            self._ack = messages.encode(messages.HeartbeatAck(self.heartbeat_s, self._managers))
        return self._ack

    def _end(self, node_id: str, kind: str, message: str) -> None:
        session = self._sessions.pop(node_id, None)
        self._presence.ended(node_id)
        if session is not None:
            goodbye = messages.Goodbye(kind, message, self._managers)
            session.connection.send(messages.encode(goodbye))
            session.connection.close()

    def _silent(self, node_id: str) -> None:
        session = self._sessions.pop(node_id)
        session.connection.close()

    def _down(self, node_id: str) -> None:
        if node_id not in self._view.nodes:
            return
        log.warning("node.down", node_id=node_id)
        known = self._view.node_state(node_id)
        message = known.message if known.state == DOWN else _together("heartbeat failure", known.message)
        status = NodeStatus(DOWN, message, self._clock.now())
        self._view.put_node_status(node_id, status)
        self._listener.node_changed(node_id, known.state)


class SessionHandler:
    """Receives one connection's frames; fulfils `rpc.port.Handler`."""

    def __init__(self, dispatcher: Dispatcher, connection: Connection) -> None:
        assert connection.identity is not None
        self._dispatcher = dispatcher
        self._connection = connection
        self._node_id = connection.identity.node_id
        self._is_refused = False

    def connected(self, connection: Connection) -> None:
        """Nothing to do until the node registers."""

    def frame(self, data: bytes) -> None:
        if self._is_refused:
            return  # what came behind, in the same moment
        try:
            self._take(data)
        except Invalid as error:
            self._is_refused = True
            self._dispatcher.refuse(self._node_id, self._connection, str(error))

    def _take(self, data: bytes) -> None:
        """Errors: `Invalid` for what makes no sense, or is too much."""
        guard, now = self._dispatcher.guard, asyncio.get_running_loop().time()
        if messages.is_statuses(data):
            guard.count_report(self._node_id, data, now)
            if self._dispatcher.is_current(self._node_id, self._connection):
                self._dispatcher.statuses(self._node_id, data)
            return
        message = guard.read(self._node_id, data, now)
        if isinstance(message, messages.Register):
            self._dispatcher.register(self._connection, message)
        elif not self._dispatcher.is_current(self._node_id, self._connection):
            return  # a session that was replaced, or never opened: its words no longer count
        elif isinstance(message, messages.Heartbeat):
            self._dispatcher.heartbeat(self._node_id)
        elif isinstance(message, messages.Described):
            self._dispatcher.describe(self._node_id, self._connection, message.description)
        elif isinstance(message, messages.Renew):
            self._dispatcher.renew(self._node_id, message.request_pem)
        elif isinstance(message, messages.Manage):
            self._dispatcher.manage(self._node_id, message.manager_addr)
        elif isinstance(message, messages.HasTls):
            self._dispatcher.has_tls(self._node_id, message)
        elif isinstance(message, messages.Attach | messages.HasAddresses):
            self._dispatcher.attach(self._node_id, message)
        else:
            self._dispatcher.statuses(self._node_id, data)

    def closed(self, reason: str) -> None:
        if self._dispatcher.is_current(self._node_id, self._connection):
            self._dispatcher.closed(self._node_id, reason)


def _together(*messages: str) -> str:
    return "; ".join(filter(None, messages))


@functools.cache
def _feature_set(names: tuple[str, ...]) -> frozenset[str]:
    """One set for all the nodes that say the same."""
    return frozenset(names)


def _features(said: messages.Register) -> frozenset[str]:
    known = tuple(name for name in KNOWN_FEATURES if name in said.features)
    return _feature_set(known)
