"""The benchmark's children: managers and simulated nodes, and what they use."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from skep.cli.bench.report import ManagerUse
from skep.cli.simulate import Report, SimulationPlan, command_of
from skep.client.api import ApiClient, ApiError
from skep.runtime.errors import SkepError, Unavailable

UP_S = 30.0  # until a daemon answers: one that comes back reads its store first
JOIN_S = 60.0  # until a new manager is reachable: etcd gives it a copy, then its vote
END_S = 15.0
REPORT_S = 60.0  # until simulated nodes have said what they run: a busy process answers late
POLL_S = 0.02


class BenchManager:
    """One skepd with its etcd."""

    def __init__(self, directory: Path, number: int, etcd: str) -> None:
        self.used = ManagerUse(f"manager{number}")
        self.address = f"127.0.0.1:{_free_port()}"
        self._dir = directory / f"m{number}"
        self._etcd_program = etcd
        self._child: asyncio.subprocess.Process | None = None
        self._handles: list[psutil.Process] = []  # skepd and, once there is one, its etcd
        self._before = (0.0, 0.0)  # CPU of lives that ended
        self.api = ApiClient(f"unix://{directory}/m{number}.sock")
        self._host = f"unix://{directory}/m{number}.sock"

    @property
    def lives(self) -> bool:
        return self._child is not None and self._child.returncode is None

    @property
    def etcd_pid(self) -> int:
        return self._handles[1].pid if len(self._handles) > 1 else 0

    async def start(self) -> None:
        """Errors: `Unavailable`."""
        self._child = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("skepd"),
            f"--name={self.used.name}",
            f"--state-dir={self._dir}",
            f"--host={self._host}",
            "--engine=simulated",
            f"--etcd={self._etcd_program}",
            "--log-level=error",
            stdin=asyncio.subprocess.DEVNULL,
        )
        await self.api.wait_up(UP_S)
        self.find_etcd()

    def find_etcd(self) -> None:
        """A daemon has an etcd once it is a manager."""
        assert self._child is not None
        skepd = psutil.Process(self._child.pid)
        self._handles = [skepd, *(c for c in skepd.children() if c.name() == "etcd")][:2]

    async def kill(self) -> None:
        """Both at once, as if the machine were gone."""
        assert self._child is not None
        self.sample()
        self._before = (self.used.cpu_s, self.used.etcd_cpu_s)
        for handle in self._handles:
            with contextlib.suppress(psutil.Error):
                handle.send_signal(signal.SIGKILL)
        await self._child.wait()
        self._handles = []

    def sample(self) -> None:
        """Takes what it has used until now into `used`."""
        used = self.used
        cpu = [_cpu_s(handle) for handle in self._handles] + [0.0, 0.0]
        rss = [_rss_mb(handle) for handle in self._handles] + [0.0, 0.0]
        used.cpu_s = round(max(used.cpu_s, self._before[0] + cpu[0]), 2)
        used.etcd_cpu_s = round(max(used.etcd_cpu_s, self._before[1] + cpu[1]), 2)
        used.rss_mb, used.etcd_rss_mb = max(used.rss_mb, rss[0]), max(used.etcd_rss_mb, rss[1])
        if len(self._handles) > 1:
            with contextlib.suppress(psutil.Error):
                used.etcd_write_mb = round(self._handles[1].io_counters().write_bytes / 1e6, 1)

    async def standbys(self) -> int:
        """Returns how many connections of nodes wait for it to lead. Errors: `ApiError`, `Unavailable`."""
        for line in (await self.api.raw("GET", "/metrics")).decode().splitlines():
            name, _, value = line.partition(" ")
            if name == "skep_connections_standby":
                return int(float(value))
        return 0

    async def end(self) -> None:
        await self.api.close()
        if self._child is not None:
            await _end(self._child)


class BenchManagers:
    """All managers of the swarm; whoever lives is asked."""

    def __init__(self, directory: Path, count: int, etcd: str) -> None:
        self.all = [BenchManager(directory, n, etcd) for n in range(count)]
        self.token = ""

    @property
    def addresses(self) -> list[str]:
        return [manager.address for manager in self.all]

    async def start(self) -> None:
        """Founds the swarm; the others join it as managers. Errors: `Unavailable`, `ApiError`."""
        first, *others = self.all
        await first.start()
        await first.api.json("POST", "/swarm/init", _own(first))
        first.find_etcd()
        tokens = (await first.api.json("GET", "/swarm"))["JoinTokens"]
        self.token = tokens["Worker"]
        for count, manager in enumerate(others, 2):
            await manager.start()
            joining = {**_own(manager), "RemoteAddrs": [first.address], "JoinToken": tokens["Manager"]}
            await manager.api.json("POST", "/swarm/join", joining)
            await self.wait_reachable(count)
            manager.find_etcd()

    async def wait_reachable(self, count: int) -> None:
        """Waits until so many managers can be reached. Errors: `Unavailable`."""
        deadline = time.monotonic() + JOIN_S
        while True:
            nodes = await self.json("GET", "/nodes?filters=" + '{"role":["manager"]}')
            states = [(node.get("ManagerStatus") or {}).get("Reachability") for node in nodes]
            if states.count("reachable") >= count:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"after {JOIN_S:.0f} s the managers are {states}")
            await asyncio.sleep(POLL_S)

    async def json(self, method: str, path: str, body: object = None) -> Any:
        content = await self.raw(method, path, body)
        return msgspec.json.decode(content) if content.strip() else None

    async def raw(self, method: str, path: str, body: object = None) -> bytes:
        """Asks the first that answers. Errors: `ApiError`, `Unavailable` where none does."""
        error: SkepError = Unavailable("no manager lives")
        for manager in self.all:
            if manager.lives:
                try:
                    return await manager.api.raw(method, path, body)
                except Unavailable as unavailable:
                    error = unavailable
        raise error

    async def stats(self) -> dict[str, Any]:
        """The leader's, whoever passes it on. Errors: as `raw`."""
        found = await self.json("GET", "/skep/v1/stats")
        assert isinstance(found, dict)
        return found

    async def leader(self) -> BenchManager:
        """Errors: as `raw`."""
        pid = (await self.stats())["etcd_pid"]
        for manager in self.all:
            if manager.lives and manager.etcd_pid == pid:
                return manager
        raise Unavailable("another manager than this benchmark's leads")

    async def reset_stalls(self) -> None:
        for manager in self.all:
            if manager.lives:
                with contextlib.suppress(ApiError, Unavailable):
                    await manager.api.raw("POST", "/skep/v1/stats/reset")

    def sample(self) -> None:
        for manager in self.all:
            manager.sample()

    async def end(self) -> None:
        await asyncio.gather(*(manager.end() for manager in self.all))


