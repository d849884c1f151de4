"""The node's line to a manager: register, report in batches, beat, follow redirects, come back.

One `Session` per node for its whole life; a connection at a time. Thousands of simulated nodes share a
process, so everything here is callbacks and timers, and one coroutine that reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import structlog

from skep.agent.worker import Worker
from skep.model.node import NodeDescription
from skep.model.task import TaskStatus
from skep.rpc import messages
from skep.rpc.port import Connection, Handler
from skep.runtime.errors import SkepError, Unavailable

log = structlog.get_logger()

BATCH_S = 0.05  # statuses wait this long for company: a burst of starts is one message, a user sees no delay
NEXT_S = 0.1  # before the next manager of the list is tried
# After a round of all managers: quick at first, then so that a node finds a new leader, with one manager
# unreachable, well before it is taken for down. Each wait is stretched by up to as much again.
RETRY_MIN_S, RETRY_MAX_S = 0.25, 2.0
JITTER = 0.2  # heartbeats of thousands of nodes must not come in step
REFUSED_S = 10.0  # before a node comes again whose words were refused: they are likely to be the same
RENEW_S = 10.0  # a certificate is signed in less than a millisecond
ITEMS_MAX = 20_000  # statuses per message, about 4 MB: below the frame limit of 16 MB

Connect = Callable[[str, Handler], Awaitable[Connection]]


class Session:
    """`connect(address, handler)` opens an authenticated connection; `managers` are addresses to try."""

    def __init__(
        self,
        *,
        connect: Connect,
        managers: list[str],
        rng: random.Random,
        on_managers: Callable[[list[str]], None] | None = None,
        on_goodbye: Callable[[str, str], None] | None = None,
        on_role: Callable[[messages.Role], None] | None = None,
        manager_addr: str = "",
    ) -> None:
        self._connect = connect
        self._managers = list(managers)  # by the leader's word, or an operator's
        # By the word of the last manager that does not lead. One that comes back may know those of before
        # only: what it says is tried too, and takes the place of nothing.
        self._hinted: list[str] = []
        self._rng = rng
        self._on_managers = on_managers
        self._on_goodbye = on_goodbye
        self._on_role = on_role
        self.manager_addr = manager_addr  # told at the next register
        self._worker: Worker | None = None
        self._description: NodeDescription | None = None
        self._connection: Connection | None = None
        self._registered = False
        self._pending: dict[str, TaskStatus] = {}
        self._flush_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._heartbeat_s = 5.0  # Docker's default, until the manager says otherwise
        self._heard_at = 0.0
        self._lost = asyncio.Event()
        self._hurry = asyncio.Event()  # set when there is no sense in waiting before the next try
        self._removed = False
        self._is_refused = False
        self._stood = False  # the last connection became a session
        self._redirect = ""  # where the leader is, by the word of a manager that is not
        self._renewed: asyncio.Future[messages.Renewed] | None = None
        self._managing: asyncio.Future[messages.Managing] | None = None
        self.on_wanted_tls: Callable[[messages.WantedTls], None] | None = None
        self.on_read_logs: Callable[[str, messages.ReadLogs], None] | None = None  # with who asks: host:port
        self.on_attachments: Callable[[messages.OfAttachments], None] | None = None
        self.on_registered: Callable[[], None] | None = None
        self._features: frozenset[str] = frozenset()  # of the manager
        self._address = ""  # of the manager that the line goes to
        self.ready = asyncio.Event()  # set while a session stands
        self.has_stood = False  # there was one since the daemon began
        self.trouble = ""  # why there is none: what the last try said

    @property
    def managers(self) -> list[str]:
        """Returns the addresses to try, where no manager says who leads."""
        return list(dict.fromkeys([*self._managers, *self._hinted]))

    def report(self, task_id: str, status: TaskStatus) -> None:
        """Queues a status; only the latest of a task is sent (bounded by the number of tasks)."""
        self._pending[task_id] = status
        if self._registered and self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(BATCH_S, self._flush)

    async def renew(self, request_pem: bytes) -> messages.Renewed:
        """Asks the leader for a new certificate. Errors: `Unavailable` where no session answers in time."""
        if not self._registered or self._connection is None:
            raise Unavailable("no session with a manager stands at the moment")
        self._renewed = asyncio.get_running_loop().create_future()
        self._connection.send(messages.encode(messages.Renew(request_pem)))
        try:
            return await asyncio.wait_for(self._renewed, RENEW_S)
        except TimeoutError as error:
            raise Unavailable(f"the manager did not renew the certificate within {RENEW_S:.0f} s") from error
        finally:
            self._renewed = None

    def manager_knows(self, feature: str) -> bool:
        """True where a session stands, with a manager that understands what earlier ones did not."""
        return self._registered and feature in self._features

    def say(self, message: messages.Attach | messages.HasAddresses) -> None:
        """Errors: `Unavailable`, where no session stands."""
        if not self._registered or self._connection is None:
            raise Unavailable("no session with a manager stands at the moment")
        self._connection.send(messages.encode(message))

    @property
    def local_host(self) -> str:
        """Returns the address at which the leader sees this node; an empty text without a session."""
        return self._connection.local_host if self._connection is not None else ""

    async def manage(self, manager_addr: str) -> messages.Managing:
        """Asks the leader for a copy of the store. Errors: `Unavailable`, which says why not now."""
        if not self._registered or self._connection is None:
            raise Unavailable("no session with a manager stands at the moment")
        self.manager_addr = manager_addr
        self._managing = asyncio.get_running_loop().create_future()
        self._connection.send(messages.encode(messages.Manage(manager_addr)))
        try:
            return await asyncio.wait_for(self._managing, RENEW_S)
        except TimeoutError as error:
            raise Unavailable(f"the leader did not answer within {RENEW_S:.0f} s") from error
        finally:
            self._managing = None

    def say_description(self, description: NodeDescription) -> None:
        """Tells the leader what the node is by now; the next session begins with it."""
        self._description = description
        if self._registered and self._connection is not None:
            self._connection.send(messages.encode(messages.Described(description)))

    def say_tls(self, has: messages.HasTls) -> None:
        """Tells the leader what certificate this node has; a new session's leader asks for it again."""
        if self._registered and self._connection is not None:
            self._connection.send(messages.encode(has))

    def use_managers(self, managers: list[str]) -> None:
        """Managers are at these addresses now: the session begins anew with them, at once."""
        self._redirect = ""
        self.ready.clear()
        self._take_managers(managers)
        self._hurry.set()
        if self._connection is not None:
            self._connection.close()

    async def run(self, worker: Worker, describe: Callable[[], Awaitable[NodeDescription]]) -> None:
        """Keeps a session up until the node is removed from the swarm or the task is cancelled."""
        self._worker = worker
        retry_s, left = RETRY_MIN_S, list(self.managers)  # of this round
        try:
            while not self._removed:
                if self._hurry.is_set():
                    self._hurry.clear()
                    left = self._round("")
                address, self._redirect = self._redirect, ""
                if not address:
                    address = left.pop(0)
                try:
                    await self._refresh_description(describe)
                    self._lost.clear()
                    self._address = address
                    await self._connect(address, _Line(self))
                    await self._lost.wait()
                    if self._heard_at:
                        retry_s = RETRY_MIN_S
                    self._heard_at = 0.0
                    if self._stood:
                        self._stood, left = False, self._round(address)
                except SkepError as error:
                    log.warning("session.failed", manager=address, error=str(error))
                    self.trouble = f"manager {address}: {error}"
                if self._removed:
                    return
                if self._is_refused:
                    self._is_refused = False
                    await self._wait(REFUSED_S)
                if self._redirect or (left and left[0] != address):
                    await asyncio.sleep(NEXT_S)
                    continue
                left = left or self._round("")
                await self._wait(retry_s * (1 + self._rng.random()))
                retry_s = min(retry_s * 2, RETRY_MAX_S)
        finally:
            self._drop_line()

    def _round(self, lost: str) -> list[str]:
        """Returns the managers to try: in a random order, for all nodes lose a leader at once, and the lost
        one last."""
        others = [address for address in self.managers if address != lost]
        self._rng.shuffle(others)
        return others + [lost] * (lost in self.managers)

    async def _wait(self, time_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_s):
                await self._hurry.wait()

    async def _refresh_description(self, describe: Callable[[], Awaitable[NodeDescription]]) -> None:
        """An engine that is being restarted is no reason to stay away from the manager."""
        try:
            self._description = await describe()
        except Unavailable:
            if self._description is None:
                raise

    # Called by the connection

    def opened(self, connection: Connection) -> None:
        self._connection = connection
        assert self._description is not None
        features = [messages.LOGS] if self.on_read_logs is not None else []
        if self.on_attachments is not None:
            features.append(messages.ATTACH)
        connection.send(messages.encode(messages.Register(self._description, self.manager_addr, features)))
        self._heard_at = 0.0
        self._beat_later()

    def received(self, frame: bytes) -> None:
        assert self._worker is not None
        message = messages.decode_from_manager(frame)
        self._heard_at = asyncio.get_running_loop().time()
        if isinstance(message, messages.Assign):
            self._worker.assign(message)
        elif isinstance(message, messages.HeartbeatAck):
            self._learn(message.heartbeat_s, message.managers)
        elif isinstance(message, messages.Renewed):
            if self._renewed is not None and not self._renewed.done():
                self._renewed.set_result(message)
        elif isinstance(message, messages.Role):
            self._role(message)
        elif isinstance(message, messages.Managing):
            if self._managing is not None and not self._managing.done():
                self._managing.set_result(message)
        elif isinstance(message, messages.NotNow):
            if self._managing is not None and not self._managing.done():
                self._managing.set_exception(Unavailable(message.reason))
        elif isinstance(message, messages.ReadLogs):
            if self.on_read_logs is not None:
                self.on_read_logs(self._address, message)
        elif isinstance(message, messages.WantedTls):
            if self.on_wanted_tls is not None:
                self.on_wanted_tls(message)
        elif isinstance(message, messages.Attached | messages.NotAttached | messages.SayAddresses):
            if self.on_attachments is not None:
                self.on_attachments(message)
        elif isinstance(message, messages.Registered):
            self._features = frozenset(message.features)
            self._learn(message.heartbeat_s, message.managers)
            self._registered = self._stood = self.has_stood = True
            self.trouble = ""
            self.ready.set()
            self._pending = dict(self._worker.everything())
            self._flush()
            self._role(messages.Role(message.role, message.is_member))
            if self.on_registered is not None:
                self.on_registered()
        else:
            self._goodbye(message)

    def closed(self, reason: str) -> None:
        if self._registered:
            log.info("session.lost", reason=reason)
        self._drop_line()
        self._lost.set()

    # Inside

    def _role(self, message: messages.Role) -> None:
        if self._on_role is not None:
            self._on_role(message)

    def _goodbye(self, message: messages.Goodbye) -> None:
        log.info("session.goodbye", kind=message.kind, reason=message.message)
        self._hinted = list(message.managers)
        self._redirect = message.leader
        if message.kind == "removed":
            self._removed = True
        if message.kind == messages.REFUSED:
            self._is_refused, self.trouble = True, f"manager {self._address}: {message.message}"
            log.error("session.refused", manager=self._address, reason=message.message)
        if self._on_goodbye is not None:
            self._on_goodbye(message.kind, message.message)
        if self._connection is not None:
            self._connection.close()

    def _learn(self, heartbeat_s: float, managers: list[str]) -> None:
        shorter = heartbeat_s < self._heartbeat_s
        self._heartbeat_s = heartbeat_s
        if shorter and self._beat_timer is not None:
            self._beat_timer.cancel()
            self._beat_later()
        if managers:
            self._take_managers(managers)

    def _take_managers(self, managers: list[str]) -> None:
        self._hinted = []
        if managers != self._managers:
            self._managers = list(managers)
            if self._on_managers is not None:
                self._on_managers(list(managers))

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
        connection.send(_HEARTBEAT)
        self._beat_later()

    def _flush(self) -> None:
        self._flush_timer = None
        if not self._registered or self._connection is None or not self._pending:
            return
        items = list(self._pending.items())
        self._pending.clear()
        for start in range(0, len(items), ITEMS_MAX):
            self._connection.send(messages.encode(messages.Statuses(items[start : start + ITEMS_MAX])))

    def _drop_line(self) -> None:
        self._registered = False
        self.ready.clear()
        connection, self._connection = self._connection, None
        for timer in (self._beat_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()
        self._beat_timer = self._flush_timer = None
        if connection is not None:
            connection.close()


class _Line:
    """Passes what one connection brings to its session, unless a later connection has taken over."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection: Connection | None = None

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        self._session.opened(connection)

    def frame(self, data: bytes) -> None:
        self._session.received(data)

    def closed(self, reason: str) -> None:
        self._session.closed(reason)


_HEARTBEAT = messages.encode(messages.Heartbeat())
