"""What the kernel's files of control groups say of a container, and of the host. Pure: texts in, numbers out.

Both versions are known; a host may have some controllers of the first and others of the second one.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

UNIFIED = ""  # what stands for the second version, where the first has a controller's name
CPU, MEMORY = "cpuacct", "memory"  # controllers of the first version


class CgroupMount(Struct, frozen=True):
    """Where a hierarchy is to be seen, and which of its directories that is (`/` but within containers)."""

    directory: str
    root: str


class CgroupPlace(Struct, frozen=True):
    """A container's directories. `is_unified`: they are the second version's, and the same."""

    cpu: str
    memory: str
    is_unified: bool


class MemoryUsed(Struct, frozen=True):
    """Bytes, without pages of files that nobody has looked at lately; 0 is no limit."""

    used_bytes: int
    limit_bytes: int


def mounts_of(mountinfo: str) -> dict[str, CgroupMount]:
    """Returns the hierarchies by controller, of `/proc/self/mountinfo`; the first mount of each counts."""
    found: dict[str, CgroupMount] = {}
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or not kinds[0].startswith("cgroup"):
            continue
        mount = CgroupMount(fields[4], fields[3])
        for controller in [UNIFIED] if kinds[0] == "cgroup2" else kinds[-1].split(","):
            found.setdefault(controller, mount)
    return found


def place_of(cgroup: str, container_id: str, mounts: dict[str, CgroupMount]) -> CgroupPlace | None:
    """Returns where the container's own files are, by `/proc/PID/cgroup` of a process of its; None where
    that is another one's by now, or this process does not see them."""
    paths: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    of_version_1 = [_directory(name, paths, container_id, mounts) for name in (CPU, MEMORY)]
    if of_version_1[0] is not None and of_version_1[1] is not None:
        return CgroupPlace(of_version_1[0], of_version_1[1], False)
    unified = _directory(UNIFIED, paths, container_id, mounts)
    return CgroupPlace(unified, unified, True) if unified is not None else None


def _directory(
    controller: str, paths: dict[str, str], container_id: str, mounts: dict[str, CgroupMount]
) -> str | None:
    """A container may have groups within its own: it is the one that its id names."""
    path, mount = paths.get(controller), mounts.get(controller)
    if path is None or mount is None or not container_id:
        return None
    before, found, after = path.partition(container_id)
    own = before + found + after.partition("/")[0]
    root = mount.root.rstrip("/")
    if not found or "/.." in own or not own.startswith(root + "/"):
        return None
    return mount.directory + own[len(root) :]


def cpu_s_of(text: str, is_unified: bool) -> float:
    """Returns the seconds of processors that were used, by `cpu.stat` or `cpuacct.usage`. Errors:
    `ValueError`, `KeyError`."""
    return _table(text)["usage_usec"] / 1e6 if is_unified else int(text) / 1e9


def memory_of(usage: str, stat: str, limit: str) -> MemoryUsed:
    """Returns what is used, as `docker stats` counts it. `limit` is the second version's `memory.max`; the
    first has it in `memory.stat`. Errors: `ValueError`, `KeyError`."""
    table = _table(stat)
    used = int(usage)
    inactive = table.get("total_inactive_file", table.get("inactive_file", 0))
    most = table.get("hierarchical_memory_limit", 0) if not limit else _limit(limit)
    return MemoryUsed(used - inactive if inactive < used else used, most)


def _limit(text: str) -> int:
    return 0 if text.strip() == "max" else int(text)


def busy_s_of(stat: str, ticks_per_s: int) -> float:
    """Returns the seconds of processors that the host has used, by `/proc/stat`. Errors: `ValueError`."""
    # What waits for disks uses none, what other machines on the same metal take is not this one's (steal),
    # and what its guests take is in the user's time.
    user, nice, system, _, _, irq, softirq = (int(each) for each in stat.partition("\n")[0].split()[1:8])
    return (user + nice + system + irq + softirq) / ticks_per_s


def host_memory_of(meminfo: str) -> tuple[int, int]:
    """Returns the bytes in use, and all there are, by `/proc/meminfo`. What files have in memory is not in
    use: the kernel gives it away (`MemAvailable`). Errors: `ValueError`, `KeyError`."""
    table = {name: value for name, _, value in (line.partition(":") for line in meminfo.splitlines())}
    total, available = (int(table[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    return max(0, total - available), total


def load_of(loadavg: str) -> float:
    """Returns the load of the last minute, by `/proc/loadavg`. Errors: `ValueError`, `IndexError`."""
    return float(loadavg.split()[0])


def counted_of(stats: dict[str, Any]) -> tuple[float, MemoryUsed]:
    """Returns the same of an engine's answer for one container (`/containers/ID/stats`): seconds of
    processors, and memory. Errors: `ValueError`, `KeyError`, `TypeError` for a container that has ended."""
    memory = stats["memory_stats"]
    table, used = memory.get("stats") or {}, int(memory["usage"])
    inactive = int(table.get("total_inactive_file", table.get("inactive_file", 0)))
    cpu_s = int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
    return cpu_s, MemoryUsed(used - inactive if inactive < used else used, int(memory.get("limit") or 0))


def _table(text: str) -> dict[str, int]:
    """Errors: `ValueError`."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}
