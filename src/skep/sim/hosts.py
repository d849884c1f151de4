"""Simulated machines: each runs the product's own node, and its manager where the swarm wants one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skep.agent.executor.interfaces import Action, Executor, TaskContext
from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.agent.plane import Plane
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings, Line
from skep.daemon.bootstrap import Bootstrap
from skep.daemon.manager_links import ManagerLinks
from skep.daemon.manager_runner import ManagerRunner
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import NodeState, Outside, Running
from skep.daemon.platform import ManagerParts
from skep.daemon.state import Membership
from skep.daemon.swarm_commands import SwarmCommands
from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.model.host_network import HostNetwork
from skep.model.task import TaskAddress
from skep.rpc.certificates import NodeKeys
from skep.rpc.enrol import Stayed
from skep.runtime.clock import LoopClock
from skep.runtime.errors import SkepError
from skep.sim.disk import SimKeyFiles, SimStateDir
from skep.sim.etcd import Peer
from skep.sim.etcd_line import EtcdLine
from skep.sim.loop import Place
from skep.sim.machine import SimLine, manager_parts
from skep.sim.net import Shown
from skep.sim.own_store import RESTART_S
from skep.sim.told import ToldOverlays

if TYPE_CHECKING:
    from skep.sim.world import World

T = TypeVar("T")


class Host:
    """A machine. Its containers live in the executor and outlast a crash of the daemon, not of the machine;
    its files in `directory`, and etcd's data (`peer`), outlast both. Fulfils
    `daemon.platform.HostPlatform`."""

    safe_mode = False

    def __init__(
        self,
        name: str,
        membership: Membership,
        world: World,
        settings: SimulatedSettings,
        clock: LoopClock,
        rng: random.Random,
    ) -> None:
        self.name = self.hostname = name
        self.node_id = membership.node_id
        self.ip = self.where = membership.advertise.partition(":")[0]  # its name in the network; where it is
        self.clock = clock
        self.rng = rng
        self.place = Place()
        self.peer = Peer(self.node_id, self.ip, self.place)
        self.data_keys: tuple[bytes, ...] = ()  # on its disk
        self.retired_keys: tuple[bytes, ...] = ()  # what sealed before these
        self._links: ManagerLinks | None = None  # of its latest manager
        self._shown: Shown | None = None  # the certificate of that
        self.lines: list[EtcdLine] = []  # of this life, to etcd
        self.is_up = False
        self.is_leaving = False  # also when it has left
        self.has_left = False
        self.lives = 0
        self.machines = 0  # how often it lost power, with all its containers
        self.trouble = ""  # why its daemon ended by itself
        self._remembered = membership
        self._world = world
        self._settings = settings
        self._daemon: Daemon | None = None
        self._starting: asyncio.Task[None] | None = None
        self._orders: set[asyncio.Task[Any]] = set()  # under way on this life's daemon
        self.executor = self._new_executor()
        self.told: ToldOverlays | None = None  # what its agent was told of overlay networks
        world.network.plug_in(self.ip, self.place)
        world.etcd.peers[self.node_id] = self.peer

    @property
    def directory(self) -> Path:
        return self._world.disks / self.name

    def write_first(self, keys: NodeKeys, data_key: bytes = b"") -> None:
        """What is on its disk when the run begins: a data key where it is a manager."""
        state = SimStateDir(self)
        files = SimKeyFiles(state, self)
        if data_key:
            files.take(data_key, "")
        files.save(keys)
        state.save(self._remembered)
        state.close()

    def adopt(self, node_id: str) -> None:
        """Its manager is that node: of a swarm that was restored here."""
        if node_id == self.node_id:
            return
        hosts, peers = self._world.hosts, self._world.etcd.peers
        hosts[node_id], peers[node_id] = hosts.pop(self.node_id), peers.pop(self.node_id)
        self.node_id = self.peer.node_id = node_id

    # What it is

    @property
    def state(self) -> NodeState:
        return self._daemon.runner.state if self._daemon is not None else Outside()

    @property
    def membership(self) -> Membership:
        """What it remembers; at the end, what it was."""
        state = self.state
        if not isinstance(state, Outside):
            self._remembered = state.membership
        return self._remembered

    @property
    def address(self) -> str:
        return self.membership.advertise

    @property
    def manager(self) -> ManagerRunner | None:
        state = self.state
        return state.manager if isinstance(state, Running) else None

    @property
    def agent(self) -> AgentRunner | None:
        state = self.state
        return state.agent if isinstance(state, Running) else None

    @property
    def leader(self) -> Leader | None:
        return self.manager.leader if self.manager is not None else None

    @property
    def leader_id(self) -> str:
        """Who leads, as far as this host's manager knows."""
        return self.manager.leader_id if self.manager is not None else ""

    @property
    def held(self) -> frozenset[str]:
        """Returns the ids of the secrets and configs that the node has."""
        return self.agent.worker.held if self.agent is not None else frozenset()

    @property
    def has_session(self) -> bool:
        return self.agent is not None and self.agent.session.ready.is_set()

    @property
    def commands(self) -> SwarmCommands:
        assert self._daemon is not None
        return self._daemon.commands

    @property
    def opening_keys(self) -> tuple[bytes, ...]:
        return (*self.data_keys, *(key for key in self.retired_keys if key not in self.data_keys))

    def has_keys(self, keys: tuple[bytes, ...], retired: tuple[bytes, ...]) -> None:
        """That is on the disk from now on."""
        if not keys and self.data_keys:
            self._world.seals.stolen[self.node_id] = self.opening_keys
        elif keys:
            self._world.seals.know(keys)
            self._world.seals.stolen.pop(self.node_id, None)
        self.data_keys, self.retired_keys = keys, retired

    def links_by(self, links: ManagerLinks) -> None:
        """Its manager reaches the others by these from now on."""
        self._links = links

    def shows(self, shown: Shown) -> None:
        """Its manager shows the others that certificate from now on."""
        self._shown = shown

    def is_lost(self, managers: list[str]) -> bool:
        """True when it has no session and tries none of these managers. Where it is to be one of them and has
        lost its copy of the store, nobody answers at its own address."""
        if self.agent is None:
            return False
        tried = set(self.agent.session.managers) - ({self.address} if self.manager is None else set())
        return not self.has_session and not tried & set(managers)

    def knows(self, other: Host) -> bool:
        """True where its manager knows where that one's is."""
        known = self._links.addresses.get(other.node_id, "") if self._links is not None else ""
        return known.partition(":")[0] == other.where

    def trusts(self, other: Host) -> bool:
        """True where that one's certificate is valid by this one's clock."""
        return other._shown is None or other._shown.is_in_time(self.clock.now())

    # Its life

    def do(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Has the host do something."""
        task = asyncio.get_running_loop().create_task(work, context=self.place.context())
        task.add_done_callback(_heard)
        return task

    def order(self, command: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Has its daemon do what an operator orders; a crash ends that."""
        task = self.do(command)
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return task

    async def start(self) -> None:
        """The daemon starts, on what it remembers; a machine that was paused while it was off runs."""
        self.place.release()
        self.is_up = True
        self.lives += 1
        self._world.network.switch_on(self.ip)
        self._starting = self.do(self._start())
        await asyncio.wait([self._starting])

    async def _start(self) -> None:
        """Again where it ends by itself, as systemd does."""
        while True:
            self._daemon = Daemon(self)
            try:
                await self._daemon.bootstrap.start()
                self.trouble = ""
                return
            except SkepError as error:
                self.trouble = str(error)
            await self._daemon.end()
            await asyncio.sleep(RESTART_S)

    async def crash_daemon(self) -> None:
        """SIGKILL of the daemon: connections break, containers run on."""
        await self._crash(silently=False)

    async def crash_machine(self) -> None:
        """Power is gone: nothing runs any more, and nobody is told."""
        await self._crash(silently=True)
        self.machines += 1
        self.executor = self._new_executor()

    async def _crash(self, silently: bool) -> None:
        if not self.is_up:
            return
        self.is_up = False
        self._world.network.crash(self.ip, silently)
        for line in self.lines:
            line.crash()
        self.lines = []
        self.peer.stop()
        self.place.release()
        under_way = [*self._orders, *([self._starting] if self._starting is not None else [])]
        for work in under_way:
            work.cancel()
        if under_way:
            await asyncio.wait(under_way)
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            self._remembered = daemon.remembered(self._remembered)
            await daemon.end()

    def move(self) -> None:
        """It has another address from now on."""
        before, self.where = self.where, self._world.new_ip()
        self._world.network.move(self.ip, before, self.where)

    async def leave(self) -> None:
        """`docker swarm leave --force`: it is never seen again; but who is told that the managers left behind
        could not decide any more does not force it."""
        self.is_leaving = True
        daemon = self._daemon
        assert daemon is not None
        await daemon.commands.demote_first()
        self.is_leaving = self._world.can_do_without(self)
        if not self.is_leaving:
            return
        self.has_left = True
        if self.data_keys:
            self._world.seals.stolen[self.node_id] = self.opening_keys
        await self.crash_machine()
        self.peer.clear()

    # daemon.platform.HostPlatform

    def make_executor(self) -> Executor:
        return self.executor

    def make_plane(self, node_id: str, cluster_id: str = "") -> Plane | None:
        return None

    def make_agent(
        self, settings: AgentSettings, line: Line, parts: AgentParts, owner: AgentOwner
    ) -> AgentRunner:
        agent = _Agent(settings, line, parts, owner)
        if self._world.overlays is not None:
            self.told = agent.told = ToldOverlays(self.node_id, agent.session)
        return agent

    async def own_networks(self) -> list[HostNetwork]:
        return []

    def line(self, keys: NodeKeys, stayed: Stayed | None = None) -> Line:
        return SimLine(self, self._world, keys)

    async def manager_parts(
        self, membership: Membership, keys: NodeKeys, moved: Callable[[dict[str, str]], None]
    ) -> ManagerParts:
        return manager_parts(self, self._world, membership, keys, moved)

    # Inside

    def _new_executor(self) -> SimulatedExecutor:
        return _Executor(self.name, self._settings, self.rng, self.clock, self._asked)

    def _asked(self, action: Action, context: TaskContext) -> None:
        if self._world.overlays is not None:
            self._world.overlays.asked(self, action, context)


class Daemon:
    """One life of a host's daemon, on its files."""

    def __init__(self, host: Host) -> None:
        self._state = SimStateDir(host)
        self._hub = EventHub(host.clock)
        keys = SimKeyFiles(self._state, host)
        self.runner = NodeRunner(host, self._state, keys, self._hub)
        self.bootstrap = Bootstrap(self.runner, self._state, keys)
        self.commands = SwarmCommands(self.runner, self.bootstrap, self._state.path)

    def remembered(self, before: Membership) -> Membership:
        """Returns what is on the disk."""
        return self._state.load() or before

    async def end(self) -> None:
        """It was killed, or has ended: nothing that it still does reaches anybody."""
        if self._state.is_dead:
            return
        self._state.die()
        try:
            await self.runner.stop()
            await self.runner.leftovers.close()
        finally:
            self._state.close()


class _Agent(AgentRunner):
    """`told` keeps what it hears of overlay networks, which nothing here programs."""

    told: ToldOverlays | None = None

    def leaving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        return self.told.leaving(addresses) if self.told is not None else None


class _Executor(SimulatedExecutor):
    """`asked` hears what it is asked to do with a task."""

    def __init__(
        self,
        hostname: str,
        settings: SimulatedSettings,
        rng: random.Random,
        clock: LoopClock,
        asked: Callable[[Action, TaskContext], None],
    ) -> None:
        super().__init__(hostname, settings, rng, clock)
        self._hears = asked

    def begin(self, action: Action, context: TaskContext) -> None:
        self._hears(action, context)
        super().begin(action, context)


def _heard(task: asyncio.Task[Any]) -> None:
    """Who asked may not wait for it any more: its error is nobody's then."""
    if not task.cancelled():
        task.exception()
