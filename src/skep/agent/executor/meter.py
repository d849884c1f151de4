"""What the host and its containers have used by now: read of the kernel's files, or asked of the engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.cgroups import (
    CgroupMount,
    CgroupPlace,
    MemoryUsed,
    busy_s_of,
    counted_of,
    cpu_s_of,
    host_memory_of,
    load_of,
    memory_of,
    mounts_of,
    place_of,
)
from skep.agent.executor.engine import EngineClient
from skep.agent.executor.interfaces import Counted, RunningTask, UsageReading
from skep.runtime.errors import SkepError, Unavailable

FILE_MAX_BYTES = 64 << 10  # `memory.stat` has 2 kB, `/proc/stat` 5 kB with 64 processors: its begin will do
MOUNTS_MAX_BYTES = 4 << 20  # 200 bytes a mount, and a container has two or three: 10,000 containers
# An engine's own answer takes 5 to 20 ms, and eight are asked at once: what is not said by then is left out.
STATS_MAX, STATS_S = 200, 0.8


class Meter:
    """Of one host. Where a container's files are is looked up once. Blocking, one reading at a time."""

    def __init__(self) -> None:
        self._mounts: dict[str, CgroupMount] | None = None
        self._places: dict[str, CgroupPlace] = {}  # by container, of those that were asked for last
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")

    def read(self, tasks: Sequence[RunningTask]) -> tuple[UsageReading, list[RunningTask]]:
        """Returns what there is to read, and the tasks of which nothing is. Four files a task: some 50 µs.
        Errors: `Unavailable` where the host's own files cannot be read."""
        try:
            host, load1, total = self._host()
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(f"this host does not say how much of it is used: {error}") from error
        found: dict[str, Counted] = {}
        unread: list[RunningTask] = []
        places: dict[str, CgroupPlace] = {}
        for task in tasks:
            try:
                place = places[task.container_id] = self._place(task)
                found[task.task_id] = _read(place, total)
            except (OSError, ValueError, KeyError):
                places.pop(task.container_id, None)
                unread.append(task)
        if tasks:
            self._places = places
        return UsageReading(host, load1, found), unread

    def _host(self) -> tuple[Counted, float, int]:
        at, cpu_s = time.monotonic(), busy_s_of(_text("/proc/stat"), self._ticks_per_s)
        used, total = host_memory_of(_text("/proc/meminfo"))
        return Counted(at, cpu_s, used, total), load_of(_text("/proc/loadavg")), total

    def _place(self, task: RunningTask) -> CgroupPlace:
        """Errors: `OSError`, `KeyError` where its files are not to be seen."""
        place = self._places.get(task.container_id)
        if place is None:
            if self._mounts is None:
                self._mounts = mounts_of(_text("/proc/self/mountinfo", MOUNTS_MAX_BYTES))
            if not task.pid:
                raise KeyError(task.container_id)
            place = place_of(_text(f"/proc/{task.pid}/cgroup"), task.container_id, self._mounts)
            if place is None:
                raise KeyError(task.container_id)
        return place


async def stats_of(
    engine: EngineClient, calls: EngineCalls, tasks: Sequence[RunningTask], host: Counted
) -> dict[str, Counted]:
    """Returns what the engine says of these tasks, as far as it does so soon."""
    found: dict[str, Counted] = {}

    async def ask(task: RunningTask) -> None:
        async with calls.looks.one():
            said = await engine.stats(task.container_id or task.task_id)
        if said is not None:
            cpu_s, memory = counted_of(said)
            found[task.task_id] = _counted(cpu_s, memory, host.memory_limit_bytes)

    works = [asyncio.ensure_future(ask(task)) for task in tasks[:STATS_MAX]]
    _, late = await asyncio.wait(works, timeout=STATS_S)
    for each in late:
        each.cancel()
    for said in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(said, Exception) and not isinstance(
            said, SkepError | ValueError | KeyError | TypeError
        ):
            raise said
    return found


def _read(place: CgroupPlace, total_bytes: int) -> Counted:
    """Errors: `OSError`, `ValueError`, `KeyError`."""
    if place.is_unified:
        usage, limit = _text(f"{place.memory}/memory.current"), _text(f"{place.memory}/memory.max")
        cpu = _text(f"{place.cpu}/cpu.stat")
    else:
        usage, limit = _text(f"{place.memory}/memory.usage_in_bytes"), ""
        cpu = _text(f"{place.cpu}/cpuacct.usage")
    memory = memory_of(usage, _text(f"{place.memory}/memory.stat"), limit)
    return _counted(cpu_s_of(cpu, place.is_unified), memory, total_bytes)


def _counted(cpu_s: float, memory: MemoryUsed, total_bytes: int) -> Counted:
    """A limit that the host's memory does not reach is none."""
    limit = memory.limit_bytes if memory.limit_bytes < total_bytes else 0
    return Counted(time.monotonic(), cpu_s, memory.used_bytes, limit)


def _text(path: str, max_bytes: int = FILE_MAX_BYTES) -> str:
    """Returns a file's begin. Errors: `OSError`, `ValueError` for what is no text."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts, left = [], max_bytes
        while left > 0 and (part := os.read(file, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts).decode(errors="replace")
    finally:
        os.close(file)
