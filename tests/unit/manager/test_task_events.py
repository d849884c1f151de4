"""Events of tasks: told to who listens, with what a watcher needs, and made for nobody else."""

from __future__ import annotations

from msgspec.structs import replace

from skep.api.event_filter import passes
from skep.manager.events import EventHub
from skep.manager.task_events import ERROR_MAX, TaskEvents
from skep.model.states import FAILED, RUNNING, SHUTDOWN
from skep.model.task import PendingTask, TaskStatus
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task


class Fixed:
    def now(self) -> float:
        return 7.0


def test_a_tasks_life_is_told_once_each() -> None:
    view, hub = View(), EventHub(Fixed(), "m")
    events = TaskEvents(hub, view)
    assert not events.wanted
    feed = hub.subscribe(tasks=True)
    assert events.wanted
    add_node(view, "a")
    add_service(view)
    pending = PendingTask("t", "s", 1, 1, 0.0, "no suitable node")
    events.waits(None, pending)
    events.waits(pending, pending)
    events.waits(pending, replace(pending, reason="no suitable node (1 node not available for new tasks)"))
    task = add_task(view, "t", "a", observed=None)
    events.decided(None, task)
    events.decided(task, task)
    status = TaskStatus(RUNNING, 1.0)
    view.put_status(task, status)
    events.observed(task, status)
    stopping = replace(task, desired_state=SHUTDOWN)
    view.put_task(stopping)
    events.decided(task, stopping)
    failed = TaskStatus(FAILED, 2.0, error="x" * 5000, exit_code=137)
    view.put_status(stopping, failed)
    events.observed(stopping, failed)
    events.dropped(stopping)
    told = [(e.action, e.attributes["state"], e.attributes["desired"]) for e in hub.history(tasks=True)]
    assert told == [
        ("create", "pending", "running"),
        ("update", "pending", "running"),
        ("create", "assigned", "running"),
        ("update", "running", "running"),
        ("update", "running", "shutdown"),
        ("update", "failed", "shutdown"),
        ("remove", "failed", "shutdown"),
    ]
    last = hub.history(tasks=True)[-1]
    assert last.attributes | {"error": ""} == {
        "name": "name-s.1.t",
        "service": "s",
        "service.name": "name-s",
        "slot": "1",
        "node": "a",
        "node.name": "host-a",
        "state": "failed",
        "desired": "shutdown",
        "error": "",
        "exitCode": "137",
    }
    assert len(last.attributes["error"]) == ERROR_MAX
    feed.close()
    assert not events.wanted
    asked = {"type": ["task"]}
    assert passes(last, {**asked, "service": ["name-s"], "label": ["state=failed"]})
    assert passes(last, {**asked, "node": ["host-a"]})
    assert not passes(last, {**asked, "node": ["host-b"]})
    assert not passes(last, {**asked, "service": ["other"]})
    assert not passes(last, {"service": ["name-s"]})
