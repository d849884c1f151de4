"""What takes most of a swarm's processors and memory: nodes are asked, and their answers put in order."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable

from skep.manager.dispatcher.usage import FRESH_S, UsageQuestions
from skep.manager.node_usage import NodeUsages
from skep.model.node import DOWN
from skep.model.service import Service
from skep.model.usage import (
    CPU,
    MEMORY,
    RESTARTS,
    MeasuredService,
    MeasuredServices,
    MeasuredTask,
    MeasuredTasks,
    NodesAsked,
    NodeUsage,
)
from skep.runtime.clock import Clock
from skep.store.view import View

RECENT_S = 60.0  # what a node said before is not shown as what it uses: it may have gone since
SLICE_S = 0.005  # of going through answers, before the loop goes round: 100,000 tasks take 0.1 s

_TASKS_BY: dict[str, Callable[[MeasuredTask], float]] = {
    CPU: lambda each: each.usage.cpu_cores,
    MEMORY: lambda each: each.usage.memory_bytes,
    RESTARTS: lambda each: each.task.attempt,
}
_SERVICES_BY: dict[str, Callable[[MeasuredService], float]] = {
    CPU: lambda each: each.cpu_cores,
    MEMORY: lambda each: each.memory_bytes,
    RESTARTS: lambda each: each.restarts,
}


class _Sum:
    """What the tasks of one service take."""

    __slots__ = ("cpu_cores", "memory_bytes", "restarts", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        self.cpu_cores = 0.0
        self.memory_bytes = 0
        self.restarts = 0

    def add(self, measured: MeasuredTask) -> None:
        self.tasks += 1
        self.cpu_cores += measured.usage.cpu_cores
        self.memory_bytes += measured.usage.memory_bytes
        self.restarts += measured.task.attempt


class SwarmUsage:
    """Of one leader."""

    def __init__(self, view: View, questions: UsageQuestions, known: NodeUsages, clock: Clock) -> None:
        self._clock = clock
        self._view = view
        self._questions = questions
        self._known = known

    def of(self, node_id: str) -> NodeUsage | None:
        """Returns what the node said last of its host; nobody is asked."""
        return self._known.of(node_id)

    def recent(self, node_id: str) -> NodeUsage | None:
        """Returns the same, where it still says something of now."""
        found = self._known.of(node_id)
        return found if found is not None and self._clock.now() - found.at < RECENT_S else None

    async def ask_nodes(self, age_s: float = FRESH_S) -> NodesAsked:
        """Has all nodes say how much of their hosts is used (`of`) that have not for so long."""
        return await self._questions.ask(self._expected(self._view.nodes), tasks=False, age_s=age_s)

    async def tasks(
        self, nodes: Collection[str] | None, services: Collection[str] | None, sort: str, limit: int
    ) -> MeasuredTasks:
        """Returns the tasks that take most, of these nodes and services; None is all of them. `sort` is one
        of `SORTS`."""
        ids = self._expected(self._nodes_of(services) if nodes is None else nodes)
        asked = await self._questions.ask(ids, tasks=True)
        most: list[MeasuredTask] = []
        total = 0
        async for part in self._measured(ids, services):
            total += len(part)
            most = heapq.nlargest(limit, [*most, *part], key=_TASKS_BY[sort])
        return MeasuredTasks(asked, total, most)

    async def services(self, services: Collection[str] | None, sort: str, limit: int) -> MeasuredServices:
        """Returns the services whose tasks take most together, of these; None is all of them. `sort` is one
        of `SORTS`."""
        ids = self._expected(self._nodes_of(services))
        asked = await self._questions.ask(ids, tasks=True)
        sums: dict[str, _Sum] = {}
        async for part in self._measured(ids, services):
            for each in part:
                of_service = sums.get(each.task.service_id)
                if of_service is None:
                    of_service = sums[each.task.service_id] = _Sum()
                of_service.add(each)
        wanted = self._view.services if services is None else services
        found = [_measured(s, sums.get(s.id) or _Sum()) for s in map(self._view.services.get, wanted) if s]
        return MeasuredServices(asked, len(found), heapq.nlargest(limit, found, key=_SERVICES_BY[sort]))

    def _expected(self, nodes: Iterable[str]) -> list[str]:
        """Returns those that may answer: one that is down is known to be."""
        return [id for id in nodes if id in self._view.nodes and self._view.node_state(id).state != DOWN]

    def _nodes_of(self, services: Collection[str] | None) -> Collection[str]:
        """Returns the nodes that have tasks of these services."""
        if services is None:
            return self._view.nodes
        return dict.fromkeys(task.node_id for s in services for task in self._view.tasks_of_service(s))

    async def _measured(
        self, node_ids: Iterable[str], services: Collection[str] | None
    ) -> AsyncIterator[list[MeasuredTask]]:
        """Yields the tasks that nodes have spoken of, in parts between which the loop has its turn."""
        part: list[MeasuredTask] = []
        began = time.thread_time()
        for node_id in node_ids:
            for usage in self._questions.tasks_of(node_id):
                task = self._view.tasks.get(usage.task_id)
                if task is not None and (services is None or task.service_id in services):
                    part.append(MeasuredTask(task, usage))
            if time.thread_time() - began > SLICE_S:
                yield part
                part = []
                await asyncio.sleep(0)
                began = time.thread_time()
        yield part


def _measured(service: Service, found: _Sum) -> MeasuredService:
    return MeasuredService(service, found.tasks, found.cpu_cores, found.memory_bytes, found.restarts)
