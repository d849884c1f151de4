"""What is wanted of the output of tasks."""

from __future__ import annotations

from msgspec import Struct


class LogSelection(Struct, frozen=True):
    """Whose logs: a service's, or one task's. `is_raw`: it has a terminal, its lines have no frames."""

    service_id: str
    task_id: str = ""
    is_raw: bool = False


class LogOptions(Struct, frozen=True, array_like=True):
    """Which lines. `tail`: so many at the end, of each task as Docker's; -1: all."""

    follow: bool = False
    stdout: bool = True
    stderr: bool = True
    tail: int = -1
    details: bool = False
