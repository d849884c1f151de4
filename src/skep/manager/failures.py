"""Which nodes have failed which services lately: others are preferred for a while. Pure."""

from __future__ import annotations

from skep.model.task import Task

FAILURES_WINDOW_S = 300.0  # SwarmKit: a node's failures of a service count for five minutes
FAILURES_MAX = 10_000  # remembered (service, node) pairs; more means that everything fails everywhere


class Failures:
    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], list[float]] = {}

    def add(self, task: Task, now: float) -> None:
        """A task failed on its node."""
        key = (task.service_id, task.node_id)
        if key in self._failures or len(self._failures) < FAILURES_MAX:
            self._failures.setdefault(key, []).append(now)

    def counts(self) -> dict[tuple[str, str], int]:
        """Returns how often tasks of a service failed on a node, by (service, node)."""
        return {key: len(times) for key, times in self._failures.items()}

    def forget_old(self, now: float) -> None:
        for key, times in list(self._failures.items()):
            recent = [t for t in times if t > now - FAILURES_WINDOW_S]
            if recent:
                self._failures[key] = recent
            else:
                del self._failures[key]
