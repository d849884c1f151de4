"""Who is here: one session per node, on the leader, and what nodes say to those that registered for it.

Nothing here knows of tasks, secrets or addresses: a subject takes messages (`on`), and sends. Everything is
callbacks: thousands of nodes share the loop, and a frame touches its own session only. What a node says that
cannot be taken, for whatever reason, ends its session and nothing else: it comes again, and is told why.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from skep.manager.evictor import Evictor
from skep.model.states import RUNNING
from skep.rpc import messages
from skep.rpc.interfaces import Connection
from skep.rpc.router import Router
from skep.runtime.errors import Invalid, SkepError
from skep.runtime.metrics import Counter, Gauge, Metric
from skep.store.view import View

from .intake import Intake
from .observer import NodeObserver
from .presence import Presence
from .refusals import REFUSALS_MAX, WINDOW_S, Refusals
from .standby import StandbyPolicy
from .strangers import Strangers, nobody_is

log = structlog.get_logger()

OURS = "this manager could not take what the node said: its log says more"
OFTEN = f"what the node said was refused {REFUSALS_MAX} times within {WINDOW_S:.0f} s"

Message = TypeVar("Message")


class _Session:
    """One registered node."""

    __slots__ = ("connection", "features")

    def __init__(self, connection: Connection, features: frozenset[str]) -> None:
        self.connection = connection
        self.features = features


class Sessions:
    """`managers` are the addresses (host:port) told to agents, until others are; `observer` hears what
    becomes of nodes: one that was silent for too long is gone where `evictor` lets it go. `lead` is told with
    what must not come from a leader of before; `is_removed`: as in `Strangers`. `start` begins the watch for
    silence."""

    def __init__(
        self,
        view: View,
        managers: list[str],
        observer: NodeObserver,
        lead: messages.Lead | None = None,
        is_removed: Callable[[str], Awaitable[bool]] = nobody_is,
        evictor: Evictor | None = None,
    ) -> None:
        self._view = view
        self._managers = managers
        self._sessions: dict[str, _Session] = {}
        self._presence = Presence(
            lambda: self.heartbeat_s, self._silent, observer.gone, evictor, observer.held, self._has_tasks
        )
        self.lead = lead
        self._strangers = Strangers(is_removed, self._part)
        self._observer = observer
        self._router = Router[str]()
        self._intake = Intake()
        self._own_features: list[str] = []
        self._take_statuses: Callable[[str, bytes], None] = lambda node_id, frame: None
        self._ended: list[Callable[[str], object]] = []
        self._refusals = Refusals()
        self._stopped = False
        self._failures = 0
        self._standby = StandbyPolicy()
        self._ack, self._ack_says = b"", messages.HeartbeatAck(0.0, [])
        self._opened = Counter("skep_sessions_opened_total", "Sessions that nodes have opened.")
        self._refusals_total = Counter("skep_sessions_refused_total", "Words of nodes that were refused.")
        self.on(messages.Heartbeat, self._beat)

    @property
    def heartbeat_s(self) -> float:
        cluster = self._view.cluster
        return cluster.spec.heartbeat_s if cluster is not None else 5.0

    @property
    def failures(self) -> int:
        """Returns how often something of ours raised for a node, and only that node was the worse for it."""
        return self._failures + self._presence.failures

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Gauge("skep_sessions", "Nodes that have a session.", lambda: len(self._sessions)),
            self._opened,
            self._refusals_total,
        )

    def start(self, grace_until: float = 0.0) -> None:
        """From now on every node has its grace to register before it is gone: `grace_until` at least, by the
        loop's time."""
        self._presence.start(self._view.nodes, grace_until)

    def stop(self, kind: str = messages.NOT_LEADER, reason: str = "this manager no longer leads") -> None:
        """Ends all sessions; agents look for the next leader."""
        self._stopped = True
        self._presence.stop()
        self._strangers.stop()
        for node_id in list(self._sessions):
            self._end(node_id, kind, reason)

    def open(self, connection: Connection) -> SessionHandler:
        """Returns what receives the frames of a connection whose certificate was verified."""
        return SessionHandler(self, connection)

    # What subjects do

    def on(self, kind: type[Message], take: Callable[[str, Message], None], feature: str = "") -> None:
        """Has `take` hear (node id, message) of each message of this type; agents are told of the feature,
        where it is one. A message that cannot be taken raises: `Invalid`, with the reason."""
        self._router.on(kind, take)
        if feature:
            self.says(feature)

    def says(self, feature: str) -> None:
        """Has agents be told that this manager understands what earlier ones did not."""
        if feature not in self._own_features:
            self._own_features.append(feature)

    def on_statuses(self, take: Callable[[str, bytes], None]) -> None:
        """Has `take` hear (node id, frame) of reports, as they came: they are not decoded here."""
        self._take_statuses = take

    def on_end(self, heard: Callable[[str], object]) -> None:
        """Has `heard` know of each session that has ended."""
        self._ended.append(heard)

    def has(self, node_id: str) -> bool:
        """True while the node has a session."""
        return node_id in self._sessions

    def understands(self, node_id: str, feature: str) -> bool:
        """True where the node's agent knows messages that earlier ones did not."""
        session = self._sessions.get(node_id)
        return session is not None and feature in session.features

    def remote_host(self, node_id: str) -> str:
        """Returns where the node comes from; an empty text without a session."""
        session = self._sessions.get(node_id)
        return session.connection.remote_host if session is not None else ""

    def send(self, node_id: str, message: messages.FromManager) -> None:
        """Sends a node something, if it is there."""
        if node_id in self._sessions:
            self.send_frame(node_id, messages.encode(message))

    def send_frame(self, node_id: str, frame: bytes) -> None:
        """Sends a message that is encoded already: many nodes get the same."""
        session = self._sessions.get(node_id)
        if session is not None:
            session.connection.send(frame)

    def broadcast(self, message: messages.FromManager) -> None:
        """Sends every node that is there something."""
        frame = messages.encode(message)
        for session in self._sessions.values():
            session.connection.send(frame)

    def knows_any(self, feature: str, without: str) -> bool:
        """True where a node that is there understands `feature`, and not `without`."""
        return any(feature in e.features and without not in e.features for e in self._sessions.values())

    def broadcast_frame(self, frame: bytes, feature: str, without: str | None = None) -> int:
        """Sends it to every node that is there and understands it, but those that understand `without`.
        Returns how many they are."""
        found = [each for each in self._sessions.values() if feature in each.features]
        if without is not None:
            found = [each for each in found if without not in each.features]
        for session in found:
            session.connection.send(frame)
        return len(found)

    def refuse(self, node_id: str, error: Exception) -> None:
        """What the node said cannot be taken: its session ends with the reason."""
        session = self._sessions.get(node_id)
        if session is not None:
            self._refuse(session.connection, node_id, error)

    # What is told to all, and what changes for one

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
            self.tell_heartbeat()

    def tell_role(self, node_id: str) -> None:
        """What the node is to act as, or whether it holds a copy of the store, may have changed."""
        node = self._view.nodes.get(node_id)
        if node is not None:
            self.send(node_id, messages.Role(self._view.role_of(node), self._view.is_member(node_id)))

    def node_added(self, node_id: str) -> None:
        """A node was enrolled and is expected to register; one that is expected already keeps its grace."""
        if node_id not in self._sessions:
            self._presence.expect(node_id)

    def node_removed(self, node_id: str) -> None:
        """The node is no longer of this swarm."""
        self._presence.forget(node_id)
        self._refusals.forget(node_id)
        self._end(node_id, messages.REMOVED, "the node was removed from the swarm")

    # Called by the handlers of connections

    def received(self, connection: Connection, node_id: str, frame: bytes) -> bool:
        """Hands on what a node says; never raises. False where it is refused, and the connection ends."""
        try:
            message, left_out = self._intake.read(node_id, frame)
            if isinstance(message, messages.Register):
                if not self._register(connection, node_id, message):
                    return True
            elif not self._is_current(node_id, connection):
                return True  # a session that was replaced, or never opened: its words no longer count
            self._presence.heard(node_id)
            if message is None or isinstance(message, messages.Statuses):
                self._take_statuses(node_id, frame)
            else:
                self._router.route(node_id, message)
            if isinstance(message, messages.Register | messages.Described):
                self._observer.left_out(node_id, left_out)
        except Exception as error:
            self._refuse(connection, node_id, error)
            return False
        return True

    def closed(self, connection: Connection, node_id: str, reason: str) -> None:
        """A connection broke: a registered node has a short grace to come back."""
        if self._is_current(node_id, connection):
            log.info("session.closed", node_id=node_id, reason=reason)
            self._lose(node_id)

    # Inside

    def _register(self, connection: Connection, node_id: str, said: messages.Register) -> bool:
        """Opens a session; False where there is none for this node here."""
        node = self._view.nodes.get(node_id)
        if self._stopped:  # the connection was opened while this manager still led
            self._part(connection, messages.NOT_LEADER, "this manager no longer leads")
            return False
        if node is None:
            self._strangers.came(connection, node_id)
            return False
        wait_s = self._refusals.wait_s(node_id, asyncio.get_running_loop().time())
        if wait_s > 0.0:
            self._part(connection, messages.REFUSED, f"{OFTEN}: it gets no session for {wait_s:.0f} s")
            return False
        self._end(node_id, messages.REPLACED, "another session of this node was opened")
        self._sessions[node_id] = _Session(connection, _features(said))
        self._opened.add()
        self._presence.came(node_id)
        self._standby.came(asyncio.get_running_loop().time())
        registered = messages.Registered(
            self.heartbeat_s,
            self._managers,
            self._view.role_of(node),
            self._view.is_member(node_id),
            self._own_features,
            self.lead,
            self._standby_wish(),
        )
        connection.send(messages.encode(registered))
        return True

    def _has_tasks(self, node_id: str) -> bool:
        """True where tasks would be run elsewhere without the node."""
        tasks = self._view.tasks_of_node(node_id)
        return any(task.result is None and task.desired_state <= RUNNING for task in tasks)

    def _is_current(self, node_id: str, connection: Connection) -> bool:
        session = self._sessions.get(node_id)
        return session is not None and session.connection is connection

    def _beat(self, node_id: str, message: messages.Heartbeat) -> None:
        self._sessions[node_id].connection.send(self._heartbeat_ack())

    def _heartbeat_ack(self) -> bytes:
        says = messages.HeartbeatAck(self.heartbeat_s, self._managers, self._standby_wish())
        if says != self._ack_says:
            self._ack, self._ack_says = messages.encode(says), says
        return self._ack

    def _standby_wish(self) -> messages.StandbyWish:
        now = asyncio.get_running_loop().time()
        return self._standby.wish(len(self._view.nodes), len(self._managers), now)

    def _refuse(self, connection: Connection, node_id: str, error: Exception) -> None:
        self._refusals_total.add()
        if isinstance(error, SkepError):
            log.warning("session.refused", node_id=node_id, error=str(error))
        else:
            self._failures += 1
            log.error("message.failed", node_id=node_id, exc_info=error)
        if isinstance(error, Invalid) and node_id in self._view.nodes:  # not what is this manager's own fault
            self._refusals.add(node_id, asyncio.get_running_loop().time())
        if self._is_current(node_id, connection):
            self._lose(node_id)
        reason = str(error) if isinstance(error, SkepError) else OURS
        self._observer.refused(node_id, reason)
        self._part(connection, messages.REFUSED, reason)

    def _end(self, node_id: str, kind: str, reason: str) -> None:
        session = self._drop(node_id)
        if session is not None:
            self._part(session.connection, kind, reason)

    def _part(self, connection: Connection, kind: str, reason: str) -> None:
        connection.send(messages.encode(messages.Goodbye(kind, reason, self._managers, lead=self.lead)))
        connection.close()

    def _lose(self, node_id: str) -> None:
        self._drop(node_id)
        if node_id in self._view.nodes:
            self._presence.broke(node_id)

    def _silent(self, node_id: str) -> None:
        session = self._drop(node_id)
        if session is not None:
            session.connection.close()

    def _drop(self, node_id: str) -> _Session | None:
        self._presence.ended(node_id)
        session = self._sessions.pop(node_id, None)
        if session is not None:
            for heard in self._ended:
                heard(node_id)
        return session


class SessionHandler:
    """Receives one connection's frames; fulfils `rpc.interfaces.Handler`."""

    def __init__(self, sessions: Sessions, connection: Connection) -> None:
        assert connection.identity is not None
        self._sessions = sessions
        self._connection = connection
        self._node_id = connection.identity.node_id
        self._is_refused = False

    def connected(self, connection: Connection) -> None:
        """Nothing to do until the node registers."""

    def frame(self, data: bytes) -> None:
        if not self._is_refused:  # what came behind, in the same moment, is not looked at
            self._is_refused = not self._sessions.received(self._connection, self._node_id, data)

    def closed(self, reason: str) -> None:
        self._sessions.closed(self._connection, self._node_id, reason)


@functools.cache
def _feature_set(names: tuple[str, ...]) -> frozenset[str]:
    """One set for all the nodes that say the same."""
    return frozenset(names)


def _features(said: messages.Register) -> frozenset[str]:
    known = tuple(name for name in messages.FEATURES if name in said.features)
    return _feature_set(known)
