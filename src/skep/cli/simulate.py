"""`skep simulate`: thousands of real agents, each with its certificate and session, on simulated engines."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.agent.session import Advertised
from skep.cli.simulated_mesh import SimulatedMesh
from skep.cli.simulated_overlays import KnownByNodes, SimulatedOverlays
from skep.daemon.addresses import parse_address
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings
from skep.model.generic import resource_text
from skep.rpc.certificates import NodeKeys
from skep.rpc.enrol import Stayed, enrol
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import connect
from skep.rpc.tls import ContextPool
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Denied, Invalid, SkepError
from skep.runtime.garbage import SetAside
from skep.runtime.supervise import told_to_end

log = structlog.get_logger()

JOINING_MAX = 32  # nodes that enrol at once per process: keeps both ends busy without a queue of handshakes
RETRY_S = 1.0


class SimulationPlan(Struct, frozen=True):
    """Which nodes one process simulates."""

    count: int
    first: int  # number of the first node: names are sim00000, sim00001, …
    join: tuple[str, ...]  # managers: nodes go to them in turn, and to the next where one does not answer
    token: str
    engine: SimulatedSettings
    seed: int
    report: str = ""  # where to write a `Report` on SIGUSR1
    knows_overlays: bool = False  # whether they take in what managers say of overlay networks
    knows_mesh: bool = False  # … and of published ports


class Report(Struct, frozen=True):
    """What the nodes of one process do, by their own word, not the manager's."""

    running: list[str]  # task ids, one for each container that runs
    started: int  # containers that ever came to run
    joins_s: list[float]  # from a node's first try until its session stood
    known: KnownByNodes = msgspec.field(default_factory=KnownByNodes)  # of networks


async def simulate(plan: SimulationPlan, announce: bool = True) -> None:
    """Joins all nodes and keeps them until SIGTERM or SIGINT. Errors: `Invalid`, `Denied` (bad token)."""
    gate = asyncio.Semaphore(JOINING_MAX)
    stopped, loop = told_to_end(), asyncio.get_running_loop()
    garbage = SetAside()
    garbage.start()
    agents: list[AgentRunner] = []
    executors: list[SimulatedExecutor] = []
    networks: list[SimulatedOverlays | SimulatedMesh] = []
    joins_s: list[float] = []

    def report() -> None:
        running = [task_id for executor in executors for task_id in executor.running]
        known = KnownByNodes()
        for each in networks:
            known.add(each.known())
        started = sum(executor.started for executor in executors)
        _write_report(plan, Report(running, started, joins_s, known))

    async def one(number: int) -> None:
        async with gate:
            began = loop.time()
            executor, agent, knows = await _join(plan, number)
            executors.append(executor)
            agents.append(agent)
            networks.extend(knows)
            await agent.session.ready.wait()
            joins_s.append(round(loop.time() - began, 3))

    if plan.report:
        loop.add_signal_handler(signal.SIGUSR1, report)
        report()

    joining = asyncio.gather(*(one(n) for n in range(plan.first, plan.first + plan.count)))
    waiting = asyncio.ensure_future(stopped.wait())
    works: list[asyncio.Future[Any]] = [joining, waiting]
    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    if joining.done():
        joining.result()
        if announce:
            how = "Ctrl-C ends them, and `docker node rm` takes them away"
            print(f"{plan.count} simulated nodes joined {plan.join[0]}; {how}", flush=True)
        await waiting
    joining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await joining
    await asyncio.gather(*(agent.stop() for agent in agents))
    garbage.stop()


def _write_report(plan: SimulationPlan, report: Report) -> None:
    """The file is there once it is whole."""
    part = Path(plan.report + ".part")
    part.write_bytes(msgspec.msgpack.encode(report))
    part.rename(plan.report)


