"""What hostile connections of one kind cost a swarm: its lead, its API, its memory, a node that joins."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from skep.agent.executor.simulated import SimulatedSettings
from skep.cli.bench.processes import BenchManager, BenchManagers
from skep.cli.simulate import SimulationPlan, _join
from skep.client.api import ApiError
from skep.model.node import NodeDescription
from skep.rpc.enrol import enrol
from skep.runtime.errors import SkepError

ROOT = Path(__file__).parents[1]
ASK_S = 0.02  # between two requests of the client
JOIN_EVERY_S = 5.0
JOIN_MAX_S = 60.0  # a join that takes longer has failed
LOOK_S = 0.1
HEAD = "| kind | opened | lead | API p99 / max, ms | longest stall, ms | RSS, MB | cores | joins, s at most |"


class Trial:
    """`managers` are attacked at their leader's port."""

    def __init__(self, managers: BenchManagers, leader: BenchManager, kind: str, first: int) -> None:
        self.managers, self.leader, self.kind = managers, leader, kind
        self.asked_s: list[float] = []
        self.failed: list[str] = []
        self.joins_s: list[float] = []
        self.opened = 0
        self.rss_mb = 0.0  # what was added at most
        self.cores = 0.0
        self.stall_s = float("nan")
        self.lead = ("", "")  # who led before and after
        self._first = first  # number of the first node that joins

    @property
    def p99_s(self) -> float:
        asked = sorted(self.asked_s) or [float("nan")]
        return asked[min(len(asked) - 1, int(len(asked) * 0.99))]

    async def run(self, connections: int, time_s: float, hosts: int, keys: Path) -> None:
        assert self.leader._child is not None
        process = psutil.Process(self.leader._child.pid)
        before_mb, before_s = process.memory_info().rss / 1e6, sum(process.cpu_times()[:2])
        led = await lead_of(self.managers)
        await self.managers.reset_stalls()
        async with self._attacked(connections, hosts, keys):
            works = [asyncio.ensure_future(work) for work in (self._ask(), self._join_often())]
            end = time.monotonic() + time_s
            while time.monotonic() < end:
                self.rss_mb = max(self.rss_mb, process.memory_info().rss / 1e6 - before_mb)
                await asyncio.sleep(LOOK_S)
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        self.cores = (sum(process.cpu_times()[:2]) - before_s) / time_s
        with contextlib.suppress(ApiError, SkepError, TimeoutError):
            self.lead = (led, await asyncio.wait_for(lead_of(self.managers), 30))
            self.stall_s = float((await self.managers.stats())["loop_stall_max_s"])

    def row(self) -> str:
        """Returns the figures as a row below `HEAD`, and what failed."""
        before, after = self.lead
        lead = "kept" if before == after else f"lost ({before} -> {after})"
        asked = f"{self.p99_s * 1000:.0f} / {max(self.asked_s, default=float('nan')) * 1000:.0f}"
        joins = f"{max(self.joins_s, default=float('nan')):.2f} ({len(self.joins_s)})"
        failed = f" failed: {len(self.failed)} {sorted(set(self.failed))[:3]}" if self.failed else ""
        return (
            f"| {self.kind} | {self.opened} | {lead} | {asked} | {self.stall_s * 1000:.0f}"
            f" | {self.rss_mb:+.0f} | {self.cores:.2f} | {joins} |{failed}"
        )

    @contextlib.asynccontextmanager
    async def _attacked(self, connections: int, hosts: int, keys: Path) -> AsyncIterator[None]:
        command = [sys.executable, "-m", "tests.hostile", self.kind, self.leader.address, str(connections)]
        command += [f"--hosts={hosts}", f"--token={self.managers.token}", f"--keys={keys}"]
        hostile = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        try:
            assert hostile.stdout is not None
            assert await hostile.stdout.readline()  # it is at work
            yield
        finally:
            hostile.terminate()
            said = (await hostile.communicate())[0].split(b"\n")
            with contextlib.suppress(IndexError, ValueError):
                self.opened = int(said[-2].split()[0])

    async def _ask(self) -> None:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(30):  # not wait_for: Python 3.11's may lose a cancellation
                    await self.leader.api.json("GET", "/nodes")
            except (ApiError, SkepError, TimeoutError) as error:
                self.failed.append(f"ask: {error or type(error).__name__}"[:80])
            self.asked_s.append(time.monotonic() - began)
            await asyncio.sleep(ASK_S)

    async def _join_often(self) -> None:
        """A real agent: enrolment, then its session."""
        number = self._first
        while True:
            began = time.monotonic()
            plan = SimulationPlan(
                1, number, (self.leader.address,), self.managers.token, SimulatedSettings(), 7
            )
            agent, took_s = None, JOIN_MAX_S
            try:
                async with asyncio.timeout(JOIN_MAX_S):
                    _, agent, _ = await _join(plan, number)
                    await agent.session.ready.wait()
                took_s = time.monotonic() - began
            except (SkepError, TimeoutError) as error:
                self.failed.append(f"join: {error or type(error).__name__}"[:80])
            finally:
                if agent is not None:
                    await agent.stop()
            self.joins_s.append(took_s)
            number += 1
            await asyncio.sleep(max(0.0, JOIN_EVERY_S - (time.monotonic() - began)))


async def lead_of(managers: BenchManagers) -> str:
    """Returns who leads."""
    return (await managers.leader()).used.name


async def insider(managers: BenchManagers, leader: BenchManager, directory: Path) -> Path:
    """Enrols a node and returns the file with its certificate and key."""
    host, _, port = leader.address.rpartition(":")
    said = NodeDescription(hostname="insider")
    made = await enrol(host, int(port), managers.token, said, "drain", time.time())
    path = directory / "insider.pem"
    path.write_bytes(made.keys.certificate_pem + b"\n" + made.keys.key_pem)
    return path
