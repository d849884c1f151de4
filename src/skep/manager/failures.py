"""Which nodes have failed which services lately: others are preferred for a while. Pure."""

from __future__ import annotations

from collections.abc import Callable

from skep.model.task import Task

FAILURES_WINDOW_S = 300.0  # SwarmKit: a node's failures of a service count for five minutes
FAILURES_MAX = 10_000  # remembered (service, node) pairs; more means that everything fails everywhere


class Failures:
    """Of the newest version of what a service's tasks run: what another one did says nothing of it, as in
    SwarmKit (a mistyped image that was put right is spread over all nodes again)."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], tuple[int, list[float]]] = {}  # (version, when)

    def add(self, task: Task, now: float) -> None:
        """A task failed on its node."""
        key = (task.service_id, task.node_id)
        known = self._failures.get(key)
        if known is not None and known[0] >= task.spec_version:
            if known[0] == task.spec_version:
                known[1].append(now)
        elif known is not None or len(self._failures) < FAILURES_MAX:
            self._failures[key] = task.spec_version, [now]

    def counts(self, newest_of: Callable[[str], int | None]) -> dict[tuple[str, str], int]:
        """Returns how often tasks of a service failed on a node, by (service, node). `newest_of` gives the
        version that a service's tasks are to run; None: there is no such service."""
        newest = {service_id: newest_of(service_id) for service_id, _ in self._failures}
        found = self._failures.items()
        return {key: len(times) for key, (version, times) in found if version == newest[key[0]]}

    def forget_old(self, now: float) -> None:
        for key, (version, times) in list(self._failures.items()):
            recent = [t for t in times if t > now - FAILURES_WINDOW_S]
            if recent:
                self._failures[key] = version, recent
            else:
                del self._failures[key]
