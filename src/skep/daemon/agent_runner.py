"""The agent on this host: session, worker, executor."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Protocol

import structlog
from msgspec import Struct

from skep.agent.abilities import Abilities
from skep.agent.attachments import Attachments
from skep.agent.executor.interfaces import Executor
from skep.agent.lead_fence import LeadFence
from skep.agent.logs import LogSender
from skep.agent.measuring import Measuring
from skep.agent.networking import Networking
from skep.agent.own_networks import OwnNetworks
from skep.agent.plane import Plane
from skep.agent.pulse import Pulse
from skep.agent.renewal import Renewal
from skep.agent.reporter import Reporter
from skep.agent.session import Advertised, Session
from skep.agent.standbys import Standbys
from skep.agent.worker import Worker
from skep.daemon.addresses import parse_address
from skep.model.host_network import HostNetwork
from skep.model.kernel_net import Carried
from skep.model.node import NodeDescription
from skep.model.task import TaskAddress
from skep.rpc import messages
from skep.rpc.certificates import NodeKeys, identity_of
from skep.rpc.enrol import Stayed
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import connect
from skep.rpc.messages import Role
from skep.rpc.tls import client_context
from skep.runtime.clock import Clock
from skep.runtime.errors import SkepError, Unavailable
from skep.runtime.supervise import cancel_and_wait, run_forever

if TYPE_CHECKING:
    from skep.agent.naming import Naming

log = structlog.get_logger()

ENGINE_RETRY_S = 2.0  # an engine that is not there yet
# Until a node that comes back opens its session without knowing what runs there: an engine that is well has
# said it by then, and a leader waits for five seconds, in which the daemon has to start, too.
START_S = 1.0
DESCRIBE_S = 2.0  # a leader waits for a node that comes again for five seconds; a busy engine takes one


class AgentSettings(Struct, frozen=True):
    """What an agent knows of its node when it starts. `described` is what the node was when its owner heard
    of it last, before a restart: with it, the session does not wait for an engine that does not answer.
    `leads` are those that it has followed (`LeadFence`)."""

    node_id: str
    hostname: str
    managers: list[str]
    advertised: Advertised = Advertised()
    described: NodeDescription | None = None
    leads: dict[str, int] = {}


class AgentParts(Struct, frozen=True):
    """What an agent works with. `plane` programs the routing mesh and overlay networks: None where there are
    no containers to lead to, and none that would ask for names."""

    executor: Executor
    clock: Clock
    rng: random.Random
    plane: Plane | None = None


class AgentOwner:
    """Hears what an agent learns; this one keeps nothing of it."""

    def managers_changed(self, managers: list[str]) -> None:
        """Managers are reached there from now on."""

    def lead_followed(self, leads: dict[str, int]) -> None:
        """The newest leads of all histories that the node has followed."""

    def described(self, description: NodeDescription) -> None:
        """The node is this from now on."""

    def role_told(self, role: Role) -> None:
        """The swarm wants the node to act as that."""

    def data_keys_told(self, said: messages.DataKeys) -> None:
        """The swarm's managers are to have these keys."""

    def removed(self, message: str) -> None:
        """The swarm has removed this node."""


