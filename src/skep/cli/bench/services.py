"""`skep bench services`: many services made by many clients at once, then one large rolling update.

Says how long the API takes to answer others meanwhile, and how much of a core the manager needs.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from skep.agent.executor.simulated import SimulatedSettings
from skep.cli.bench.processes import POLL_S, Agents, BenchManager, BenchManagers
from skep.cli.simulate import SimulationPlan
from skep.client.api import ApiClient
from skep.runtime.errors import Unavailable

STEP_S = 600.0  # a step that takes longer has failed
SECOND_NS = 1_000_000_000
PROBE_S = 0.02  # between two questions of the client that only looks: fifty users who look once a second
UPDATED = "updated"


class WantedServices(Struct, frozen=True):
    """What to measure. Containers take `engine`'s times, so that an update has something to wait for."""

    nodes: int
    services: int
    replicas: int  # of each
    clients: int
    updated: int  # replicas of the service that is updated
    parallelism: int
    etcd: str
    engine: SimulatedSettings = SimulatedSettings(prepare_s=0.2, start_s=0.3, stop_s=0.5)


class Latency(Struct, frozen=True):
    """Of one kind of request, in seconds."""

    count: int = 0
    median_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0


class ServicesFigures(Struct):
    """What was measured; the names are those of the JSON file. `cores` are CPU per wall second."""

    create_all_s: float = 0.0  # until the last client had its last answer
    create_to_running_s: float = 0.0  # until all tasks ran
    create_manager_cores: float = 0.0
    create: Latency = Latency()
    reads: dict[str, Latency] = {}
    remove_s: float = 0.0
    update_s: float = 0.0
    update_manager_cores: float = 0.0
    update_etcd_cores: float = 0.0
    update_reads: dict[str, Latency] = {}
    manager_rss_mb: float = 0.0
    stalls_s: dict[str, float] = {}  # the longest of the event loop, step by step


