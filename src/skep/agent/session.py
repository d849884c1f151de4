"""The node's line to a manager: register, beat, follow redirects, come back. Subjects speak over it.

One `Session` per node for its whole life; a connection at a time. Thousands of simulated nodes share a
process, so everything here is callbacks and timers, and one coroutine that reconnects. A subject registers
for the messages that it takes (`on`), sends, and asks; `Registered` is the first word of every session.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from msgspec import Struct

from skep.agent.lead_fence import LeadFence
from skep.agent.managers import Managers
from skep.model.node import NodeDescription
from skep.rpc import messages
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.questions import Questions, Refusal
from skep.rpc.router import Router
from skep.runtime.errors import SkepError, Unavailable

log = structlog.get_logger()

NEXT_S = 0.1  # before the next manager of the list is tried
# After a round of all managers: quick at first, then so that a node finds a new leader, with one manager
# unreachable, well before it is taken for down. Each wait is stretched by up to as much again.
RETRY_MIN_S, RETRY_MAX_S = 0.25, 2.0
# A standby connection that ends so soon, with nothing said, was one to a manager that has begun anew since,
# and takes a new connection. One that takes longer is to a host that is gone.
FRESH_S = 1.0
JITTER = 0.2  # heartbeats of thousands of nodes must not come in step

OLDER = (
    "it leads by an older vote than the leader that this node has followed. Where its store was set back to"
    " an earlier state, docker swarm init --force-new-cluster on that manager makes it known"
)

Connect = Callable[[str, Handler], Awaitable[Connection]]
Message = TypeVar("Message")
Answer = TypeVar("Answer")


class Advertised(Struct, frozen=True):
    """Where others reach this node: the manager beside its agent (host:port), and the end of its tunnels (an
    address). An empty text: there is no manager; the address at which the leader sees the node."""

    manager_addr: str = ""
    data_addr: str = ""


class Session:
    """`connect(address, handler)` opens an authenticated connection; `managers` are addresses to try, and
    `on_managers` hears of those to remember. `fence` says whose word is taken."""

    def __init__(
        self,
        *,
        connect: Connect,
        managers: list[str],
        rng: random.Random,
        on_managers: Callable[[list[str]], None] | None = None,
        fence: LeadFence | None = None,
        advertised: Advertised = Advertised(),
    ) -> None:
        self._connect = connect
        self._managers = Managers(managers, rng, on_managers)
        self._rng = rng
        self._fence = fence or LeadFence()
        self._manager_addr, self._data_addr = advertised.manager_addr, advertised.data_addr
        self._description: NodeDescription | None = None
        self._mesh_parts: Callable[[], list[tuple[str, int, int]]] = list
        self._has_standby: Callable[[str], bool] = lambda address: False
        self._own_features = [messages.SELF_REPORTED, messages.DATA_PATH]
        self._router = Router[()]()
        self._questions = Questions()
        self.line: _Line | None = None  # the one that counts: what an earlier one brings is not heard
        self._connection: Connection | None = None  # the line's, once it is open
        self.is_registered = False
        self._features: frozenset[str] = frozenset()  # of the manager
        self._beat_timer: asyncio.TimerHandle | None = None
        self._engine_is_silent = False
        self._heartbeat = _HEARTBEAT
        self._heartbeat_s = 5.0  # Docker's default, until the manager says otherwise
        self._heard_at = 0.0
        self._lost = asyncio.Event()
        self._hurry = asyncio.Event()  # set when there is no sense in waiting before the next try
        self._ended_by = ""  # the kind of the goodbye of this connection
        self._stood = False  # the last connection became a session
        self._redirect = ""  # where the leader is, by the word of a manager that is not
        self.address = ""  # of the manager that the line goes to
        self.ready = asyncio.Event()  # set while a session stands
        self.has_stood = False  # there was one since the daemon began
        self.trouble = ""  # why there is none: what the last try said
        self.on(messages.Registered, self._begin)
        self.on(messages.HeartbeatAck, lambda ack: self._learn(ack.heartbeat_s, ack.managers))
        self.on(messages.Goodbye, self._goodbye)

    # What subjects do

    def on(self, kind: type[Message], take: Callable[[Message], None], feature: str = "") -> None:
        """Has `take` hear of messages of this type; managers are told of the feature, where it is one."""
        self._router.on(kind, take)
        if feature:
            self.knows(feature)

    def knows(self, feature: str) -> None:
        """Has managers be told that this node understands what earlier ones did not."""
        if feature not in self._own_features:
            self._own_features.append(feature)

    def says_parts(self, parts: Callable[[], list[tuple[str, int, int]]]) -> None:
        """Has each session begin with what `parts` returns then: `Register.mesh_parts`."""
        self._mesh_parts = parts

    def prefers(self, has_standby: Callable[[str], bool]) -> None:
        """Has managers be tried first to which a connection waits, by what `has_standby` says then."""
        self._has_standby = has_standby

    def send(self, message: messages.FromAgent) -> None:
        """Says something, if a session stands: what must not be lost, the next one begins with."""
        if self.is_registered and self._connection is not None:
            self._connection.send(messages.encode(message))

    async def ask(
        self, asked: messages.FromAgent, answer: type[Answer], refusal: type[Refusal] | None = None
    ) -> Answer:
        """Returns the leader's answer. Errors: `Unavailable` where no session stands, none comes in time, or
        the line is lost, at once; what the refusal says."""
        if not self.is_registered or self._connection is None:
            raise Unavailable("no session with a manager stands at the moment")
        return await self._questions.ask(self._connection, asked, answer, refusal)

    def manager_knows(self, feature: str) -> bool:
        """True where a session stands, with a manager that understands what earlier ones did not."""
        return self.is_registered and feature in self._features

    def say_engine(self, is_silent: bool, is_in_doubt: bool) -> None:
        """Tells the leader whether the engine answers: now, and with each heartbeat."""
        self._engine_is_silent = is_silent
        heartbeat = messages.Heartbeat(is_silent, is_in_doubt)
        self._heartbeat = messages.encode(heartbeat)
        self.send(heartbeat)

    @property
    def heartbeat_s(self) -> float:
        """Returns how often this node says that it is here."""
        return self._heartbeat_s

    @property
    def managers(self) -> list[str]:
        """Returns the addresses to try, where no manager says who leads."""
        return self._managers.all

    @property
    def local_host(self) -> str:
        """Returns the address at which the leader sees this node; an empty text without a session."""
        return self._connection.local_host if self._connection is not None else ""

    def advertise(self, manager_addr: str) -> None:
        """The manager beside this agent is reached there from now on, or is no more (an empty text): the next
        session begins with that."""
        self._manager_addr = manager_addr

    def use_managers(self, managers: list[str]) -> None:
        """Managers are at these addresses now: the session begins anew with them, at once."""
        self._redirect = ""
        self.ready.clear()
        self._managers.take(managers)
        self._hurry.set()
        if self._connection is not None:
            self._connection.close()

    async def run(self, describe: Callable[[], Awaitable[NodeDescription]]) -> None:
        """Keeps a session up until the node is removed from the swarm or the task is cancelled."""
        retry_s, left = RETRY_MIN_S, self.managers  # of this round
        try:
            while True:
                if self._hurry.is_set():
                    self._hurry.clear()
                    left = self._round("")
                address, self._redirect = self._redirect or left.pop(0), ""
                self._ended_by = ""
                try:
                    self._description = await describe()
                    fresh_until = self._fresh_until(address)
                    await self._hold(address)
                    if self._heard_at and self._ended_by != messages.REFUSED:
                        retry_s = RETRY_MIN_S
                    self._heard_at = 0.0
                    if self._stood:
                        self._stood, left = False, self._round(address)
                    elif not self._ended_by and self._now_s() < fresh_until and not self._hurry.is_set():
                        self._redirect = address
                except SkepError as error:
                    log.warning("session.failed", manager=address, error=str(error))
                    self.trouble = f"manager {address}: {error}"
                if self._ended_by == messages.REMOVED:
                    return
                if self._ended_by == messages.REFUSED:
                    left = []  # it would be refused again: not before some time has passed
                if self._redirect or (left and left[0] != address):
                    await asyncio.sleep(NEXT_S)
                    continue
                left = left or self._round("")
                await self._wait(retry_s * (1 + self._rng.random()))
                retry_s = min(retry_s * 2, RETRY_MAX_S)
        finally:
            self._drop_line("the session was ended")

    def _round(self, lost: str) -> list[str]:
        """Returns the managers to try: first those to which a connection waits."""
        return sorted(self._managers.round(lost), key=lambda address: not self._has_standby(address))

    def _fresh_until(self, address: str) -> float:
        """Returns until when (loop time) this try is worth another one at once, should it say nothing."""
        return self._now_s() + FRESH_S if self._has_standby(address) else 0.0

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def _hold(self, address: str) -> None:
        """Opens a line and waits for its end. Errors: `SkepError` where it cannot be opened."""
        self._lost.clear()
        self.address = address
        self.line = _Line(self)
        try:
            await self._connect(address, self.line)
        except SkepError:
            self._drop_line("")  # it may have been open for a moment
            raise
        await self._lost.wait()

    async def _wait(self, time_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_s):
                await self._hurry.wait()

    # Called by the line

    def opened(self, connection: Connection) -> None:
        self._connection = connection
        assert self._description is not None
        register = messages.Register(
            self._description,
            self._manager_addr,
            self._own_features,
            self._engine_is_silent,
            self._data_addr,
            self._mesh_parts(),
        )
        connection.send(messages.encode(register))
        self._heard_at = 0.0
        self._beat_later()

    def received(self, frame: bytes) -> None:
        message = messages.decode_from_manager(frame)
        if isinstance(message, _LEADS) and not self._fence.admits(message.lead):
            self._refuse()
            return
        self._heard_at = asyncio.get_running_loop().time()
        if not self._questions.take(message):
            self._router.route(message)  # an answer that comes too late is nobody's

    def closed(self, reason: str) -> None:
        if self.is_registered:
            log.info("session.lost", reason=reason)
        self._drop_line(reason)
        self._lost.set()

    # Inside

    def _refuse(self) -> None:
        """This manager was suspended while others led, and does not know it yet: another one is tried."""
        self.trouble = f"manager {self.address}: {OLDER}"
        log.warning("session.older_lead", manager=self.address, advice=OLDER)
        if self._connection is not None:
            self._connection.close()

    def _begin(self, message: messages.Registered) -> None:
        self._fence.follow(message.lead)
        self._features = frozenset(message.features)
        self._learn(message.heartbeat_s, message.managers)
        self.is_registered = self._stood = self.has_stood = True
        self.trouble = ""
        self.ready.set()

    def _goodbye(self, message: messages.Goodbye) -> None:
        log.info("session.goodbye", kind=message.kind, reason=message.message)
        self._managers.hint(message.managers)
        self._redirect = message.leader
        self._ended_by = message.kind
        if message.kind == messages.REFUSED:
            self.trouble = f"manager {self.address}: {message.message}"
            log.error("session.refused", manager=self.address, reason=message.message)
        if self._connection is not None:
            self._connection.close()

    def _learn(self, heartbeat_s: float, managers: list[str]) -> None:
        shorter = heartbeat_s < self._heartbeat_s
        self._heartbeat_s = heartbeat_s
        if shorter and self._beat_timer is not None:
            self._beat_timer.cancel()
            self._beat_later()
        if managers:
            self._managers.take(managers)

    def _beat_later(self) -> None:
        delay = self._heartbeat_s * (1 - JITTER * self._rng.random())
        self._beat_timer = asyncio.get_running_loop().call_later(delay, self._beat)

    def _beat(self) -> None:
        """Says that we are here, and gives up a manager that has been silent for three periods."""
        connection = self._connection
        if connection is None:
            return
        now = asyncio.get_running_loop().time()
        if self._heard_at == 0.0:
            self._heard_at = now - self._heartbeat_s
        if now - self._heard_at > 3 * self._heartbeat_s:
            log.warning("session.silent", silent_s=round(now - self._heard_at, 1))
            connection.close()
            return
        connection.send(self._heartbeat)
        self._beat_later()

    def _drop_line(self, reason: str) -> None:
        self.is_registered = False
        self.ready.clear()
        connection, self._connection, self.line = self._connection, None, None
        if self._beat_timer is not None:
            self._beat_timer.cancel()
            self._beat_timer = None
        self._questions.end(f"the line to the manager at {self.address} was lost ({reason}): try again")
        if connection is not None:
            connection.close()


class _Line:
    """Passes what one connection brings to its session, as long as no other line has taken its place."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def connected(self, connection: Connection) -> None:
        if self._session.line is self:
            self._session.opened(connection)
        else:
            connection.close()

    def frame(self, data: bytes) -> None:
        if self._session.line is self:
            self._session.received(data)

    def closed(self, reason: str) -> None:
        if self._session.line is self:
            self._session.closed(reason)


_LEADS = (
    messages.Registered,
    messages.Assign,
    messages.MeshTold,
    messages.OverlayTold,
    messages.OverlaysHeld,
    messages.DataKeys,
    messages.Goodbye,
)
_HEARTBEAT = messages.encode(messages.Heartbeat())