class AgentRunner:
    """`line` opens connections to managers."""

    def __init__(self, settings: AgentSettings, line: Line, parts: AgentParts, owner: AgentOwner) -> None:
        executor, plane = parts.executor, parts.plane
        self._node_id = settings.node_id
        self._line = line
        self._executor = executor
        self._clock = parts.clock
        self._rng = parts.rng
        self._owner = owner
        self._standbys = Standbys(line, parts.clock.now, parts.rng)
        self.session = Session(
            connect=self._standbys.connect,
            managers=settings.managers,
            rng=parts.rng,
            on_managers=owner.managers_changed,
            fence=LeadFence(settings.leads, owner.lead_followed),
            advertised=settings.advertised,
        )
        self.session.prefers(self._standbys.has)
        self._naming = _make_naming() if plane is not None else None
        if self._naming is not None:
            executor.use_names(self._naming)
        self._networking = Networking(self.session, plane, self._naming) if plane is not None else None
        if self._naming is not None and self._networking is not None:
            self._naming.resolve_with(self._networking.resolve)
        self._abilities = Abilities(plane) if plane is not None else None
        # Without a plane no container here has a network of the swarm's that could be in the way of the host.
        self._own_networks = OwnNetworks(self.session, look_at_host) if plane is not None else None
        self._renewal: Renewal | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._logs = LogSender(line.connect_logs, executor)
        self._reporter = Reporter(self.session)
        self.worker = Worker(
            settings.node_id, settings.hostname, executor, parts.clock, self._reporter.report, self
        )
        self._measuring = Measuring(self.session, executor.read_usage, self.worker.running)
        self._listen()
        self.attachments = Attachments(settings.node_id, self.session, executor.single)
        self._work: asyncio.Task[None] | None = None
        self._no_start = ""  # why the worker could not begin, at the latest try
        self._described = settings.described
        self._pulse = Pulse(self._ping, lambda: self.session.heartbeat_s, self.session.say_engine)

    def _listen(self) -> None:
        """Who takes what the manager says, in the order in which they hear it."""
        on = self.session.on
        on(messages.Registered, lambda said: self.worker.session_began())
        on(messages.Registered, lambda said: self._reporter.begin(self.worker.everything()))
        on(messages.Registered, lambda said: self._owner.role_told(Role(said.role, said.is_member)))
        on(messages.Role, self._owner.role_told)
        on(messages.Assign, self.worker.assign)
        on(messages.ReadLogs, lambda asked: self._logs.begin(self.session.address, asked), messages.LOGS)
        on(messages.Registered, lambda said: self._keep_standbys(said.standby))
        on(messages.HeartbeatAck, lambda said: self._keep_standbys(said.standby))
        on(messages.WantedTls, self._wanted_tls)
        on(messages.DataKeys, self._owner.data_keys_told, messages.DATA_KEYS)
        on(messages.Goodbye, self._goodbye)

    @property
    def trouble(self) -> str:
        """Returns what keeps this node from a session, for people; empty where nothing is known to."""
        return self._no_start or self.session.trouble

    def arriving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """Returns what ends when a task with these addresses may be started; None: at once."""
        return self._networking.arriving(service_id, addresses) if self._networking is not None else None

    def leaving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """Returns what ends when a task with these addresses may be told to end; None: at once."""
        return self._networking.leaving(service_id, addresses) if self._networking is not None else None

    async def carried(self) -> list[tuple[str, Carried]]:
        """Returns what this node has led to services' tasks. Errors: `Unavailable`, `Corrupt`."""
        return await self._networking.carried() if self._networking is not None else []

    def start(self) -> None:
        self._work = asyncio.ensure_future(self._run())
        if self._networking is not None:
            self._networking.start()
        if self._naming is not None:
            self._naming.start()
        if self._own_networks is not None:
            self._own_networks.start()

    def renew(self, renewed: Callable[[NodeKeys], Awaitable[None]]) -> None:
        """Keeps the line's certificate and trust as the leader wants them; `renewed` hears of changes."""
        line = self._line

        async def use(keys: NodeKeys) -> None:
            await renewed(keys)
            line.use(keys)
            self._standbys.renew()

        self._renewal = Renewal(line.keys, self._ask_renewed, use, self._clock, self._rng, self.session.send)
        self._renewing = asyncio.ensure_future(run_forever("renewal", self._renewal.run))

    async def renew_as(self, role: str) -> None:
        """Has a certificate of that role. Errors: `Unavailable` where the leader does not give one (yet)."""
        assert self._renewal is not None
        if identity_of(self._renewal.keys.certificate_pem).role == role:
            return
        await self._renewal.renew()
        if identity_of(self._renewal.keys.certificate_pem).role != role:
            raise Unavailable(f"the leader does not take this node for a {role} yet")

    def has_data_keys(self, has: messages.HasDataKeys) -> None:
        """Tells the leader, unless it is of an earlier skep, which would end the session for the word."""
        if self.session.manager_knows(messages.DATA_KEYS):
            self.session.send(has)

    async def manage(self, manager_addr: str) -> messages.Managing:
        """Asks the leader for a copy of the store. Errors: `Unavailable`, which says why not now."""
        self.session.advertise(manager_addr)
        return await self.session.ask(messages.Manage(manager_addr), messages.Managing, messages.NotNow)

    async def stop(self) -> None:
        """Ends the session; containers run on."""
        await cancel_and_wait(self._renewing)
        await cancel_and_wait(self._work)
        self.worker.close()
        if self._own_networks is not None:
            await self._own_networks.close()
        if self._networking is not None:
            await self._networking.close()
        if self._naming is not None:
            await self._naming.close()
        await self.attachments.close()
        await self._logs.close()
        await self._measuring.close()
        await self._executor.close()

    async def clear(self) -> list[str]:
        """Ends what runs here, at once: the swarm is over for this node. Returns what is still there, for
        people."""
        await cancel_and_wait(self._work)  # the manager has no say any more
        self.worker.close()
        late = await self.attachments.give_up()
        try:
            left = late + await self._executor.clear(self._node_id, sweeps=True)
        finally:  # with no engine, too: its ports would lead to tasks that are gone
            left_of_mesh = await self._networking.clear() if self._networking is not None else []
            left_of_mesh += await self._naming.clear() if self._naming is not None else []
        return left + left_of_mesh

    async def _run(self) -> None:
        starting = asyncio.ensure_future(run_forever("worker", self._start_worker, ENGINE_RETRY_S))
        beside = [starting]
        try:
            may_wait = self._described is not None and self._executor.can_freeze
            await asyncio.wait([starting], timeout=START_S if may_wait else None)
            beside.append(asyncio.ensure_future(run_forever("look", self._look_again)))
            if self._executor.can_freeze:
                beside.append(asyncio.ensure_future(run_forever("pulse", self._pulse.run)))
            await run_forever("session", lambda: self.session.run(self._describe))
        finally:
            for work in beside:
                await cancel_and_wait(work)
            await self._standbys.close()

    async def _start_worker(self) -> None:
        try:
            await self.worker.start()
        except SkepError as error:
            self._no_start = str(error)
            raise
        self._no_start = ""

    async def _ping(self, wait_s: float) -> None:
        """An engine that answers pings and does not say what runs here is of no more use than one that is
        silent: others are to do its work."""
        await self._executor.ping(wait_s)
        if not self.worker.is_started:
            raise Unavailable("the engine does not say what runs here")

    async def _look_again(self) -> None:
        """Tells the manager where the engine is not what it was: restarted, reconfigured."""
        period_s = self._executor.looks_again_s
        while period_s is not None:
            await asyncio.sleep(period_s)
            with contextlib.suppress(SkepError):
                self.attachments.look_again()
                description = await self._look_at_itself()
                if self._learn(description):
                    self.session.send(messages.Described(description))

    async def _describe(self) -> NodeDescription:
        """An engine that is being restarted, or hangs, is no reason to stay away from the manager."""
        if self._described is None:
            self._learn(await self._look_at_itself())
        elif self.worker.is_started and not self._pulse.is_in_doubt:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(DESCRIBE_S):
                    self._learn(await self._look_at_itself())
        assert self._described is not None
        return await self._with_abilities(self._described)  # a host may have been started with another kernel

    async def _look_at_itself(self) -> NodeDescription:
        return await self._with_abilities(await self._executor.describe())

    async def _with_abilities(self, description: NodeDescription) -> NodeDescription:
        return description if self._abilities is None else await self._abilities.described(description)

    def _learn(self, description: NodeDescription) -> bool:
        """Returns whether it is news."""
        if description == self._described:
            return False
        self._described = description
        self._owner.described(description)
        return True

    async def _ask_renewed(self, request_pem: bytes) -> messages.Renewed:
        return await self.session.ask(messages.Renew(request_pem), messages.Renewed)

    def _keep_standbys(self, wish: messages.StandbyWish | None) -> None:
        if self.session.is_registered:
            self._standbys.told(wish, self.session.managers, self.session.address)

    def _wanted_tls(self, wanted: messages.WantedTls) -> None:
        if self._renewal is not None:
            self._renewal.told(wanted)

    def _goodbye(self, said: messages.Goodbye) -> None:
        if said.kind == messages.REMOVED:
            self._owner.removed(said.message)


