"""One simulated run: a cluster, a workload and incidents from one seed; then healing, and what must be."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from typing import Any

from msgspec import Struct

from skep.agent.executor.simulated import SimulatedSettings
from skep.manager.leader import Leader
from skep.model.cluster import Cluster, SwarmSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.runtime.clock import LoopClock
from skep.runtime.errors import SkepError
from skep.runtime.ids import id_source
from skep.sim.checkers import Never, Violation, what_is_missing
from skep.sim.faults import FlakyStore, Incident, draw_incidents
from skep.sim.hosts import ManagerHost, WorkerHost
from skep.sim.loop import VirtualLoop
from skep.sim.net import Network
from skep.sim.picture import Picture
from skep.sim.workload import Workload
from skep.store import codec
from skep.store.memory import MemoryState
from skep.store.port import Member, Put

EPOCH_S = 1_700_000_000.0
CHECK_S = 0.1
CLOCK_JUMP_MAX_S = 7200.0
CONVERGE_S = 240.0  # after healing: a down node's 15 s, restart delays, updates one by one


class Options(Struct, frozen=True):
    """What a run is made of; all of it is printed, and nothing else influences it."""

    seed: int
    workers: int = 12
    managers: int = 3
    period_s: float = 180.0  # of faults and work; then everything heals
    incidents: int = 25
    steps: int = 40
    fail_rate: float = 0.02
    crash_rate_per_hour: float = 2.0


class Result(Struct, frozen=True):
    """`trace` tells what happened, in order; `digest` is of the trace and the store at the end."""

    trace: list[str]
    digest: str
    converged_s: float


def run(options: Options) -> Result:
    """Runs one seed to its end. Errors: `Violation`, `Stuck`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(Simulation(options).run())