async def _join(
    plan: SimulationPlan, number: int
) -> tuple[SimulatedExecutor, AgentRunner, list[SimulatedOverlays | SimulatedMesh]]:
    """Enrols one node, however often it takes while the manager is busy."""
    clock = SystemClock()
    rng = random.Random(plan.seed * 1_000_003 + number)
    hostname = f"sim{number:05d}"
    executor = SimulatedExecutor(hostname, plan.engine, rng, clock)
    turn = number
    while True:
        host, port = parse_address(plan.join[turn % len(plan.join)])
        turn += 1
        try:
            said, now = await executor.describe(), clock.now()
            enrolment = await enrol(host, port, plan.token, said, "active", now, stays=True)
            break
        except (Denied, Invalid):
            raise
        except SkepError as error:
            log.warning("simulate.join_failed", node=hostname, error=str(error))
            await asyncio.sleep(RETRY_S * (0.5 + rng.random()))
    line = _PooledLine(enrolment.keys, enrolment.stayed)
    data_addr = _data_address(number) if plan.knows_overlays or plan.knows_mesh else ""
    settings = AgentSettings(enrolment.node_id, hostname, enrolment.managers, Advertised(data_addr=data_addr))
    agent = AgentRunner(settings, line, AgentParts(executor, clock, rng), AgentOwner())
    knows: list[SimulatedOverlays | SimulatedMesh] = []
    if plan.knows_overlays:
        knows.append(SimulatedOverlays(enrolment.node_id, agent.session))
    if plan.knows_mesh:
        knows.append(SimulatedMesh(enrolment.node_id, agent.session))
    agent.start()
    agent.renew(_keep_nothing)
    return executor, agent, knows


def _data_address(number: int) -> str:
    """Returns where a node's tunnels would end: all come from one host, and each has another's address."""
    return str(ipaddress.IPv4Address(int(ipaddress.IPv4Address("100.64.0.1")) + number))


async def _keep_nothing(keys: NodeKeys) -> None:
    """A simulated node has no disk."""


_contexts = ContextPool()
_handshakes = asyncio.Semaphore(JOINING_MAX)  # real nodes have a core each, these share one


class _PooledLine:
    """Opens a node's connections with contexts that all nodes of this process share."""

    def __init__(self, keys: NodeKeys, stayed: Stayed | None) -> None:
        self.keys = keys
        self._stayed = stayed  # since the node was enrolled

    def use(self, keys: NodeKeys) -> None:
        self.keys = keys

    async def connect(self, address: str, handler: Handler) -> Connection:
        stayed, self._stayed = self._stayed, None
        link = stayed.take(address, handler) if stayed is not None else None
        return link or await self._open(address, handler)

    async def _open(self, address: str, handler: Handler) -> Connection:
        host, port = parse_address(address)
        async with _handshakes:
            with _contexts.lend(self.keys) as context:
                return await connect(host, port, context, handler)

    async def connect_standby(self, address: str, handler: Handler) -> Connection:
        host, port = parse_address(address)
        async with _handshakes:
            with _contexts.lend(self.keys, is_standby=True) as context:
                return await connect(host, port, context, handler, is_standby=True)

    async def connect_logs(self, address: str, handler: Handler) -> Connection:
        return await self._open(address, handler)


async def simulate_in_processes(plan: SimulationPlan, processes: int) -> int:
    """Runs the plan split over several processes of this program; returns the worst exit status."""
    share = -(-plan.count // processes)
    children = []
    for start in range(0, plan.count, share):
        count = min(share, plan.count - start)
        children.append(await asyncio.create_subprocess_exec(*command_of(plan, plan.first + start, count)))
    loop = asyncio.get_running_loop()

    def end() -> None:
        for child in children:
            if child.returncode is None:
                child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    return max([abs(await child.wait()) for child in children], default=0)


def command_of(plan: SimulationPlan, first: int, count: int) -> list[str]:
    """Returns the command that simulates some of the plan's nodes in one process."""
    engine = plan.engine
    return [
        sys.executable,
        "-m",
        "skep.cli.main",
        "simulate",
        f"--nodes={count}",
        f"--first={first}",
        *(f"--join={address}" for address in plan.join),
        f"--token={plan.token}",
        f"--seed={plan.seed}",
        f"--prepare-s={engine.prepare_s}",
        f"--start-s={engine.start_s}",
        f"--stop-s={engine.stop_s}",
        f"--fail-rate={engine.fail_rate}",
        f"--crash-rate={engine.crash_rate_per_hour}",
        *(f"--generic-resource={resource_text(each)}" for each in engine.generic),
        *(f"--label={name}={value}" for name, value in engine.labels),
        *(["--overlay"] if plan.knows_overlays else []),
        *(["--publish"] if plan.knows_mesh else []),
    ]
