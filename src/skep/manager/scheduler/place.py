"""Tasks to nodes, in groups of alike ones: filters once per group, then an even fill.

`Round` is one pass of the reconcile loop: groups placed later in it see what earlier ones took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from skep.model.change import NewTask, PlacementResult
from skep.model.constraint import is_spread
from skep.model.service import TaskTemplate
from skep.model.spec import TaskSpec
from skep.model.task import PendingTask, Task
from skep.store.demand import ResourceRequest
from skep.store.view import View

from . import explain
from .fill import UNLIMITED, Ints, fill
from .filters import Filters
from .nodes import Mask, NodeTable

MAX_FAILURES = 5  # SwarmKit: a node where a service failed as often lately is taken only if no other suits


class Round:
    """`now` in epoch seconds; `failures` counts recent ones by (service, node)."""

    def __init__(self, view: View, now: float, failures: Mapping[tuple[str, str], int] | None = None) -> None:
        self._view = view
        self._now = now
        self._failures = failures or {}
        self._table: NodeTable | None = None

    def place(self, wanted: Sequence[NewTask]) -> PlacementResult:
        """Returns every wanted task either placed or pending with a reason; tasks of one node adjacent."""
        if self._table is None:
            self._table = NodeTable(self._view)
        groups: dict[tuple[str, int, str, str], list[NewTask]] = {}
        for new in wanted:
            key = (new.service_id, new.spec_version, new.node_id, new.avoid_node_id)
            groups.setdefault(key, []).append(new)
        placed: list[Task] = []
        pending: list[PendingTask] = []
        for (service_id, version, node_id, avoid), tasks in groups.items():
            service = self._view.services.get(service_id)
            if service is None:
                continue  # removed meanwhile: nobody wants these any more
            template = service.template_of(version)
            demand = self._view.demand(service_id, version)
            if node_id:
                self._place_on(self._table, node_id, tasks, template, demand, placed, pending)
            else:
                self._place_group(self._table, tasks, template, demand, avoid, placed, pending)
        return PlacementResult(tuple(placed), tuple(pending))

    def _place_on(
        self,
        table: NodeTable,
        node_id: str,
        tasks: list[NewTask],
        template: TaskTemplate,
        demand: ResourceRequest,
        placed: list[Task],
        pending: list[PendingTask],
    ) -> None:
        """Tasks that belong to one node (global services)."""
        row = table.rows.get(node_id)
        for new in tasks:
            filters = Filters(table, new.service_id, template, demand)
            if row is not None and filters.capacities()[row] > 0:
                given = np.zeros(len(table.ids), dtype=np.int64)
                given[row] = 1
                table.take(new.service_id, demand, given)
                placed.append(self._task(new, node_id, demand))
            else:
                only = np.zeros(len(table.ids), dtype=bool)
                if row is not None:
                    only[row] = True
                refusals = filters.refusals(only)
                reason = explain.refused(refusals) or explain.explain(refusals)
                pending.append(pending_of(new, reason, explain.word_of(refusals)))

    def _place_group(
        self,
        table: NodeTable,
        tasks: list[NewTask],
        template: TaskTemplate,
        demand: ResourceRequest,
        avoid: str,
        placed: list[Task],
        pending: list[PendingTask],
    ) -> None:
        service_id = tasks[0].service_id
        remaining = tasks
        shunned = self._shunned(table, service_id, avoid)
        for with_shunned in (False, True):
            if not remaining or (with_shunned and not shunned.any()):
                break
            capacities = Filters(table, service_id, template, demand).capacities()
            if not with_shunned:
                capacities = np.where(shunned, 0, capacities)
            given = _spread(table, service_id, template.spec, capacities, len(remaining))
            table.take(service_id, demand, given)
            rows = np.repeat(np.arange(len(given)), given).tolist()
            ids = table.ids
            placed.extend(
                self._task(new, ids[row], demand) for new, row in zip(remaining, rows, strict=False)
            )
            remaining = remaining[len(rows) :]
        if remaining:
            refusals = Filters(table, service_id, template, demand).refusals()
            reason, word = explain.explain(refusals), explain.word_of(refusals)
            pending.extend(pending_of(new, reason, word) for new in remaining)

    def _shunned(self, table: NodeTable, service_id: str, avoid: str) -> Mask:
        mask = np.zeros(len(table.ids), dtype=bool)
        for (failed_service, node_id), count in self._failures.items():
            if failed_service == service_id and count >= MAX_FAILURES and node_id in table.rows:
                mask[table.rows[node_id]] = True
        if avoid in table.rows:
            mask[table.rows[avoid]] = True
        return mask

    def _task(self, new: NewTask, node_id: str, demand: ResourceRequest) -> Task:
        return Task(
            new.id,
            new.service_id,
            node_id,
            new.slot,
            new.spec_version,
            new.desired_state,
            new.created_at,
            self._now,
            new.run_at,
            None,
            new.attempt,
            generic=self._table.claim(node_id, demand) if self._table and demand.generic else (),
        )


def pending_of(new: NewTask, reason: str, refused_by: str) -> PendingTask:
    """Returns a task that has to wait for a node, and why: in a sentence, and in a word (`explain`)."""
    return PendingTask(
        new.id,
        new.service_id,
        new.slot,
        new.spec_version,
        new.created_at,
        reason,
        new.run_at,
        new.attempt,
        new.node_id,
        new.avoid_node_id,
        refused_by,
    )


def _spread(table: NodeTable, service_id: str, spec: TaskSpec, capacities: Ints, n: int) -> Ints:
    """Distributes over the tree of spread preferences, and evenly over the nodes of each leaf."""
    placement = spec.placement
    descriptors = [
        p.spread.spread_descriptor
        for p in (placement.preferences if placement else [])
        if p.spread and is_spread(p.spread.spread_descriptor)
    ]
    own = table.own(service_id)
    given = np.zeros(len(table.ids), dtype=np.int64)
    labels = [table.labels(descriptor) for descriptor in descriptors]
    # All nodes, full ones too: what runs on them counts for their branch, as in SwarmKit.
    rows = np.arange(len(table.ids), dtype=np.int64)
    _descend(rows, labels, own, table.tasks, capacities, n, given)
    return given


def _descend(
    rows: Ints, labels: list[list[str]], own: Ints, tasks: Ints, capacities: Ints, n: int, given: Ints
) -> None:
    if not len(rows) or n <= 0:
        return
    if not labels:
        given[rows] += fill(own[rows], capacities[rows], tasks[rows], n)
        return
    branches: dict[str, list[int]] = {}
    for row in rows.tolist():
        branches.setdefault(labels[0][row], []).append(row)
    members = [np.array(branches[value], dtype=np.int64) for value in sorted(branches)]
    counts = np.array([own[m].sum() for m in members], dtype=np.int64)
    rooms = np.array([min(int(capacities[m].sum()), UNLIMITED) for m in members], dtype=np.int64)
    ties = np.array([tasks[m].sum() for m in members], dtype=np.int64)
    for branch, share in zip(members, fill(counts, rooms, ties, n).tolist(), strict=True):
        _descend(branch, labels[1:], own, tasks, capacities, int(share), given)
