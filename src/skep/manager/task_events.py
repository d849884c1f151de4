"""Events of tasks, which Docker does not have: `docker events --filter type=task`.

They are made only while somebody listens: a task's changes are the hot path of a manager, and where nobody
listens each costs the reading of one flag, and nothing is remembered of it.
"""

from __future__ import annotations

from skep.manager.events import EventHub
from skep.model.event import TASK
from skep.model.states import STATE_NAMES, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus
from skep.store.view import View

ERROR_MAX = 1000  # characters of a task's error: it may be a whole container's log


class TaskEvents:
    """`wanted` first, then what happened. Attributes: name, service(.name), node(.name), slot, state,
    desired, and where there are any error, exitCode."""

    def __init__(self, hub: EventHub, view: View) -> None:
        self._hub = hub
        self._view = view

    @property
    def wanted(self) -> bool:
        """True while somebody listens."""
        return self._hub.wants_tasks

    def decided(self, before: Task | None, after: Task) -> None:
        """A task was made, or what it is to do changed."""
        if before is None:
            self._emit("create", after, self._view.status_of(after))
        elif before.desired_state != after.desired_state:
            self._emit("update", after, self._view.status_of(after))

    def observed(self, task: Task, status: TaskStatus) -> None:
        """A node told that a task's state changed."""
        self._emit("update", task, status)

    def dropped(self, task: Task) -> None:
        """A task is forgotten."""
        self._emit("remove", task, task.result or self._view.status_of(task))

    def waits(self, before: PendingTask | None, after: PendingTask) -> None:
        """A task has no node; each reason is told once."""
        if before is not None and before.reason == after.reason:
            return
        attributes = self._named(after.id, after.service_id, after.slot, after.node_id)
        attributes |= {"state": "pending", "desired": "running", "error": after.reason}
        self._hub.emit(TASK, "update" if before is not None else "create", after.id, **attributes)

    def _emit(self, action: str, task: Task, status: TaskStatus | None) -> None:
        attributes = self._named(task.id, task.service_id, task.slot, task.node_id)
        attributes["state"] = status.state_name if status is not None else "assigned"
        attributes["desired"] = STATE_NAMES[self._view.desired_of(task)]
        if status is not None and status.error:
            attributes["error"] = status.error[:ERROR_MAX]
        if status is not None and is_terminal(status.state):
            attributes["exitCode"] = str(status.exit_code)
        self._hub.emit(TASK, action, task.id, **attributes)

    def _named(self, task_id: str, service_id: str, slot: int, node_id: str) -> dict[str, str]:
        view = self._view
        service, removed = view.services.get(service_id), view.removed.get(service_id)
        name = (
            service.spec.name if service is not None else removed.name if removed is not None else service_id
        )
        attributes = {
            "name": f"{name}.{slot or node_id}.{task_id}",
            "service": service_id,
            "service__name": name,
        }
        if slot:
            attributes["slot"] = str(slot)
        if node_id:
            node = view.nodes.get(node_id)
            attributes["node"] = node_id
            attributes["node__name"] = node.description.hostname if node is not None else node_id
        return attributes
