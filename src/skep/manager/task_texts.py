"""One task in sentences: what it does, what it waits for, what has become of it. Pure."""

from __future__ import annotations

import time

from skep.manager.scheduler.explain_nodes import availability, node_name, service_name
from skep.model.constraint import eligible
from skep.model.node import DOWN
from skep.model.states import (
    ACCEPTED,
    COMPLETE,
    FAILED,
    PREPARING,
    READY,
    REJECTED,
    RUNNING,
    STARTING,
    is_terminal,
)
from skep.model.task import PendingTask, Task, assigned_status, known_time
from skep.store.view import View, slot_key


def task_name(view: View, task: Task | PendingTask) -> str:
    """Returns web.3, or web.<host name> for a global service's."""
    slot = task.slot or node_name(view.nodes.get(task.node_id), task.node_id)
    return f"{service_name(view, task.service_id)}.{slot}"


def of_state(view: View, task: Task, now: float) -> list[str]:
    """What it does, or what it waits for."""
    heard = view.status_of(task)
    status = heard or assigned_status(task)
    state, since = status.state, f"since {time_text(status.at)} ({ago_text(status.at, now)})"
    name = node_name(view.nodes.get(task.node_id), task.node_id)
    if is_terminal(state):
        error = f": {status.error}" if status.error else ""
        return [f"It is {status.state_name} {since}, on {name}{error}."]
    lost = _lost(view, task)
    if lost:
        return [f"Its node {name} is {lost}: nobody can say what it does."]
    if state == RUNNING:
        return [f"It runs on {name} {since}."]
    if state == STARTING:
        return [f"Its container on {name} starts {since}; one with a health check runs once it is healthy."]
    if state == PREPARING:
        return [f"{name} makes its container, and fetches the image where it is not there, {since}."]
    waits: list[str] = []
    if task.desired_state == READY:
        waits = [*of_delay(task.run_at, now), *of_predecessor(view, task.service_id, slot_key(task), task.id)]
        waits = waits or ["It waits for its turn: it is let start when the manager looks next."]
    if state == READY:
        return [f"Its container is ready on {name} {since}.", *waits]
    given = f"It was given to {name} at {time_text(task.updated_at)}"
    if heard is None and task.updated_at < view.led_since:
        return [f"{given}; {name} has not come to this leader yet: nobody can say what it does.", *waits]
    taken = "has taken it" if state >= ACCEPTED else "has not answered yet"
    return [f"{given}, which {taken}.", *waits]


def of_end(view: View, task: Task, now: float) -> list[str]:
    """Why a task is to stop, and what follows one that has ended."""
    desired = view.desired_of(task)
    node, service = view.nodes.get(task.node_id), view.services.get(task.service_id)
    if task.result is None and desired > RUNNING:
        if service is None:
            return ["It is to stop: its service was removed."]
        if node is not None and node.spec.availability == "drain":
            return ["It is to stop: its node is drained."]
        spec = service.template_of(task.spec_version).spec
        if node is not None and not eligible(node, spec.placement):
            return ["It is to stop: its node no longer satisfies the service's constraints."]
        newer = _newest(view, task)
        if newer is not None and newer.id != task.id:
            return [f"It is to stop: task {newer.id} takes its place."]
        return ["It is to stop: a scale-down, an update, or a node that has less than is reserved there."]
    if task.result is None:
        return []
    newest = _newest(view, task)
    if newest is not None and newest.id != task.id:
        return [f"Task {newest.id} took its place."]
    if desired <= RUNNING:
        return ["It ended before its turn to run came.", *of_delay(task.run_at, now, "Another follows")]
    if slot_key(task) in view.pending.get(task.service_id, {}):
        return ["Its successor waits for a node."]
    if service is None or (desired >= COMPLETE and task.result.state not in (FAILED, REJECTED, COMPLETE)):
        return []
    if service.spec.mode_name.endswith("job") and task.result.state == COMPLETE:
        return ["It has done its work."]
    policy = service.template.spec.restart_policy
    condition = (policy.condition if policy is not None else "") or "any"
    most = f", at most {policy.max_attempts} times" if policy is not None and policy.max_attempts else ""
    return [f"Nothing has followed it: the restart policy is {condition}{most}."]


def of_version(view: View, task: Task) -> list[str]:
    service = view.services.get(task.service_id)
    if service is None or task.result is not None or task.spec_version == service.template.version:
        return []
    update = service.update
    if update is not None and "paused" in update.state:
        return [f"It is of an earlier version of the service, and stays so: {update.message}."]
    return ["It is of an earlier version of the service, and is replaced when its turn in the update comes."]


def of_delay(run_at: float, now: float, what: str = "It starts") -> list[str]:
    if run_at <= now:
        return []
    return [
        f"{what} at {time_text(run_at)}, in {run_at - now:.1f} s: the restart delay of the one before it."
    ]


def of_predecessor(view: View, service_id: str, key: int | str, own_id: str) -> list[str]:
    for task in view.slot(service_id, key):
        if (
            task.id != own_id
            and task.result is None
            and task.desired_state > RUNNING
            and not _lost(view, task)
        ):
            name = node_name(view.nodes.get(task.node_id), task.node_id)
            return [f"It waits until task {task.id}, which is stopping on {name}, has stopped."]
    return []


def observed(view: View, task: Task) -> int:
    status = view.status_of(task)
    return status.state if status is not None else assigned_status(task).state


def _lost(view: View, task: Task) -> str:
    """Why nobody can say what a task does; empty where its node is heard from."""
    node = view.nodes.get(task.node_id)
    if node is None:
        return "gone"
    return availability(view, node) if view.node_state(node.id).state == DOWN else ""


def _newest(view: View, task: Task) -> Task | None:
    return next(reversed(view.slot(task.service_id, slot_key(task))), None)


def time_text(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(known_time(at)))


def ago_text(at: float, now: float) -> str:
    passed = max(0, int(now - known_time(at)))
    for unit, step in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if passed >= 2 * step:
            return f"{passed // step} {unit} ago"
    return f"{passed} s ago"
