"""What hosts and tasks take of processors and memory, as their nodes measure it."""

from __future__ import annotations

from msgspec import Struct


class HostUsage(Struct, frozen=True, gc=False, array_like=True):
    """Of a whole host, whoever takes it: processors in use, memory that is not to be had at once (bytes), and
    the kernel's own load of the last minute."""

    cpu_cores: float
    memory_bytes: int
    load1: float


class NodeUsage(Struct, frozen=True, gc=False):
    """What a node said of its host, and when that came to the leader (seconds since the epoch)."""

    at: float
    host: HostUsage
