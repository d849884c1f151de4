"""Simulated machines: a worker with the real agent, a manager with the real candidate and leader."""

from __future__ import annotations

import asyncio
import random

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.daemon.agent_part import AgentPart
from skep.manager.candidate import Candidate
from skep.manager.events import EventHub
from skep.manager.leader import Leader, Team
from skep.model.cluster import Cluster
from skep.model.node import Node
from skep.rpc.port import Connection, Handler, Identity
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Unsupported
from skep.runtime.ids import id_source
from skep.sim.net import Network
from skep.store import codec
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore, StoreFaults


class WorkerHost:
    """A node. Its containers live in the executor and outlast a crash of the daemon, not of the machine."""

    def __init__(
        self,
        name: str,
        node_id: str,
        network: Network,
        managers: list[str],
        settings: SimulatedSettings,
        clock: LoopClock,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.node_id = node_id
        self._network = network
        self._managers = managers
        self._settings = settings
        self.clock = clock
        self._rng = rng
        self.executor = self._new_executor()
        self.agent: AgentPart | None = None
        self.removed = False

    def start(self) -> None:
        self.agent = AgentPart(
            self.node_id,
            self.name,
            self._connect,
            list(self._managers),
            self.executor,
            self.clock,
            self._rng,
            lambda managers: None,
            self._on_removed,
        )
        self.agent.start()

    async def crash_daemon(self) -> None:
        """SIGKILL of the daemon: connections break, containers run on."""
        if self.agent is not None:
            agent, self.agent = self.agent, None
            self._network.crash(self.name, silently=False)
            await agent.stop()

    async def crash_machine(self) -> None:
        """Power is gone: nothing runs any more, and nobody is told."""
        if self.agent is not None:
            agent, self.agent = self.agent, None
            self._network.crash(self.name, silently=True)
            await agent.stop()
        self.executor = self._new_executor()

    async def _connect(self, address: str, handler: Handler) -> Connection:
        identity = Identity(self.node_id, "worker", "sim")
        return await self._network.connect(self.name, identity, address, handler)

    def _new_executor(self) -> SimulatedExecutor:
        return SimulatedExecutor(self.name, self._settings, self._rng, self.clock)

    def _on_removed(self, message: str) -> None:
        self.removed = True


class ManagerHost:
    """A manager: campaigns, leads, serves sessions. All managers share one `MemoryState`, as they do etcd."""

    def __init__(
        self,
        name: str,
        network: Network,
        managers: list[str],
        state: MemoryState,
        faults: StoreFaults,
        clock: LoopClock,
        rng: random.Random,
    ) -> None:
        self.name = name
        self._network = network
        self._managers = managers
        self._state = state
        self._faults = faults
        self.clock = clock
        self._new_id = id_source(rng)
        self._store: MemoryStore | None = None
        self._candidate: Candidate | None = None
        self._work: asyncio.Task[None] | None = None

    @property
    def leader(self) -> Leader | None:
        return self._candidate.leader if self._candidate is not None else None

    def start(self) -> None:
        self._store = MemoryStore(self._state, self._faults)
        team = Team(self.name, MemoryMembers(self._store, self._state), self._probe)
        self._candidate = Candidate(
            self._store,
            self.clock,
            self._new_id,
            self._new_id,
            EventHub(self.clock),
            self._managers,
            _no_certificates,
            team,
        )
        self._network.listen(self.name, self._accept)
        self._work = asyncio.ensure_future(self._candidate.run())

    async def crash(self) -> None:
        """SIGKILL: it is silent from now on."""
        if self._work is None or self._store is None:
            return
        self._network.crash(self.name, silently=False)
        self._store.crash()
        self._candidate = None
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)
        self._work = None

    def cut(self) -> None:
        """Its cable is pulled: neither nodes nor the other managers' etcd can be reached."""
        self._network.cut(self.name)
        if self._store is not None:
            self._store.isolate()

    def heal(self) -> None:
        self._network.heal(self.name)
        if self._store is not None:
            self._store.reconnect()
        if self._candidate is None:
            self.start()

    def depose(self) -> None:
        """It loses the lead although it lives, as after a pause: another manager has ended its leadership."""
        if self.leader is not None:
            self._state.entries.pop(codec.LEADER_KEY, None)

    async def _probe(self, node_id: str) -> bool:
        return self._network.is_up(node_id)

    def _accept(self, connection: Connection) -> Handler | None:
        leader = self.leader
        return None if leader is None else leader.dispatcher.open(connection)


def _no_certificates(cluster: Cluster, node: Node, request_pem: bytes) -> bytes:
    raise Unsupported("the simulated network knows its hosts by name")
