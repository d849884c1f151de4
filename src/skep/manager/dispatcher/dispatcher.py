"""One session per node, on the leader. Everything is callbacks: thousands of nodes share the loop.

In: frames of agents, and what was committed (`publish`). Out: frames to agents, and through `Listener`
what others must decide about. Cost: a heartbeat touches its own session; a commit the nodes it names.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Protocol

import structlog
from msgspec.structs import replace

from skep.model.node import DOWN, READY, NodeDescription, NodeStatus
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.port import Connection
from skep.runtime.clock import Clock
from skep.runtime.errors import Invalid, SkepError
from skep.store.view import View

from .assignments import Sent, complete, difference, is_news
from .materials import given, withdrawn

log = structlog.get_logger()

MISSED_BEATS = 3  # a silent node is down after as many periods (Docker's own rule)
BROKEN_BEATS = 1  # a node whose connection broke has this many periods to come back
FIRST_BEATS = 5  # a new leader waits longer: agents have to find it, past managers that do not answer
# … and longer yet while they still come: thousands of handshakes take their time, and to place the tasks of
# nodes that wait at the door would run them twice. At most as long, for those that never come.
LATE_BEATS = 12
PAUSE_S = 1.0  # a sweep that is later: the loop was busy, or the whole process was stopped
SWEEP_S = 0.5  # how often silence is looked for: small against a heartbeat, 1 ms of work per 2,300 nodes


KNOWN_FEATURES = (messages.LOGS,)


class Listener(Protocol):
    """Who decides about what the nodes say."""

    def node_changed(self, node_id: str, before: str) -> None:
        """A node became ready or down; `before` is the state it was in."""

    def node_described(
        self, node_id: str, description: NodeDescription, remote_host: str, manager_addr: str
    ) -> None:
        """A node told what it is. An empty `manager_addr`: it does not say whether it is a manager."""

    def asked_to_manage(self, node_id: str, manager_addr: str) -> None:
        """A node that is to be a manager asks for a copy of the store; `Dispatcher.answer` it."""

    def renewed_certificate(self, node_id: str, request_pem: bytes) -> messages.Renewed:
        """Signs a node's new certificate. Errors: `SkepError`."""

    def wanted_tls(self) -> messages.WantedTls | None:
        """Returns what nodes' certificates should be; None where there are none (simulation)."""

    def has_tls(self, node_id: str, has: messages.HasTls) -> None:
        """A node told what its certificate is."""

    def node_registered(self, node_id: str) -> None:
        """A node has a session, a new one."""

    def task_reported(self, task: Task, status: TaskStatus, news: bool) -> None:
        """A task's observed state changed; `news` where its slot must be looked at."""


class _Session:
    """One registered node."""

    __slots__ = ("connection", "features", "heard_at", "sent")

    def __init__(self, connection: Connection, now: float, features: frozenset[str]) -> None:
        self.connection = connection
        self.features = features
        self.heard_at = now  # of the event loop's clock: wall clocks jump
        self.sent = Sent()