class Simulation:
    """Begin with `run`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._rng = random.Random(options.seed)
        self._state = MemoryState()
        self._faults = FlakyStore(self._child_rng())
        self._network = Network(self._child_rng())
        self._workload = Workload(self._child_rng())
        names = [f"m{n}" for n in range(options.managers)]
        self._managers = [
            ManagerHost(
                name, self._network, names, self._state, self._faults, LoopClock(EPOCH_S), self._child_rng()
            )
            for name in names
        ]
        new_id = id_source(self._child_rng())
        self._workers = [
            WorkerHost(
                f"w{n}",
                new_id(),
                self._network,
                names,
                self._settings(),
                LoopClock(EPOCH_S),
                self._child_rng(),
            )
            for n in range(options.workers)
        ]
        self._never = Never(self._workers)
        self._trace: list[str] = []
        self._picture = Picture(self._state)
        self._hurt: dict[str, int] = {}  # host -> incidents in force; a host heals with the last of them

    @property
    def _leader(self) -> Leader | None:
        return next((m.leader for m in self._managers if m.leader is not None), None)

    async def run(self) -> Result:
        options = self._options
        self._write_first_state()
        for manager in self._managers:
            manager.start()
        for worker in self._workers:
            worker.start()
        watch = asyncio.ensure_future(self._watch())
        incidents = draw_incidents(self._child_rng(), options.incidents, options.period_s)
        works = [asyncio.ensure_future(self._suffer(incident)) for incident in incidents]
        works.append(asyncio.ensure_future(self._work()))
        try:
            await self._until(watch, asyncio.gather(*works))
            converged_s = await self._converge(watch)
        except Violation as error:
            error.trace = self._trace
            raise
        finally:
            for task in (watch, *works):
                task.cancel()
            await asyncio.gather(watch, *works, return_exceptions=True)
            for host in self._managers:
                await host.crash()
            for worker in self._workers:
                await worker.crash_daemon()
        return Result(self._trace, self._digest(), converged_s)

    async def _until(self, watch: asyncio.Future[None], work: asyncio.Future[list[None]]) -> None:
        """Waits for the work, unless the watch finds a violation first."""
        both: list[asyncio.Future[Any]] = [watch, work]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        else:
            await work

    async def _converge(self, watch: asyncio.Future[None]) -> float:
        if watch.done():
            watch.result()
        self._say("everything is healed")
        self._network.calm = True
        began = asyncio.get_running_loop().time()
        missing = ""
        while (now := asyncio.get_running_loop().time()) < began + CONVERGE_S:
            if watch.done():
                watch.result()
            missing = what_is_missing(self._look(), self._workers, self._leader)
            if not missing:
                self._say("as wanted")
                return now - began
            await asyncio.sleep(0.5)
        raise Violation(f"not within {CONVERGE_S:.0f} s after healing: {missing}")

    # Everyday

    async def _work(self) -> None:
        rng = self._child_rng()
        for _ in range(self._options.steps):
            await asyncio.sleep(rng.expovariate(self._options.steps / self._options.period_s))
            leader = self._leader
            if leader is None:
                self._say("user: no leader")
                continue
            try:
                self._say("user: " + await self._workload.step(leader))
            except SkepError as error:
                self._say(f"user: refused: {error}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._never.check(self._look(), asyncio.get_running_loop().time(), self._leader)

    def _look(self) -> Picture:
        if self._picture.revision != self._state.changed_at:
            self._picture = Picture(self._state)
        return self._picture

    # Incidents

    async def _suffer(self, incident: Incident) -> None:
        await asyncio.sleep(incident.at_s)
        kind = incident.kind
        if kind.startswith("store-"):
            await self._store_trouble(kind, incident.for_s)
        elif kind == "deposed":
            manager = next((m for m in self._managers if m.leader is not None), self._managers[0])
            self._say(f"{manager.name} is deposed")
            manager.depose()
        elif kind == "clock":
            await self._clock_trouble(incident)
        elif kind.startswith("manager"):
            manager = self._managers[incident.target % len(self._managers)]
            await self._manager_trouble(kind, manager, incident.for_s)
        else:
            worker = self._workers[incident.target % len(self._workers)]
            await self._worker_trouble(kind, worker, incident.for_s)

    async def _store_trouble(self, kind: str, for_s: float) -> None:
        self._say(f"{kind} for {for_s:.1f} s")
        faults, name = self._faults, "slow" if kind == "store-slow" else "flaky"
        setattr(faults, name, getattr(faults, name) + 1)
        await asyncio.sleep(for_s)
        setattr(faults, name, getattr(faults, name) - 1)

    async def _clock_trouble(self, incident: Incident) -> None:
        hosts: list[ManagerHost | WorkerHost] = [*self._managers, *self._workers]
        host = hosts[incident.target % len(hosts)]
        offset_s = incident.size * CLOCK_JUMP_MAX_S
        self._say(f"the clock of {host.name} jumps by {offset_s:.0f} s for {incident.for_s:.1f} s")
        host.clock.offset_s += offset_s
        await asyncio.sleep(incident.for_s)
        host.clock.offset_s -= offset_s

    async def _manager_trouble(self, kind: str, manager: ManagerHost, for_s: float) -> None:
        self._say(f"{kind} {manager.name} for {for_s:.1f} s")
        self._hurt[manager.name] = self._hurt.get(manager.name, 0) + 1
        if kind == "manager-cut":
            manager.cut()
        else:
            await manager.crash()
        await asyncio.sleep(for_s)
        self._hurt[manager.name] -= 1
        if self._hurt[manager.name] == 0:
            manager.heal()

    async def _worker_trouble(self, kind: str, worker: WorkerHost, for_s: float) -> None:
        self._say(f"{kind} {worker.name} for {for_s:.1f} s")
        self._hurt[worker.name] = self._hurt.get(worker.name, 0) + 1
        self._never.troubled[worker.name] = math.inf
        if kind == "cut":
            self._network.cut(worker.name)
        elif kind == "daemon":
            await worker.crash_daemon()
        else:
            await worker.crash_machine()
        await asyncio.sleep(for_s)
        self._hurt[worker.name] -= 1
        if self._hurt[worker.name] == 0:
            self._network.heal(worker.name)
            if worker.agent is None:
                worker.start()
            self._never.troubled[worker.name] = asyncio.get_running_loop().time()

    # Small things

    def _child_rng(self) -> random.Random:
        """A generator for each part, so that one part's draws do not shift another's."""
        return random.Random(self._rng.getrandbits(64))

    def _settings(self) -> SimulatedSettings:
        return SimulatedSettings(
            prepare_s=self._rng.uniform(0, 2),
            start_s=self._rng.uniform(0, 1),
            stop_s=self._rng.uniform(0, 3),
            fail_rate=self._options.fail_rate,
            crash_rate_per_hour=self._options.crash_rate_per_hour,
        )

    def _write_first_state(self) -> None:
        cluster = Cluster(
            id="sim",
            spec=SwarmSpec(),
            created_at=EPOCH_S,
            updated_at=EPOCH_S,
            ca_cert_pem=b"",
            ca_key_pem=b"",
            worker_token_secret="",
            manager_token_secret="",
        )
        puts = [
            Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode()),
            Put(codec.CLUSTER_KEY, codec.encode_object(cluster)),
        ]
        hosts = [(worker.node_id, worker.name, "worker") for worker in self._workers]
        hosts += [(manager.name, manager.name, "manager") for manager in self._managers]
        for node_id, name, role in hosts:
            node = Node(
                id=node_id,
                spec=NodeSpec(role=role, availability="active" if role == "worker" else "drain"),
                description=NodeDescription(hostname=name),
                created_at=EPOCH_S,
                updated_at=EPOCH_S,
            )
            puts.append(Put(codec.node_key(node.id), codec.encode_object(node)))
        self._state.write(puts)
        for n, manager in enumerate(self._managers):
            self._state.members[manager.name] = Member(n, manager.name, False)

    def _say(self, what: str) -> None:
        self._trace.append(f"{asyncio.get_running_loop().time() - 1000:8.2f}  {what}")

    def _digest(self) -> str:
        found = hashlib.sha256("\n".join(self._trace).encode())
        for pair in self._state.prefix(codec.PREFIX):
            found.update(pair.key.encode() + pair.value)
        return found.hexdigest()[:16]