class Agents:
    """Processes of simulated nodes."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self._children: list[tuple[asyncio.subprocess.Process, Path]] = []
        self._began = 0
        self.rss_mb = 0.0

    async def start(self, plan: SimulationPlan, first: int, count: int) -> asyncio.subprocess.Process:
        file = self._dir / f"nodes{self._began}"
        self._began += 1
        own = (f"--report={file}", "--log-level=error")  # thousands of nodes lose their manager at once
        child = await asyncio.create_subprocess_exec(
            *command_of(plan, first, count), *own, stdout=asyncio.subprocess.DEVNULL
        )
        self._children.append((child, file))
        return child

    async def report(self) -> list[Report]:
        """Asks every process that lives what its nodes do. Errors: `Unavailable` where one does not say."""
        asked = [(child, file) for child, file in self._children if child.returncode is None]
        await _exist([file for _, file in asked])  # written once when the process begins to listen
        for child, file in asked:
            file.unlink()
            child.send_signal(signal.SIGUSR1)
        await _exist([file for _, file in asked])
        return [msgspec.msgpack.decode(file.read_bytes(), type=Report) for _, file in asked]

    @property
    def cpu_s(self) -> float:
        return sum(_cpu_s(handle) for handle in self._handles())

    def sample(self) -> None:
        self.rss_mb = max(self.rss_mb, sum(_rss_mb(handle) for handle in self._handles()))

    def _handles(self) -> list[psutil.Process]:
        found = []
        for child, _ in self._children:
            with contextlib.suppress(psutil.Error):
                if child.returncode is None:
                    found.append(psutil.Process(child.pid))
        return found

    async def end(self) -> None:
        await asyncio.gather(*(_end(child) for child, _ in self._children))


async def _exist(files: list[Path]) -> None:
    deadline = time.monotonic() + REPORT_S
    while not all(file.exists() for file in files):
        if time.monotonic() > deadline:
            raise Unavailable(f"simulated nodes did not say within {REPORT_S:.0f} s what they run")
        await asyncio.sleep(POLL_S)


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), END_S)
        except TimeoutError:
            child.kill()
            await child.wait()


def _own(manager: BenchManager) -> dict[str, str]:
    return {"ListenAddr": manager.address, "AdvertiseAddr": manager.address, "Availability": "drain"}


def _cpu_s(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _rss_mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return round(int(process.memory_info().rss) / 1e6, 1)
    return 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