class ServicesBench:
    """One run."""

    def __init__(self, wanted: WantedServices, directory: Path, progress: Progress) -> None:
        self._wanted = wanted
        self._progress = progress
        self._figures = ServicesFigures()
        self._managers = BenchManagers(directory, 1, wanted.etcd)
        self._agents = Agents(directory)

    @property
    def _manager(self) -> BenchManager:
        return self._managers.all[0]

    async def run(self) -> ServicesFigures:
        wanted = self._wanted
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("starting a manager", self._managers.start),
            (f"joining {wanted.nodes} nodes", self._join),
            (f"{wanted.clients} clients create {wanted.services} services", self._create),
            ("removing them", self._remove),
            (f"updating {wanted.updated} tasks, {wanted.parallelism} at a time", self._update),
        ]
        try:
            for text, step in steps:
                task = self._progress.add_task(text, total=1)
                await step()
                self._manager.sample()
                self._figures.stalls_s[text] = float((await self._managers.stats())["loop_stall_max_s"])
                await self._managers.reset_stalls()
                self._progress.update(task, completed=1)
            self._figures.manager_rss_mb = self._manager.used.rss_mb
            return self._figures
        finally:
            await self._agents.end()
            await self._managers.end()

    async def _join(self) -> None:
        wanted = self._wanted
        plan = SimulationPlan(0, 0, (self._manager.address,), self._managers.token, wanted.engine, 1)
        await self._agents.start(plan, 0, wanted.nodes)
        await self._until("all nodes are ready", lambda s: s["nodes"].get("ready", 0) > wanted.nodes)

    async def _create(self) -> None:
        wanted, figures = self._wanted, self._figures
        numbers = iter(range(wanted.services))
        taken: list[float] = []

        async def client() -> None:
            api = ApiClient(self._manager.api.url)
            try:
                for number in numbers:
                    began = time.monotonic()
                    await api.json("POST", "/services/create", _spec(f"s{number}", wanted.replicas))
                    taken.append(time.monotonic() - began)
            finally:
                await api.close()

        async def create() -> None:
            began = time.monotonic()
            await asyncio.gather(*(client() for _ in range(wanted.clients)))
            figures.create_all_s = round(time.monotonic() - began, 3)
            await self._until("all tasks run", lambda s: s["running"] >= wanted.services * wanted.replicas)

        used = await self._watched(create, "s0", figures.reads)
        figures.create = latency(taken)
        figures.create_to_running_s, figures.create_manager_cores = used[0], used[1]

    async def _remove(self) -> None:
        began = time.monotonic()
        for number in range(self._wanted.services):
            await self._managers.raw("DELETE", f"/services/s{number}")
        await self._until("all tasks are gone", lambda s: s["tasks"] == 0)
        self._figures.remove_s = round(time.monotonic() - began, 3)

    async def _update(self) -> None:
        wanted, figures = self._wanted, self._figures
        await self._managers.json("POST", "/services/create", _spec(UPDATED, wanted.updated))
        await self._until("all tasks run", lambda s: s["running"] >= wanted.updated)

        async def update() -> None:
            service = await self._managers.json("GET", f"/services/{UPDATED}")
            spec = _spec(UPDATED, wanted.updated, "alpine:3")
            spec["UpdateConfig"] = {"Parallelism": wanted.parallelism, "Monitor": SECOND_NS}
            version = service["Version"]["Index"]
            await self._managers.json("POST", f"/services/{UPDATED}/update?version={version}", spec)
            deadline = time.monotonic() + STEP_S
            while True:
                service = await self._managers.json("GET", f"/services/{UPDATED}")
                state = (service.get("UpdateStatus") or {}).get("State")
                if state == "completed":
                    return
                if time.monotonic() > deadline or state == "paused":
                    raise Unavailable(f"the update is {state} after {STEP_S:.0f} s at most")
                await asyncio.sleep(POLL_S * 5)

        used = await self._watched(update, UPDATED, figures.update_reads)
        figures.update_s, figures.update_manager_cores, figures.update_etcd_cores = used

    # Inside

    async def _watched(
        self, work: Callable[[], Awaitable[None]], service: str, reads: dict[str, Latency]
    ) -> tuple[float, float, float]:
        """Returns how long `work` took, and the cores of manager and etcd; another client reads meanwhile."""
        manager = self._manager
        manager.sample()
        began, cpu_s, etcd_cpu_s = time.monotonic(), manager.used.cpu_s, manager.used.etcd_cpu_s
        looking = asyncio.ensure_future(self._look(service, reads))
        try:
            await work()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        manager.sample()
        took = time.monotonic() - began
        cores = [(manager.used.cpu_s - cpu_s) / took, (manager.used.etcd_cpu_s - etcd_cpu_s) / took]
        return round(took, 3), round(cores[0], 2), round(cores[1], 2)

    async def _look(self, service: str, reads: dict[str, Latency]) -> None:
        """Asks what users ask, one thing after the other, until cancelled."""
        filters = quote(json.dumps({"service": {service: True}}))
        paths = {
            "service ls": "/services?status=true",
            "service inspect": f"/services/{service}",
            "service ps": f"/tasks?filters={filters}",
            "node ls": "/nodes",
        }
        taken: dict[str, list[float]] = {name: [] for name in paths}
        api = ApiClient(self._manager.api.url)
        try:
            await asyncio.sleep(PROBE_S * 5)  # the first service has to be there
            while True:
                for name, path in paths.items():
                    began = time.monotonic()
                    await api.raw("GET", path)
                    taken[name].append(time.monotonic() - began)
                    await asyncio.sleep(PROBE_S)
        finally:
            await api.close()
            reads.update({name: latency(times) for name, times in taken.items()})

    async def _until(self, what: str, test: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + STEP_S
        while not test(stats := await self._managers.stats()):
            if time.monotonic() > deadline:
                raise Unavailable(f"the benchmark waited {STEP_S:.0f} s until {what}; last: {stats}")
            await asyncio.sleep(POLL_S)


def latency(taken: list[float]) -> Latency:
    """Returns what users feel of requests that took so many seconds each."""
    if not taken:
        return Latency()
    ranked = sorted(taken)
    rank = [ranked[int(len(ranked) * share)] for share in (0.5, 0.99)]
    return Latency(len(ranked), *(round(each, 4) for each in (*rank, ranked[-1])))


def _spec(name: str, replicas: int, image: str = "alpine:latest") -> dict[str, Any]:
    return {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": image, "Args": ["sleep", "1d"]}},
        "Mode": {"Replicated": {"Replicas": replicas}},
    }


async def run(wanted: WantedServices) -> ServicesFigures:
    """Runs it in a directory of its own, which is removed. Errors: `Unavailable`, `ApiError`."""
    directory = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            return await ServicesBench(wanted, directory, progress).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
