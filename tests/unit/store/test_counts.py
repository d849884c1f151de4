"""What the view counts as it changes is what there is, whatever came before."""

from __future__ import annotations

import random
import timeit
from collections import Counter

import pytest
from msgspec.structs import replace

from skep.manager.metrics import view_metrics
from skep.model.node import DOWN, NodeStatus
from skep.model.service import RemovedService
from skep.model.states import COMPLETE, FAILED, PREPARING, READY, RUNNING, SHUTDOWN, STATE_NAMES
from skep.model.task import PendingTask, Task, TaskStatus
from skep.runtime.metrics import Registry
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task

NODES, SERVICES = "abcd", ("s", "t")


class Walk:
    """Changes a view at random, as leaders do."""

    def __init__(self, seed: int) -> None:
        self.view = View()
        self._rng = random.Random(seed)
        self._made = 0
        for service_id in SERVICES:
            add_service(self.view, service_id, replicas=None if service_id == "t" else 3)

    def step(self) -> None:
        self._rng.choice((self._node, self._state, self._drop_node, self._task, self._task, self._task))()
        self._rng.choice((self._observe, self._observe, self._order, self._end, self._drop, self._wait))()

    def _node(self) -> None:
        state, availability = self._rng.choice(("ready", "down")), self._rng.choice(("active", "drain"))
        add_node(self.view, self._rng.choice(NODES), state=state, availability=availability)

    def _state(self) -> None:
        if self.view.nodes:
            status = NodeStatus(self._rng.choice(("ready", "down", "unknown")))
            self.view.put_node_status(self._rng.choice(list(self.view.nodes)), status)

    def _drop_node(self) -> None:
        if self._rng.random() < 0.3:
            self.view.drop_node(self._rng.choice(NODES))

    def _task(self) -> None:
        self._made += 1
        where = self._rng.choice(NODES)
        service_id = self._rng.choice(SERVICES)
        add_task(self.view, f"k{self._made}", where, self._made, service_id=service_id, observed=None)

    def _one(self) -> Task | None:
        return self._rng.choice(list(self.view.tasks.values())) if self.view.tasks else None

    def _observe(self) -> None:
        if task := self._one():
            state = self._rng.choice((PREPARING, READY, RUNNING, COMPLETE, FAILED))
            self.view.put_status(task, TaskStatus(state, 1.0))

    def _order(self) -> None:
        if task := self._one():
            self.view.put_task(replace(task, desired_state=self._rng.choice((RUNNING, SHUTDOWN))))

    def _end(self) -> None:
        if task := self._one():
            self.view.put_task(replace(task, result=TaskStatus(FAILED, 2.0)))

    def _drop(self) -> None:
        if task := self._one():
            self.view.drop_task(task)

    def _wait(self) -> None:
        self._made += 1
        self.view.put_pending(PendingTask(f"p{self._made}", "s", self._rng.randrange(1, 4), 1, 0.0))


def counted(view: View) -> dict[str, object]:
    """The same, counted from scratch."""
    tasks, status_of = list(view.tasks.values()), view.status_of
    states = Counter(status.state_name if (status := status_of(t)) else "assigned" for t in tasks)
    states["pending"] += len(view.pending_ids)
    down = {n for n in view.nodes if view.node_state(n).state == DOWN}
    return {
        "nodes": Counter((view.node_state(n.id).state, n.spec.availability) for n in view.nodes.values()),
        "states": states,
        "desired": Counter(STATE_NAMES[t.desired_state] for t in tasks),
        "running": sum(view.running.values()),
        "running on": Counter(t.node_id for t in tasks if is_running(view, t)),
        "stranded": sum(1 for t in tasks if t.node_id in down and t.desired_state <= RUNNING),
        "modes": Counter(each.spec.mode_name for each in view.services.values()),
    }


def is_running(view: View, task: Task) -> bool:
    status = view.status_of(task)
    return task.desired_state < COMPLETE and status is not None and status.state == RUNNING


def kept(view: View) -> dict[str, object]:
    metrics = Registry(view_metrics(view))
    nodes = {tuple(s.labels.values()): s.value for s in next(iter(metrics)).samples() if s.value}
    return {
        "nodes": nodes,
        "states": without_none(metrics.by("skep_tasks", "state")),
        "desired": without_none(metrics.by("skep_tasks_desired", "state")),
        "running": metrics.total("skep_tasks_running"),
        "running on": view.running_on,
        "stranded": metrics.total("skep_tasks_stranded"),
        "modes": without_none(metrics.by("skep_services", "mode")),
    }


def without_none(found: dict[str, float]) -> dict[str, float]:
    return {key: count for key, count in found.items() if count}


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_what_there_is(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(150):
        walk.step()
        there_is = counted(walk.view)
        there_is["states"] = +there_is["states"]  # type: ignore[operator]
        assert kept(walk.view) == there_is
    walk.view.remove_service(RemovedService(id="s", name="name-s", templates=[], removed_at=1.0))
    assert kept(walk.view)["modes"] == counted(walk.view)["modes"] == {"global": 1}


def test_every_state_is_said_where_there_is_nothing() -> None:
    metrics = Registry(view_metrics(View()))
    assert set(metrics.by("skep_nodes", "state")) == {"unknown", "ready", "down"}
    assert set(metrics.by("skep_tasks", "state")) == set(STATE_NAMES.values())
    assert metrics.by("skep_materials", "kind") == {"secret": 0, "config": 0}


def test_reading_does_not_cost_more_with_more_tasks() -> None:
    def read_s(tasks: int) -> float:
        view = View()
        add_service(view)
        for node in range(tasks // 10):
            add_node(view, f"n{node}", state="down")
        for n in range(tasks):
            add_task(view, f"k{n}", f"n{n % (tasks // 10)}", n + 1, observed=RUNNING)
        metrics = Registry(view_metrics(view))
        return min(timeit.repeat(lambda: [list(m.samples()) for m in metrics], number=20, repeat=5))

    assert read_s(5000) < 4 * read_s(50)  # a hundred times as many; a walk would take fifty times as long
