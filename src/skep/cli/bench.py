"""`skep bench swarm2k`: join, create, list, lose nodes, remove; each step measured from outside.

The manager is a real `skepd` with real etcd; the nodes are real agents in processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from skep.agent.executor.simulated import SimulatedSettings
from skep.cli.client import ApiClient
from skep.cli.simulate import Plan, command_of
from skep.runtime.errors import Unavailable

POLL_S = 0.02
STEP_S = 600.0  # a step that takes longer has failed
JOINERS = 2  # processes for the nodes that stay: one core's worth, the manager has the other
IDLE_S = 10.0  # how long the swarm is left alone to see what that costs


class Wanted(Struct, frozen=True):
    """What to measure."""

    nodes: int
    replicas: int
    lost: int
    etcd: str = "etcd"


class Figures(Struct):
    """What was measured; the names are those of the JSON file."""

    join_per_s: float = 0.0
    create_to_running_s: float = 0.0
    list_tasks_s: float = 0.0
    list_tasks_mb: float = 0.0
    list_nodes_s: float = 0.0
    service_ls_s: float = 0.0
    idle_cores: float = 0.0
    detect_s: float = 0.0
    replace_s: float = 0.0
    remove_s: float = 0.0
    manager_cpu_s: float = 0.0
    create_manager_cpu_s: float = 0.0
    manager_rss_mb: float = 0.0
    etcd_cpu_s: float = 0.0
    etcd_rss_mb: float = 0.0
    etcd_write_mb: float = 0.0
    agents_cpu_s: float = 0.0
    agents_rss_mb: float = 0.0
    loop_stall_max_s: float = 0.0
    stalls_s: dict[str, float] = {}
    curve: list[tuple[float, int]] = []


class _Processes:
    """The children, and what they have used."""

    def __init__(self) -> None:
        self.manager: psutil.Process | None = None
        self.etcd: psutil.Process | None = None
        self.agents: list[asyncio.subprocess.Process] = []
        self.rss_peak: dict[str, int] = {}

    def cpu_s(self, process: psutil.Process | None) -> float:
        if process is None:
            return 0.0
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            return float(times.user + times.system)
        return 0.0

    def sample(self) -> None:
        for name, processes in (
            ("manager", [self.manager]),
            ("etcd", [self.etcd]),
            ("agents", [_process(a.pid) for a in self.agents]),
        ):
            total = 0
            for process in processes:
                if process is not None:
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_info().rss
            self.rss_peak[name] = max(self.rss_peak.get(name, 0), total)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


class Swarm2k:
    """One run."""

    def __init__(self, wanted: Wanted, directory: Path, progress: Progress) -> None:
        self._wanted = wanted
        self._dir = directory
        self._progress = progress
        self._figures = Figures()
        self._processes = _Processes()
        self._api = ApiClient(f"unix://{directory}/api.sock")
        self._skepd: asyncio.subprocess.Process | None = None
        self._plan: Plan | None = None
        self._victims: asyncio.subprocess.Process | None = None
        self._began = 0.0

    async def run(self) -> Figures:
        steps = (
            ("starting a manager", self._start),
            (f"joining {self._wanted.nodes} nodes", self._join),
            ("idle", self._idle),
            (f"creating {self._wanted.replicas} replicas", self._create),
            ("listing", self._list),
            (f"losing {self._wanted.lost} nodes", self._lose),
            ("removing the service", self._remove),
        )
        try:
            for text, step in steps:
                task = self._progress.add_task(text, total=1)
                await self._api_reset()
                await step()
                await self._note(text)
                self._progress.update(task, completed=1)
            self._collect()
            return self._figures
        finally:
            await self._end()

    async def _start(self) -> None:
        port = _free_port()
        program = Path(sys.executable).with_name("skepd")
        self._skepd = await asyncio.create_subprocess_exec(
            program,
            "--name=manager",
            f"--state-dir={self._dir}/state",
            f"--host=unix://{self._dir}/api.sock",
            "--engine=simulated",
            f"--etcd={self._wanted.etcd}",
            "--log-level=error",
            stdin=asyncio.subprocess.DEVNULL,
        )
        self._processes.manager = _process(self._skepd.pid)
        await self._api.wait_up(20)
        address = f"127.0.0.1:{port}"
        body = {"ListenAddr": address, "AdvertiseAddr": address, "Availability": "drain"}
        await self._api.json("POST", "/swarm/init", body)
        tokens = (await self._api.json("GET", "/swarm"))["JoinTokens"]
        self._plan = Plan(0, 0, address, tokens["Worker"], SimulatedSettings(), 1)
        self._processes.etcd = _process((await self._stats())["etcd_pid"])
        self._began = time.monotonic()

    async def _join(self) -> None:
        wanted, first = self._wanted, 0
        began = time.monotonic()
        staying = wanted.nodes - wanted.lost
        shares = [staying // JOINERS + (1 if n < staying % JOINERS else 0) for n in range(JOINERS)]
        for count in [*shares, wanted.lost]:
            if count:
                self._victims = await self._agents(first, count)
            first += count
        ready = wanted.nodes + 1
        await self._until("all nodes are ready", lambda s: s["nodes"].get("ready", 0) >= ready)
        # Starting Python and importing is not joining: the first node tells when it began.
        self._figures.join_per_s = round(wanted.nodes / (time.monotonic() - max(began, self._first_join)), 1)

    _first_join = 0.0

    async def _agents(self, first: int, count: int) -> asyncio.subprocess.Process:
        assert self._plan is not None
        child = await asyncio.create_subprocess_exec(
            *command_of(self._plan, first, count), stdout=asyncio.subprocess.DEVNULL
        )
        self._processes.agents.append(child)
        return child

    async def _idle(self) -> None:
        before, began = self._processes.cpu_s(self._processes.manager), time.monotonic()
        await asyncio.sleep(IDLE_S)
        used = self._processes.cpu_s(self._processes.manager) - before
        self._figures.idle_cores = round(used / (time.monotonic() - began), 3)

    async def _create(self) -> None:
        replicas = self._wanted.replicas
        before = self._processes.cpu_s(self._processes.manager)
        began = time.monotonic()
        await self._api.json(
            "POST",
            "/services/create",
            {
                "Name": "swarm2k",
                "TaskTemplate": {"ContainerSpec": {"Image": "alpine:latest", "Args": ["sleep", "1d"]}},
                "Mode": {"Replicated": {"Replicas": replicas}},
            },
        )
        await self._until("all tasks run", lambda s: s["running"] >= replicas)
        self._figures.create_to_running_s = round(time.monotonic() - began, 3)
        used = self._processes.cpu_s(self._processes.manager) - before
        self._figures.create_manager_cpu_s = round(used, 2)

    async def _list(self) -> None:
        self._figures.list_tasks_s, size = await self._timed("/tasks")
        self._figures.list_tasks_mb = round(size / 1e6, 1)
        self._figures.list_nodes_s, _ = await self._timed("/nodes")
        self._figures.service_ls_s, _ = await self._timed("/services?status=true")

    async def _lose(self) -> None:
        wanted = self._wanted
        if not wanted.lost or self._victims is None:
            return
        began = time.monotonic()
        self._victims.send_signal(signal.SIGKILL)
        await self._victims.wait()
        await self._until("all are down", lambda s: s["nodes"].get("down", 0) >= wanted.lost)
        detected = time.monotonic()
        await self._until(
            "all are placed again", lambda s: s["running"] >= wanted.replicas and not s["stranded"]
        )
        self._figures.detect_s = round(detected - began, 3)
        self._figures.replace_s = round(time.monotonic() - detected, 3)

    async def _remove(self) -> None:
        began = time.monotonic()
        await self._api.raw("DELETE", "/services/swarm2k")
        await self._until("all tasks are gone", lambda s: s["tasks"] == 0)
        self._figures.remove_s = round(time.monotonic() - began, 3)

    # Inside

    async def _stats(self) -> dict[str, Any]:
        found = await self._api.json("GET", "/skep/v1/stats")
        assert isinstance(found, dict)
        return found

    async def _until(self, what: str, test: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + STEP_S
        while True:
            stats = await self._stats()
            self._processes.sample()
            if not self._first_join and stats["nodes"].get("ready", 0) > 1:
                self._first_join = time.monotonic()
            if self._began:
                self._draw(round(time.monotonic() - self._began, 3), int(stats["running"]))
            if test(stats):
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"the benchmark waited {STEP_S:.0f} s until {what}; last: {stats}")
            await asyncio.sleep(POLL_S)

    def _draw(self, moment: float, running: int) -> None:
        """Adds a point to the curve; where nothing changes, its two ends are enough."""
        curve = self._figures.curve
        if len(curve) > 1 and curve[-1][1] == curve[-2][1] == running:
            curve.pop()
        curve.append((moment, running))

    async def _timed(self, path: str) -> tuple[float, int]:
        began = time.monotonic()
        content = await self._api.raw("GET", path)
        return round(time.monotonic() - began, 3), len(content)

    async def _api_reset(self) -> None:
        if self._plan is not None:
            await self._api.raw("POST", "/skep/v1/stats/reset")

    async def _note(self, text: str) -> None:
        stall = float((await self._stats())["loop_stall_max_s"])
        self._figures.stalls_s[text] = stall
        self._figures.loop_stall_max_s = max(self._figures.loop_stall_max_s, stall)

    def _collect(self) -> None:
        processes, figures = self._processes, self._figures
        figures.manager_cpu_s = round(processes.cpu_s(processes.manager), 2)
        figures.etcd_cpu_s = round(processes.cpu_s(processes.etcd), 2)
        agents = [processes.cpu_s(_process(a.pid)) for a in processes.agents if a.returncode is None]
        figures.agents_cpu_s = round(sum(agents), 2)
        peaks = {name: round(value / 1e6, 1) for name, value in processes.rss_peak.items()}
        figures.manager_rss_mb, figures.etcd_rss_mb = peaks["manager"], peaks["etcd"]
        figures.agents_rss_mb = peaks["agents"]
        if processes.etcd is not None:
            with contextlib.suppress(psutil.Error):
                figures.etcd_write_mb = round(processes.etcd.io_counters().write_bytes / 1e6, 1)

    async def _end(self) -> None:
        await self._api.close()
        for child in [*self._processes.agents, self._skepd]:
            if child is not None and child.returncode is None:
                child.terminate()
        for child in [*self._processes.agents, self._skepd]:
            if child is not None:
                try:
                    await asyncio.wait_for(child.wait(), 15)
                except TimeoutError:
                    child.kill()
                    await child.wait()


async def run(wanted: Wanted) -> Figures:
    """Runs the benchmark in a directory of its own, which is removed. Errors: `Unavailable`, `ApiError`."""
    directory = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            return await Swarm2k(wanted, directory, progress).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def show(figures: Figures, wanted: Wanted) -> None:
    """Prints the figures as a table."""
    table = Table(title=f"{wanted.replicas} replicas on {wanted.nodes} nodes")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in msgspec.structs.asdict(figures).items():
        if not isinstance(value, list | dict):
            table.add_row(name, f"{value:g}")
    for text, stall in figures.stalls_s.items():
        table.add_row(f"longest stall: {text} (s)", f"{stall:g}")
    Console().print(table)


def as_json(figures: Figures) -> bytes:
    return msgspec.json.format(msgspec.json.encode(figures)) + b"\n"


def plot(figures: Figures, wanted: Wanted, file: Path) -> None:
    """Draws running tasks over time. Errors: `Unavailable` where matplotlib is missing."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise Unavailable("--plot needs matplotlib: pip install 'skep[plot]'") from error
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    axes.plot([t for t, _ in figures.curve], [n for _, n in figures.curve], linewidth=1.6)
    axes.set_xlabel("seconds since the manager was up")
    axes.set_ylabel("tasks observed running")
    axes.set_title(f"{wanted.replicas:,} replicas on {wanted.nodes:,} nodes")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=130, bbox_inches="tight")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
