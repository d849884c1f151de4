"""Simulated machines: each a node with the real agent, and a manager while the swarm wants it to be one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from skep.agent.executor.interfaces import Action, TaskContext
from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings
from skep.daemon.role_keeper import RoleKeeper
from skep.daemon.state import Membership
from skep.daemon.swarm_commands import DEMOTE_S
from skep.manager.leader import Leader
from skep.model.node import NodeDescription
from skep.model.task import TaskAddress
from skep.rpc.certificates import NodeKeys
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.messages import DataKeys, HasDataKeys, Role
from skep.rpc.messages.data_keys import digests_of
from skep.runtime.clock import LoopClock
from skep.runtime.errors import SkepError, Unavailable
from skep.runtime.ids import id_source
from skep.sim.etcd import Peer
from skep.sim.loop import Place
from skep.sim.manager import SimManager
from skep.sim.sealing import DISK_S
from skep.sim.told import ToldOverlays

if TYPE_CHECKING:
    from skep.sim.world import World

T = TypeVar("T")


class Host(AgentOwner):
    """A machine. Its containers live in the executor and outlast a crash of the daemon, not of the machine;
    `membership` and etcd's data (`peer`) outlast both. Fulfils `role_keeper.Node`."""

    def __init__(
        self,
        name: str,
        membership: Membership,
        world: World,
        settings: SimulatedSettings,
        clock: LoopClock,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.membership = membership
        self.data_keys: tuple[bytes, ...] = ()  # on its disk, where the store is sealed
        self.retired_keys: tuple[bytes, ...] = ()  # what sealed before these
        self.leads_keys = False
        self.node_id = membership.node_id
        self.address = membership.advertise
        self.ip = membership.advertise.partition(":")[0]
        self.clock = clock
        self.new_id = id_source(rng)
        self.place = Place()
        self.peer = Peer(self.node_id, self.ip, self.place)
        self.running_manager: SimManager | None = None
        self.is_up = False
        self.is_leaving = False  # also when it has left
        self.has_left = False
        self.lives = 0
        self.machines = 0  # how often it lost power, with all its containers
        self.keys = NodeKeys(b"", b"", b"")  # there are no certificates
        self._world = world
        self._settings = settings
        self._rng = rng
        self._role = RoleKeeper(self)
        self._agent: _Agent | None = None
        self.executor = self._new_executor()
        world.network.plug_in(self.ip, self.place)
        world.etcd.peers[self.node_id] = self.peer

    @property
    def manager(self) -> SimManager | None:
        return self.running_manager

    @property
    def leader(self) -> Leader | None:
        return self.running_manager.leader if self.running_manager is not None else None

    @property
    def leader_id(self) -> str:
        """Who leads, as far as this host's manager knows."""
        return self.running_manager.leader_id if self.running_manager is not None else ""

    @property
    def opening_keys(self) -> tuple[bytes, ...]:
        return (*self.data_keys, *(key for key in self.retired_keys if key not in self.data_keys))

    def keep_keys(self, keys: tuple[bytes, ...]) -> None:
        """As `daemon.keys.KeyFiles.keep`."""
        if self.data_keys and keys[0] != self.data_keys[0]:
            self.retired_keys = self.data_keys[:1]
        self.data_keys = keys

    def is_lost(self, managers: list[str]) -> bool:
        """True when it has no session and tries none of these managers. Where it is to be one of them and has
        lost its copy of the store, nobody answers at its own address."""
        session = self.agent.session
        tried = set(session.managers) - ({self.address} if self.running_manager is None else set())
        return not session.ready.is_set() and not tried & set(managers)

    def do(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Has the host do something."""
        task = asyncio.get_running_loop().create_task(work, context=self.place.context())
        task.add_done_callback(_heard)
        return task

    async def start(self) -> None:
        """The daemon starts, on what it remembers; a machine that was paused while it was off runs."""
        self.place.release()
        self.is_up = True
        self.lives += 1
        await self.do(self._start())

    async def _start(self) -> None:
        self._role = RoleKeeper(self)
        self.leads_keys = False
        if self.membership.role == "manager" and self.peer.member_id:
            with contextlib.suppress(Unavailable):
                await self.begin_manager()
        settings = AgentSettings(
            self.node_id,
            self.name,
            self.membership.known_managers,
            manager_addr=self.address if self.membership.role == "manager" else "",
            described=self.membership.described,
            leads=self.membership.leads,
        )
        self._agent = _Agent(settings, self, AgentParts(self.executor, self.clock, self._rng), self)
        if self._world.overlays is not None:
            self._agent.told = ToldOverlays(self.node_id, self._agent.session)
        self._agent.start()

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
        self.place.release()
        manager, self.running_manager = self.running_manager, None
        if manager is not None:
            await manager.crash()
        await self._role.stop()
        if self._agent is not None:
            agent, self._agent = self._agent, None
            await agent.stop()

    async def leave(self) -> None:
        """`docker swarm leave --force`: it is never seen again; but who is told that the managers left behind
        could not decide any more does not force it."""
        self.is_leaving = True
        manager = self.running_manager
        if manager is not None:
            try:
                async with asyncio.timeout(DEMOTE_S):
                    await self._role.demote(manager)
            except (SkepError, TimeoutError):
                pass
        self.is_leaving = self._world.can_do_without(self)
        if not self.is_leaving:
            return
        self.has_left = True
        if self._world.seals is not None and self.data_keys:
            self._world.seals.stolen[self.node_id] = self.opening_keys
        await self.crash_machine()
        self.peer.clear()

    @property
    def told(self) -> ToldOverlays | None:
        """Returns what its agent was told of overlay networks; None where it was told nothing."""
        return self._agent.told if self._agent is not None else None

    # role_keeper.Node

    @property
    def agent(self) -> _Agent:
        if self._agent is None:
            raise Unavailable("the agent has not started")
        return self._agent

    @property
    def is_misplaced(self) -> bool:
        return False

    def remember(self, membership: Membership) -> None:
        self.membership = membership

    async def end_manager(self) -> None:
        manager, self.running_manager = self.running_manager, None
        if manager is not None:
            await manager.stop()
        self.peer.clear()
        if self._world.seals is not None and self.data_keys:
            self._world.seals.stolen[self.node_id] = self.opening_keys
        self.data_keys = self.retired_keys = ()

    def take_data_key(self, data_key: bytes, unlock_key: str, older: Sequence[bytes] = ()) -> None:
        if self._world.seals is not None:
            self.data_keys, self.retired_keys = (data_key, *older), ()
            self.agent.has_data_keys(HasDataKeys(digests_of(self.data_keys)))
            self._world.seals.stolen.pop(self.node_id, None)

    async def begin_manager(self) -> None:
        """Errors: `Unavailable`."""
        manager = SimManager(self, self._world)
        await manager.start()
        self.running_manager = manager

    # Inside

    async def connect(self, address: str, handler: Handler) -> Connection:
        identity = Identity(self.node_id, "worker", "sim")
        return await self._world.network.connect(self.ip, identity, address, handler)

    async def connect_logs(self, address: str, handler: Handler) -> Connection:
        identity = Identity(self.node_id, "worker", "sim")
        return await self._world.network.connect_stream(self.ip, identity, address, handler)

    def _new_executor(self) -> SimulatedExecutor:
        return _Executor(self.name, self._settings, self._rng, self.clock, self._asked)

    def _asked(self, action: Action, context: TaskContext) -> None:
        if self._world.overlays is not None:
            self._world.overlays.asked(self, action, context)

    def managers_changed(self, managers: list[str]) -> None:
        self.remember(replace(self.membership, managers=list(managers)))

    def lead_followed(self, leads: dict[str, int]) -> None:
        self.remember(replace(self.membership, leads=leads))

    def described(self, description: NodeDescription) -> None:
        self.remember(replace(self.membership, described=description))

    def data_keys_told(self, said: DataKeys) -> None:
        self.do(self._keep(tuple(said.keys), self.lives))

    async def _keep(self, keys: tuple[bytes, ...], life: int) -> None:
        await asyncio.sleep(DISK_S)
        if not self.data_keys or self.lives != life or not self.is_up:
            return
        if self.data_keys != keys and not self.leads_keys:
            self.keep_keys(keys)
            if self.running_manager is not None:
                self.running_manager.use_data_keys()
        if self._agent is not None:
            self._agent.has_data_keys(HasDataKeys(digests_of(self.data_keys)))

    def role_told(self, role: Role) -> None:
        self._role.told(role)

    def removed(self, message: str) -> None:
        """A node that the swarm has removed; its containers end with its machine (`leave`)."""


class _Agent(AgentRunner):
    """The simulated network knows its hosts by name: there are no certificates to renew."""

    told: ToldOverlays | None = None

    def leaving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        return self.told.leaving(addresses) if self.told is not None else None

    @property
    def held(self) -> frozenset[str]:
        """Returns the ids of the secrets and configs that the node has."""
        return self.worker.held

    async def renew_as(self, role: str) -> None:
        """It is one."""


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
