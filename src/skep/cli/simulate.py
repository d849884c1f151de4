"""`skep simulate`: thousands of real agents, each with its certificate and session, on simulated engines."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from typing import Any

import structlog
from msgspec import Struct

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.daemon.addresses import parse_address
from skep.daemon.agent_part import AgentPart
from skep.rpc.certificates import NodeKeys
from skep.rpc.enrol import enrol
from skep.rpc.link import connect
from skep.rpc.port import Connection, Handler
from skep.rpc.tls import ContextPool
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Denied, Invalid, SkepError

log = structlog.get_logger()

JOINING_MAX = 32  # nodes that enrol at once per process: keeps both ends busy without a queue of handshakes
RETRY_S = 1.0


class Plan(Struct, frozen=True):
    """Which nodes one process simulates."""

    count: int
    first: int  # number of the first node: names are sim00000, sim00001, …
    join: str
    token: str
    engine: SimulatedSettings
    seed: int


async def simulate(plan: Plan, announce: bool = True) -> None:
    """Joins all nodes and keeps them until SIGTERM or SIGINT. Errors: `Invalid`, `Denied` (bad token)."""
    gate = asyncio.Semaphore(JOINING_MAX)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    agents: list[AgentPart] = []

    async def one(number: int) -> None:
        async with gate:
            agent = await _join(plan, number)
            agents.append(agent)
            await agent.session.ready.wait()

    joining = asyncio.gather(*(one(n) for n in range(plan.first, plan.first + plan.count)))
    waiting = asyncio.ensure_future(stopped.wait())
    works: list[asyncio.Future[Any]] = [joining, waiting]
    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    if joining.done():
        joining.result()
        if announce:
            print(f"{plan.count} simulated nodes joined {plan.join}; Ctrl-C ends them", flush=True)
        await waiting
    joining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await joining
    await asyncio.gather(*(agent.stop() for agent in agents))


async def _join(plan: Plan, number: int) -> AgentPart:
    """Enrols one node, however often it takes while the manager is busy."""
    clock = SystemClock()
    rng = random.Random(plan.seed * 1_000_003 + number)
    hostname = f"sim{number:05d}"
    executor = SimulatedExecutor(hostname, plan.engine, rng, clock)
    host, port = parse_address(plan.join)
    while True:
        try:
            enrolment = await enrol(host, port, plan.token, await executor.describe(), "active", clock.now())
            break
        except (Denied, Invalid):
            raise
        except SkepError as error:
            log.warning("simulate.join_failed", node=hostname, error=str(error))
            await asyncio.sleep(RETRY_S * (0.5 + rng.random()))
    line = _PooledLine(enrolment.keys)
    agent = AgentPart(
        enrolment.node_id,
        hostname,
        line.connect,
        enrolment.managers,
        executor,
        clock,
        rng,
        lambda managers: None,
        lambda message: None,
    )
    agent.start()
    agent.renew(line, lambda keys: None)
    return agent


_contexts = ContextPool()


class _PooledLine:
    """Opens a node's connections with contexts that all nodes of this process share."""

    def __init__(self, keys: NodeKeys) -> None:
        self.keys = keys

    async def connect(self, address: str, handler: Handler) -> Connection:
        host, port = parse_address(address)
        with _contexts.lend(self.keys) as context:
            return await connect(host, port, context, handler)


async def simulate_in_processes(plan: Plan, processes: int) -> int:
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


def command_of(plan: Plan, first: int, count: int) -> list[str]:
    """Returns the command that simulates some of the plan's nodes in one process."""
    engine = plan.engine
    return [
        sys.executable,
        "-m",
        "skep.cli.main",
        "simulate",
        f"--nodes={count}",
        f"--first={first}",
        f"--join={plan.join}",
        f"--token={plan.token}",
        f"--seed={plan.seed}",
        f"--prepare-s={engine.prepare_s}",
        f"--start-s={engine.start_s}",
        f"--stop-s={engine.stop_s}",
        f"--fail-rate={engine.fail_rate}",
        f"--crash-rate={engine.crash_rate_per_hour}",
    ]
