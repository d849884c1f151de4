"""`skep bench swarm2k`: join, create, list, kill the leader, lose nodes, remove; each measured from outside.

Managers are real `skepd`s with real etcd; the nodes are real agents in processes of their own.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from skep.agent.executor.simulated import SimulatedSettings
from skep.cli.bench.failover import LeaderKill
from skep.cli.bench.overlay import NETWORK, NetworkOfRun
from skep.cli.bench.processes import POLL_S, Agents, BenchManager, BenchManagers
from skep.cli.bench.report import Figures, Wanted
from skep.cli.simulate import SimulationPlan
from skep.client.api import ApiError
from skep.runtime.errors import Unavailable

STEP_S = 600.0  # a step that takes longer has failed
JOINERS = 2  # processes for the nodes that stay: one core's worth, the manager has the other
STANDBYS_S = 180.0  # until nodes have their standby connections: 4,600 take a minute
IDLE_S = 10.0  # how long the swarm is left alone to see what that costs
SERVICE = "swarm2k"
PORT = {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}


class Swarm2k:
    """One run."""

    def __init__(self, wanted: Wanted, directory: Path, progress: Progress) -> None:
        self._wanted = wanted
        self._progress = progress
        self.figures = Figures()
        self.managers = BenchManagers(directory, wanted.managers, wanted.etcd)
        self.agents = Agents(directory)
        self.plan: SimulationPlan | None = None
        self._network = NetworkOfRun(self) if wanted.has_network else None
        self._leader: BenchManager | None = None  # the first one, whose figures are reported
        self._victims: asyncio.subprocess.Process | None = None
        self._began = 0.0
        self._first_join = 0.0

    async def run(self) -> Figures:
        wanted = self._wanted
        several = "a manager" if wanted.managers == 1 else f"{wanted.managers} managers"
        steps = [
            (f"starting {several}", self._start),
            (f"joining {wanted.nodes} nodes", self._join),
            ("idle", self._idle),
            (f"creating {wanted.replicas} replicas", self._create),
            ("listing", self._list),
            (f"losing {wanted.lost} nodes", self._lose),
            ("removing the service", self.remove),
        ]
        if wanted.managers > 1:
            steps[2:2] = [("waiting for standby connections", self._wait_standbys)]
        if self._network is not None:
            steps[-4:-4] = [
                (f"creating {wanted.replicas} replicas without a network", self._create_without),
                ("removing them", self.remove),
            ]
        if wanted.kills_leader:
            steps[-2:-2] = [
                ("removing the service for a second one", self.remove),
                ("killing the leader", LeaderKill(self, wanted).run),
            ]
        try:
            for text, step in steps:
                task = self._progress.add_task(text, total=1)
                if self.plan is not None:
                    await self.managers.reset_stalls()
                await step()
                await self._note(text)
                self._progress.update(task, completed=1)
            self._collect()
            return self.figures
        finally:
            await self.agents.end()
            await self.managers.end()

    async def _start(self) -> None:
        await self.managers.start()
        self._leader = await self.managers.leader()
        self._leader.used.led = True
        addresses, token = tuple(self.managers.addresses), self.managers.token
        settings, wanted = SimulatedSettings(), self._wanted
        self.plan = SimulationPlan(
            0,
            0,
            addresses,
            token,
            settings,
            1,
            knows_overlays=wanted.overlay,
            knows_mesh=wanted.publish,
        )
        if self._network is not None:
            await self._network.create(wanted.overlay, wanted.publish)
        self._began = time.monotonic()

    async def _join(self) -> None:
        assert self.plan is not None
        wanted, first = self._wanted, 0
        began = time.monotonic()
        staying = wanted.nodes - wanted.lost
        shares = [staying // JOINERS + (1 if n < staying % JOINERS else 0) for n in range(JOINERS)]
        for count in [*shares, wanted.lost]:
            if count:
                self._victims = await self.agents.start(self.plan, first, count)
            first += count
        ready = wanted.nodes + wanted.managers
        await self.until("all nodes are ready", lambda s: s["nodes"].get("ready", 0) >= ready)
        # Starting Python and importing is not joining: the first node tells when it began.
        self.figures.join_per_s = round(wanted.nodes / (time.monotonic() - max(began, self._first_join)), 1)

    async def _wait_standbys(self) -> None:
        """Until every node has all that it is to have, or no more come."""
        began, wanted = time.monotonic(), (self._wanted.nodes + self._wanted.managers)
        while time.monotonic() - began < STANDBYS_S:
            found = sum([await manager.standbys() for manager in self.managers.all])
            self.figures.standbys, self.figures.standbys_s = found, round(time.monotonic() - began, 1)
            if found >= wanted * (self._wanted.managers - 1):
                break
            await asyncio.sleep(1.0)

    async def _idle(self) -> None:
        before, all_before, began = self.leader_cpu_s(), self._all_cpu_s(), time.monotonic()
        await asyncio.sleep(IDLE_S)
        used, all_used = self.leader_cpu_s() - before, self._all_cpu_s() - all_before
        passed_s = time.monotonic() - began
        self.figures.idle_cores = round(used / passed_s, 3)
        self.figures.idle_cores_sum = round(all_used / passed_s, 3)

    def _all_cpu_s(self) -> float:
        self.managers.sample()
        return sum(manager.used.cpu_s for manager in self.managers.all)

    async def _create(self) -> None:
        before, began = self.leader_cpu_s(), time.monotonic()
        self.figures.create_to_running_s = await self._create_until_running(
            self._networks, self._wanted.publish
        )
        used = self.leader_cpu_s()
        if self._network is not None:
            used = await self._network.wait_known(began)
        self.figures.create_manager_cpu_s = round(used - before, 2)

    async def _create_without(self) -> None:
        """What the service takes without a network, in the same hour on the same nodes: what a run with one
        is compared with."""
        assert self._network is not None
        before = self.leader_cpu_s()
        running_s = await self._create_until_running((), is_published=False)
        self._network.went_without(running_s, round(self.leader_cpu_s() - before, 2))

    async def _create_until_running(self, networks: Sequence[str], is_published: bool) -> float:
        replicas, began = self._wanted.replicas, time.monotonic()
        await self._create_on(networks, is_published)
        await self.until("all tasks run", lambda s: s["running"] >= replicas)
        return round(time.monotonic() - began, 3)

    async def create(self) -> None:
        """Asks for the service. Errors: `ApiError`, `Unavailable`."""
        await self._create_on(self._networks, self._wanted.publish)

    @property
    def _networks(self) -> Sequence[str]:
        return (NETWORK,) if self._wanted.overlay else ()

    async def _create_on(self, networks: Sequence[str], is_published: bool) -> None:
        body = {
            "Name": SERVICE,
            "TaskTemplate": {
                "ContainerSpec": {"Image": "alpine:latest", "Args": ["sleep", "1d"]},
                "Networks": [{"Target": each} for each in networks],
            },
            "Mode": {"Replicated": {"Replicas": self._wanted.replicas}},
            "EndpointSpec": {"Ports": [PORT] if is_published else []},
        }
        await self.managers.json("POST", "/services/create", body)

    async def _list(self) -> None:
        self.figures.list_tasks_s, size = await self._timed("/tasks")
        self.figures.list_tasks_mb = round(size / 1e6, 1)
        self.figures.list_nodes_s, _ = await self._timed("/nodes")
        self.figures.service_ls_s, _ = await self._timed("/services?status=true")

    async def _lose(self) -> None:
        wanted = self._wanted
        if not wanted.lost or self._victims is None:
            return
        began = time.monotonic()
        self._victims.send_signal(signal.SIGKILL)
        await self._victims.wait()
        await self.until("all are down", lambda s: s["nodes"].get("down", 0) >= wanted.lost)
        detected = time.monotonic()
        self.figures.detect_s = round(detected - began, 3)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wait_replaced(detected))
            if self._network is not None:
                group.create_task(self._network.wait_lost_unknown(detected))

    async def _wait_replaced(self, detected: float) -> None:
        replicas = self._wanted.replicas
        await self.until("all are placed again", lambda s: s["running"] >= replicas and not s["stranded"])
        self.figures.replace_s = round(time.monotonic() - detected, 3)

    async def remove(self) -> None:
        """Removes the service and waits until its tasks are gone; the last removal is the one reported."""
        began = time.monotonic()
        await self.managers.raw("DELETE", f"/services/{SERVICE}")
        await self.until("all tasks are gone", lambda s: s["tasks"] == 0)
        self.figures.remove_s = round(time.monotonic() - began, 3)

    async def until(self, what: str, test: Callable[[dict[str, Any]], bool]) -> None:
        """Polls the leader, whoever it is. Errors: `Unavailable` after `STEP_S`, or with no manager alive."""
        deadline = time.monotonic() + STEP_S
        last: object = None
        while True:
            try:
                last = stats = await self.managers.stats()
            except (ApiError, Unavailable) as error:
                last = error
                if not any(manager.lives for manager in self.managers.all):
                    raise
            else:
                self._look(stats)
                if test(stats):
                    return
            if time.monotonic() > deadline:
                raise Unavailable(f"the benchmark waited {STEP_S:.0f} s until {what}; last: {last}")
            await asyncio.sleep(POLL_S)

    def leader_cpu_s(self) -> float:
        """Returns what the first leader has used so far."""
        assert self._leader is not None
        self._leader.sample()
        return self._leader.used.cpu_s

    # Inside

    def _look(self, stats: dict[str, Any]) -> None:
        self.managers.sample()
        self.agents.sample()
        if not self._first_join and stats["nodes"].get("ready", 0) > self._wanted.managers:
            self._first_join = time.monotonic()
        if self._began:
            self._draw(round(time.monotonic() - self._began, 3), int(stats["running"]))

    def _draw(self, moment: float, running: int) -> None:
        """Adds a point to the curve; where nothing changes, its two ends are enough."""
        curve = self.figures.curve
        if len(curve) > 1 and curve[-1][1] == curve[-2][1] == running:
            curve.pop()
        curve.append((moment, running))

    async def _timed(self, path: str) -> tuple[float, int]:
        began = time.monotonic()
        content = await self.managers.raw("GET", path)
        return round(time.monotonic() - began, 3), len(content)

    async def _note(self, text: str) -> None:
        stall = float((await self.managers.stats())["loop_stall_max_s"])
        self.figures.stalls_s[text] = stall
        self.figures.loop_stall_max_s = max(self.figures.loop_stall_max_s, stall)

    def _collect(self) -> None:
        assert self._leader is not None
        self.managers.sample()
        figures, leader = self.figures, self._leader.used
        figures.managers = used = [manager.used for manager in self.managers.all]
        figures.manager_cpu_s, figures.manager_rss_mb = leader.cpu_s, leader.rss_mb
        figures.etcd_cpu_s, figures.etcd_rss_mb = leader.etcd_cpu_s, leader.etcd_rss_mb
        figures.etcd_write_mb = leader.etcd_write_mb
        figures.managers_cpu_sum_s = round(sum(u.cpu_s for u in used), 2)
        figures.managers_rss_sum_mb = round(sum(u.rss_mb for u in used), 1)
        figures.etcd_cpu_sum_s = round(sum(u.etcd_cpu_s for u in used), 2)
        figures.etcd_rss_sum_mb = round(sum(u.etcd_rss_mb for u in used), 1)
        figures.agents_cpu_s = round(self.agents.cpu_s, 2)
        figures.agents_rss_mb = round(self.agents.rss_mb, 1)


async def run(wanted: Wanted) -> Figures:
    """Runs the benchmark in a directory of its own, which is removed. Errors: `Unavailable`, `ApiError`."""
    directory = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            return await Swarm2k(wanted, directory, progress).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