class Dispatcher:
    """`managers` are the addresses (host:port) told to agents, until others are; `start` begins the watch
    for silence."""

    def __init__(self, view: View, clock: Clock, listener: Listener, managers: list[str]) -> None:
        self._view = view
        self._clock = clock
        self._listener = listener
        self._managers = managers
        self._sessions: dict[str, _Session] = {}
        self._absent: dict[str, float] = {}  # node -> loop time at which it is given up
        self._first: set[str] = set()  # nodes not heard of since the start
        self._came_at = 0.0  # loop time at which the last of those came
        self._late_until = 0.0  # loop time: no extension of their grace goes beyond
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
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
        now = asyncio.get_running_loop().time()
        deadline = max(now + FIRST_BEATS * self.heartbeat_s, grace_until)
        self._late_until = max(now + LATE_BEATS * self.heartbeat_s, grace_until)
        self._first = set(self._view.nodes)
        for node_id in self._view.nodes:
            self._absent[node_id] = deadline
        self._told_tls = self._listener.wanted_tls()
        self._sweep_later()

    def stop(self, kind: str = "not-leader", message: str = "this manager no longer leads") -> None:
        """Ends all sessions; agents look for the next leader."""
        self._stopped = True
        if self._sweeper is not None:
            self._sweeper.cancel()
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
                    session.connection.send(messages.encode(assign))

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
        now = asyncio.get_running_loop().time()
        for session in self._sessions.values():
            session.heard_at = now
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
            deadline = asyncio.get_running_loop().time() + MISSED_BEATS * self.heartbeat_s
            self._absent.setdefault(node_id, deadline)

    def node_removed(self, node_id: str) -> None:
        """The node is no longer of this swarm."""
        self._absent.pop(node_id, None)
        self._first.discard(node_id)
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
        session = _Session(connection, asyncio.get_running_loop().time(), _features(said))
        self._sessions[node_id] = session
        self._absent.pop(node_id, None)
        if node_id in self._first:
            self._first.discard(node_id)
            self._came_at = session.heard_at
        registered = messages.Registered(
            self.heartbeat_s, self._managers, self._view.role_of(node), self._view.is_member(node_id)
        )
        connection.send(messages.encode(registered))
        wanted = self._listener.wanted_tls()
        if wanted is not None:
            connection.send(messages.encode(wanted))
        for assign in given(self._view, self._view.tasks_of_node(node_id), session.sent.materials):
            connection.send(messages.encode(assign))
        connection.send(messages.encode(complete(self._view, node_id, session.sent)))
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
        session = self._sessions[node_id]
        session.heard_at = asyncio.get_running_loop().time()
        session.connection.send(self._heartbeat_ack())

    def statuses(self, node_id: str, items: list[tuple[str, TaskStatus]]) -> None:
        self._sessions[node_id].heard_at = asyncio.get_running_loop().time()
        view, listener = self._view, self._listener
        tasks = view.tasks
        for task_id, status in items:
            task = tasks.get(task_id)
            if task is not None and task.node_id == node_id and view.put_status(task, status):
                listener.task_reported(task, status, is_news(view, task, status.state))

    def renew(self, node_id: str, request_pem: bytes) -> None:
        try:
            renewed = self._listener.renewed_certificate(node_id, request_pem)
        except SkepError as error:
            log.warning("certificate.refused", node_id=node_id, error=str(error))
            return  # the node asks again
        self._sessions[node_id].connection.send(messages.encode(renewed))

    def manage(self, node_id: str, manager_addr: str) -> None:
        self._listener.asked_to_manage(node_id, manager_addr)

    def has_tls(self, node_id: str, has: messages.HasTls) -> None:
        self._listener.has_tls(node_id, has)

    def closed(self, node_id: str, reason: str) -> None:
        """A registered node's connection broke: it has a short grace to come back."""
        del self._sessions[node_id]
        if node_id in self._view.nodes:
            self._absent[node_id] = asyncio.get_running_loop().time() + BROKEN_BEATS * self.heartbeat_s
            log.info("session.closed", node_id=node_id, reason=reason)

    # Inside

    def _heartbeat_ack(self) -> bytes:
        if self._ack_heartbeat_s != self.heartbeat_s:
            self._ack_heartbeat_s = self.heartbeat_s
            self._ack = messages.encode(messages.HeartbeatAck(self.heartbeat_s, self._managers))
        return self._ack

    def _end(self, node_id: str, kind: str, message: str) -> None:
        session = self._sessions.pop(node_id, None)
        if session is not None:
            goodbye = messages.Goodbye(kind, message, self._managers)
            session.connection.send(messages.encode(goodbye))
            session.connection.close()

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep_due = loop.time() + SWEEP_S
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def _forgive(self, now: float, paused_s: float) -> None:
        """This process stood still for as long: what nodes said meanwhile has yet to be read."""
        log.warning("dispatcher.paused", for_s=round(paused_s, 1))
        for session in self._sessions.values():
            session.heard_at = min(now, session.heard_at + paused_s)
        for node_id in self._absent:
            self._absent[node_id] += paused_s

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._sweep_due > PAUSE_S:
            self._forgive(now, now - self._sweep_due)
        silent_s = MISSED_BEATS * self.heartbeat_s
        for node_id, session in list(self._sessions.items()):
            if now - session.heard_at > silent_s:
                del self._sessions[node_id]
                session.connection.close()
                self._absent[node_id] = now
        for node_id, deadline in list(self._absent.items()):
            if deadline <= now and not (node_id in self._first and self._still_come(now)):
                del self._absent[node_id]
                self._first.discard(node_id)
                self._down(node_id)
        self._sweep_later()

    def _still_come(self, now: float) -> bool:
        """True while nodes come to a new leader one after the other."""
        return now < min(self._came_at + self.heartbeat_s, self._late_until)

    def _down(self, node_id: str) -> None:
        if node_id not in self._view.nodes:
            return
        log.warning("node.down", node_id=node_id)
        before = self._view.node_state(node_id).state
        status = NodeStatus(DOWN, "heartbeat failure", self._clock.now())
        self._view.put_node_status(node_id, status)
        self._listener.node_changed(node_id, before)


class SessionHandler:
    """Receives one connection's frames; fulfils `rpc.port.Handler`."""

    def __init__(self, dispatcher: Dispatcher, connection: Connection) -> None:
        assert connection.identity is not None
        self._dispatcher = dispatcher
        self._connection = connection
        self._node_id = connection.identity.node_id

    def connected(self, connection: Connection) -> None:
        """Nothing to do until the node registers."""

    def frame(self, data: bytes) -> None:
        try:
            message = messages.decode_from_agent(data)
        except Invalid as error:
            log.warning("session.garbage", node_id=self._node_id, error=str(error))
            self._connection.close()
            return
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
        else:
            self._dispatcher.statuses(self._node_id, message.items)

    def closed(self, reason: str) -> None:
        if self._dispatcher.is_current(self._node_id, self._connection):
            self._dispatcher.closed(self._node_id, reason)


@functools.cache
def _feature_set(names: tuple[str, ...]) -> frozenset[str]:
    """One set for all the nodes that say the same."""
    return frozenset(names)


def _features(said: messages.Register) -> frozenset[str]:
    known = tuple(name for name in KNOWN_FEATURES if name in said.features)
    return _feature_set(known)
