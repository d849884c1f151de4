"""/tasks (Engine API 1.51), with the hidden `_up-to-date` that the client's progress bar polls with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiohttp import web
from msgspec import Struct

from skep.api.filters import Filters, known_values, matches_any, matches_labels, parse_filters, spec_labels
from skep.api.interfaces import SwarmNode
from skep.api.objects import TaskJson, TaskWriter
from skep.api.resolve import find_node, find_service, find_task
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply, reply_list
from skep.model.aside import SERVICE
from skep.model.states import RUNNING, STATE_NAMES
from skep.model.task import PendingTask, Task
from skep.store.view import View

FILTERS = frozenset({"id", "name", "label", "service", "node", "desired-state", "runtime", "_up-to-date"})
_DESIRED = {name: state for state, name in STATE_NAMES.items()}


class _Wanted(Struct, frozen=True):
    """The filters, with names resolved."""

    ids: list[str]
    names: list[str]
    labels: list[str]
    services: frozenset[str] | None
    nodes: frozenset[str] | None
    desired: frozenset[int] | None
    up_to_date: bool
    runtimes: list[str]


class TaskRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/tasks", self.list_all, answer=list[TaskJson], filters=FILTERS),
            LeaderRoute("GET", "/tasks/{id}", self.inspect, answer=TaskJson),
        ]

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        wanted = self._wanted(view, parse_filters(request, FILTERS))
        writer = TaskWriter(view)
        tasks, pending = list(_candidates(view, wanted)), list(_pending(view, wanted))
        if wanted.nodes is None:
            pending += _not_begun(view)

        def rows() -> Iterator[TaskJson | None]:
            for task in tasks:
                yield writer.json(task) if _fits(view, wanted, task) else None
            for waiting in pending:
                is_wanted = waiting.service_id in view.services and _fits_pending(view, wanted, waiting)
                yield writer.pending_json(waiting) if is_wanted else None

        return await reply_list(request, rows())

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        found = find_task(view, request.match_info["id"])
        writer = TaskWriter(view)
        return reply(writer.json(found) if isinstance(found, Task) else writer.pending_json(found))

    def _wanted(self, view: View, filters: Filters) -> _Wanted:
        services = nodes = desired = None
        if "service" in filters:
            services = frozenset(find_service(view, each).id for each in filters["service"])
        if "node" in filters:
            nodes = frozenset(find_node(view, each).id for each in filters["node"])
        states = known_values(filters, "desired-state", _DESIRED)
        if states:
            desired = frozenset(_DESIRED[each] for each in states)
        return _Wanted(
            ids=filters.get("id", []),
            names=filters.get("name", []),
            labels=spec_labels(filters.get("label", [])),
            services=services,
            nodes=nodes,
            desired=desired,
            up_to_date="true" in filters.get("_up-to-date", []),
            runtimes=filters.get("runtime", []),
        )


def _candidates(view: View, wanted: _Wanted) -> Iterable[Task]:
    """Walks as few tasks as the filters allow."""
    if len(wanted.ids) == 1 and wanted.ids[0] in view.tasks:
        return [view.tasks[wanted.ids[0]]]
    if wanted.nodes is not None:
        return [t for n in wanted.nodes for t in view.tasks_of_node(n)]
    if wanted.services is not None:
        return [t for s in wanted.services for t in view.tasks_of_service(s)]
    return list(view.tasks.values())


def _not_begun(view: View) -> Iterable[PendingTask]:
    """Yields a task, which is none yet, for each service that is set aside and has none: it says why."""
    for kind, service_id in view.asides:
        service = view.services.get(service_id) if kind == SERVICE else None
        if service is None or view.pending.get(service_id) or view.live.get(service_id):
            continue
        slot = 0 if service.spec.is_everywhere else 1
        yield PendingTask(service_id, service_id, slot, service.template.version, service.updated_at)


def _pending(view: View, wanted: _Wanted) -> Iterable[PendingTask]:
    if wanted.nodes is not None:  # those of global services have one
        found = ((view.pending[s].get(n), s) for s in view.pending for n in wanted.nodes)
        return [p for p, s in found if p is not None and (wanted.services is None or s in wanted.services)]
    if wanted.services is not None:
        return [p for s in wanted.services for p in view.pending.get(s, {}).values()]
    return list(view.pending_ids.values())


def _fits(view: View, wanted: _Wanted, task: Task) -> bool:
    if wanted.services is not None and task.service_id not in wanted.services:
        return False
    if wanted.desired is not None and view.desired_of(task) not in wanted.desired:
        return False
    if wanted.up_to_date:
        service = view.services.get(task.service_id)
        if service is None or view.is_outdated(service, task):
            return False
    slot: int | str = view.shown_slot(task) or task.node_id
    return _fits_common(view, wanted, task.id, task.service_id, slot)


def _fits_pending(view: View, wanted: _Wanted, task: PendingTask) -> bool:
    if wanted.desired is not None and RUNNING not in wanted.desired:
        return False
    if wanted.up_to_date:
        service = view.services.get(task.service_id)
        if service is None or task.spec_version != service.template.version:
            return False
    slot: int | str = view.shown_slot(task) or task.node_id
    return _fits_common(view, wanted, task.id, task.service_id, slot)


def _fits_common(view: View, wanted: _Wanted, task_id: str, service_id: str, slot: int | str) -> bool:
    if not matches_any(wanted.ids, task_id):
        return False
    if not (wanted.names or wanted.labels or wanted.runtimes):
        return True
    service = view.services.get(service_id)
    removed = view.removed.get(service_id)
    name = service.spec.name if service else removed.name if removed else service_id
    if not matches_any(wanted.names, f"{name}.{slot}.{task_id}"):
        return False
    if wanted.runtimes and "container" not in wanted.runtimes:
        return False
    if service is None:
        return not wanted.labels
    return matches_labels(wanted.labels, service.spec.labels)