def _make_naming() -> Naming:
    """It comes with DNS's library, which only nodes with networks need."""
    from skep.agent.naming import Naming

    return Naming()


def look_at_host() -> list[HostNetwork]:
    """Returns the networks that this host has of its own. Blocking."""
    from skep.network.own_host import look

    return look()


class Line(Protocol):
    """Opens connections with the keys that it holds. Errors: `Unavailable`, `Denied`."""

    @property
    def keys(self) -> NodeKeys: ...

    def use(self, keys: NodeKeys) -> None:
        """The node's certificate or trust is new: so it is for connections opened from now on."""

    async def connect(self, address: str, handler: Handler) -> Connection: ...

    async def connect_standby(self, address: str, handler: Handler) -> Connection:
        """The same, for one that waits (`rpc.standby`). Errors: also `Unsupported`, of an earlier manager."""
        ...

    async def connect_logs(self, address: str, handler: Handler) -> Connection:
        """The same, for a connection that becomes a stream of log lines."""
        ...


class TlsLine:
    """Opens connections with the node's certificate, whichever it is at the moment; the first may be one that
    has `stayed` since the node was enrolled."""

    def __init__(self, keys: NodeKeys, stayed: Stayed | None = None) -> None:
        self._stayed: Stayed | None = None
        self.use(keys)
        self._stayed = stayed

    def use(self, keys: NodeKeys) -> None:
        if self._stayed is not None:  # it is of the certificate of before
            self._stayed.close()
        self.keys = keys
        self._context = client_context(keys)
        self._standby_context: ssl.SSLContext | None = None  # made when it is needed: 100 kB

    async def connect(self, address: str, handler: Handler) -> Connection:
        """Errors: `Unavailable`, `Denied`."""
        stayed, self._stayed = self._stayed, None
        link = stayed.take(address, handler) if stayed is not None else None
        if link is not None:
            return link
        host, port = parse_address(address)
        return await connect(host, port, self._context, handler)

    async def connect_standby(self, address: str, handler: Handler) -> Connection:
        """Errors: `Unavailable`, `Denied`, `Unsupported`."""
        host, port = parse_address(address)
        context = self._standby_context = self._standby_context or client_context(self.keys, is_standby=True)
        return await connect(host, port, context, handler, is_standby=True)

    async def connect_logs(self, address: str, handler: Handler) -> Connection:
        host, port = parse_address(address)
        return await connect(host, port, self._context, handler)
