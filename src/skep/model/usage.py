"""What hosts and tasks take of processors and memory, as their nodes measure it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from skep.model.service import Service
from skep.model.task import Task

CPU, MEMORY, RESTARTS = "cpu", "memory", "restarts"
SORTS = (CPU, MEMORY, RESTARTS)  # what tasks and services are shown by, the largest first


class HostUsage(Struct, frozen=True, gc=False, array_like=True):
    """Of a whole host, whoever takes it: processors in use, memory that is not to be had at once (bytes), and
    the kernel's own load of the last minute."""

    cpu_cores: float
    memory_bytes: int
    load1: float


class TaskUsage(Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """Of one task's container: processors in use, and memory as Docker counts it (bytes), without pages of
    files that nobody has looked at lately. `memory_limit_bytes` is 0 where it has none of its own."""

    task_id: str
    cpu_cores: float
    memory_bytes: int
    memory_limit_bytes: int = 0


class NodeUsage(Struct, frozen=True, gc=False):
    """What a node said of its host, and when that came to the leader (seconds since the epoch)."""

    at: float
    host: HostUsage


class NodesAsked(Struct, frozen=True):
    """How many nodes were to say something, and how many have."""

    nodes: int
    answered: int


class MeasuredTask(Struct, frozen=True, gc=False):
    """A task, as it is now, and what it takes."""

    task: Task
    usage: TaskUsage


class MeasuredService(Struct, frozen=True):
    """A service, and what its tasks that were measured take together; `restarts` are those of its slots."""

    service: Service
    tasks: int
    cpu_cores: float
    memory_bytes: int
    restarts: int


class MeasuredTasks(Struct, frozen=True):
    """Those that take most, in order, of `total`."""

    asked: NodesAsked
    total: int
    tasks: Sequence[MeasuredTask]


class MeasuredServices(Struct, frozen=True):
    """Those that take most, in order, of `total`."""

    asked: NodesAsked
    total: int
    services: Sequence[MeasuredService]
