"""The leader is killed in the middle of a scale-up: when is everything there, and is anything there twice?"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

from skep.cli.bench.processes import POLL_S, BenchManager
from skep.cli.bench.report import Failover, Wanted
from skep.runtime.errors import SkepError

if TYPE_CHECKING:
    from skep.cli.bench.swarm2k import Swarm2k

JOINING = 50  # new nodes that come while nobody leads
JOINED_S = 120.0  # until the last of them must be there


class LeaderKill:
    """One step of a run. It leaves the service with all its replicas, and all managers alive."""

    def __init__(self, run: Swarm2k, wanted: Wanted) -> None:
        self._run = run
        self._wanted = wanted
        self._figures = Failover(joins_wanted=JOINING)

    async def run(self) -> None:
        """Errors: as `Swarm2k.until`."""
        run, figures, replicas = self._run, self._figures, self._wanted.replicas
        run.figures.failover = figures
        started = sum(report.started for report in await run.agents.report())
        leader = await run.managers.leader()
        await run.create()
        await run.until("half of the tasks run", lambda s: self._is_half(int(s["running"])))
        run.managers.sample()
        agents_cpu_s, cpu_s = run.agents.cpu_s, {m.used.name: m.used.cpu_s for m in run.managers.all}
        await leader.kill()
        killed = time.monotonic()
        assert run.plan is not None
        await run.agents.start(run.plan, self._wanted.nodes, JOINING)
        next_one = await self._next_leader()
        figures.api_answers_s = round(time.monotonic() - killed, 3)
        await run.until("all tasks run", lambda s: s["running"] >= replicas)
        figures.all_running_s = round(time.monotonic() - killed, 3)
        next_one.sample()
        figures.leader_cpu_s = round(next_one.used.cpu_s - cpu_s[next_one.used.name], 2)
        figures.agents_cpu_s = round(run.agents.cpu_s - agents_cpu_s, 2)
        await self._compare(started)
        await self._wait_joined()
        await self._bring_back(leader)

    def _is_half(self, running: int) -> bool:
        self._figures.running_at_kill = running
        return running >= self._wanted.replicas // 2

    async def _next_leader(self) -> BenchManager:
        while True:
            try:
                found = await self._run.managers.leader()
            except SkepError:
                await asyncio.sleep(POLL_S)
            else:
                found.used.led = True
                return found

    async def _compare(self, started_before: int) -> None:
        """What the nodes run against what the leader says is to run."""
        figures, replicas = self._figures, self._wanted.replicas
        reports = await self._run.agents.report()
        slots = {task["ID"]: task.get("Slot", 0) for task in await self._run.managers.json("GET", "/tasks")}
        running = [task_id for report in reports for task_id in report.running]
        counts = Counter(slots[task_id] for task_id in running if task_id in slots)
        figures.running_twice = sum(count - 1 for count in counts.values())
        figures.lost = sum(1 for slot in range(1, replicas + 1) if slot not in counts)
        figures.unknown = sum(1 for task_id in running if task_id not in slots)
        figures.started_again = sum(report.started for report in reports) - started_before - replicas

    async def _wait_joined(self) -> None:
        deadline = time.monotonic() + JOINED_S
        figures = self._figures
        while True:
            took = (await self._run.agents.report())[-1].joins_s
            figures.joins_done = len(took)
            if len(took) >= JOINING or time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
        if took:
            figures.join_median_s, figures.join_max_s = round(statistics.median(took), 3), round(max(took), 3)

    async def _bring_back(self, killed: BenchManager) -> None:
        began = time.monotonic()
        await killed.start()
        await self._run.managers.wait_reachable(self._wanted.managers)
        killed.find_etcd()
        self._figures.manager_back_s = round(time.monotonic() - began, 3)
        ready = self._wanted.nodes + JOINING + self._wanted.managers
        await self._run.until("all nodes are ready", lambda s: s["nodes"].get("ready", 0) >= ready)
