"""Why a task or a service is as it is, in sentences, from the leader's present view.

Pure; answers are bounded."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nlargest, nsmallest
from itertools import islice

from msgspec import Struct, field

from skep.manager.port_texts import of_ports
from skep.manager.scheduler.explain_nodes import NodeGroup, Subject, look_at_nodes, names_text, node_name
from skep.manager.scheduler.nodes import NodeTable
from skep.manager.scheduler.place import MAX_FAILURES
from skep.manager.scheduler.where import why_there
from skep.manager.task_texts import (
    ago_text,
    observed,
    of_delay,
    of_end,
    of_predecessor,
    of_state,
    of_version,
    task_name,
    time_text,
)
from skep.model.aside import NODE
from skep.model.service import Service
from skep.model.states import FAILED, REJECTED, RUNNING, STATE_NAMES
from skep.model.task import PendingTask, Task, assigned_status
from skep.store.view import View

TASKS_MAX = 10  # of a service that are named one by one: with more, the counts say it
FAILED_MAX = 5  # of the latest failures that are quoted whole
SCAN_MAX = 20_000  # tasks of a service that are looked at one by one, in 40 ms: the leader has more to do

Failures = Mapping[tuple[str, str], int]  # (service, node) -> failures lately


class TaskExplanation(Struct, frozen=True, rename="pascal"):
    """`error` is whole; `nodes` are what each node says to it, where it has none."""

    id: str = field(name="ID")
    name: str
    service_id: str = field(name="ServiceID")
    node: str
    state: str
    desired_state: str
    error: str
    sentences: list[str]
    nodes: list[NodeGroup]


class ServiceExplanation(Struct, frozen=True, rename="pascal"):
    """`tasks` are those that do not run as they should, the first few; `nodes` what each node would say to
    one task more."""

    id: str = field(name="ID")
    name: str
    mode: str
    sentences: list[str]
    nodes: list[NodeGroup]
    tasks: list[TaskExplanation]


def explain_task(view: View, task: Task | PendingTask, now: float, failures: Failures) -> TaskExplanation:
    """Returns all that can be said of one task."""
    why = view.why_aside(task.service_id, task.node_id)
    if why:  # what decides fails on it, and so may what explains
        return _aside(view, task, why)
    if isinstance(task, PendingTask):
        return _pending(view, NodeTable(view), task, now)
    said = _placed(view, task, now)
    subject = _subject(view, task.service_id, task.spec_version)
    if subject is None or task.result is not None or view.desired_of(task) > RUNNING:
        return said
    there = why_there(view, NodeTable(view), subject, task.node_id)
    service = view.services.get(task.service_id)
    if service is not None and service.spec.mode_name.startswith("global"):
        there = ["A global service has one task on each node that suits."]
    return _with(said, [*there, *_avoided(view, task.service_id, failures)])


def explain_service(view: View, service: Service, now: float, failures: Failures) -> ServiceExplanation:
    """Returns what keeps a service from being as it is wanted, and where it could grow."""
    why = view.why_aside(service.id)
    if why:
        placed = sum(view.live.get(service.id, {}).values())
        said = [why + ".", f"{placed} tasks of it have a node."]
        return ServiceExplanation(service.id, service.spec.name, service.spec.mode_name, said, [], [])
    table = NodeTable(view)
    pending = sorted(view.pending.get(service.id, {}).values(), key=lambda p: (p.slot, p.node_id))
    scan = _scan(view, service)
    live = sum(view.live.get(service.id, {}).values())
    sentences = [_counted(view, service, live, len(pending))]
    if pending:
        names = [task_name(view, p) for p in pending[:TASKS_MAX]]
        sentences.append(f"Without a node: {names_text(names, len(pending))}. {_sentence(pending[0].reason)}")
    sentences.extend(_of_update(view, service, scan))
    sentences.extend(_failed_lately(view, scan.failed, now))
    sentences.extend(_avoided(view, service.id, failures))
    sentences.extend(of_ports(view, service))
    sentences.extend(_asides(view))
    subject = _subject(view, service.id, service.template.version)
    nodes = look_at_nodes(view, table, subject) if subject is not None else []
    tasks = [_placed(view, task, now) for task in scan.waiting]
    if scan.not_running > TASKS_MAX:
        sentences.append(f"{scan.not_running} tasks have a node and do not run; these are {TASKS_MAX}.")
    if scan.is_part:
        sentences.append(f"Of its tasks {SCAN_MAX} were looked at one by one.")
    return ServiceExplanation(service.id, service.spec.name, service.spec.mode_name, sentences, nodes, tasks)


def _aside(view: View, task: Task | PendingTask, why: str) -> TaskExplanation:
    """A task that nothing is decided about."""
    placed = isinstance(task, Task)
    status = (view.status_of(task) or assigned_status(task)) if isinstance(task, Task) else None
    return TaskExplanation(
        task.id,
        task_name(view, task),
        task.service_id,
        node_name(view.nodes.get(task.node_id), task.node_id) if placed else "",
        status.state_name if status is not None else "pending",
        STATE_NAMES[view.desired_of(task)] if isinstance(task, Task) else "running",
        why,
        [why + "."],
        [],
    )


def _asides(view: View) -> list[str]:
    """Nodes that take no tasks as they are set aside, the first few."""
    named = [
        f"Node {node_name(view.nodes.get(a.id), a.id)} takes no tasks. {a.sentence}."
        for a in view.asides.values()
        if a.kind == NODE
    ]
    return named[:TASKS_MAX]


def _pending(view: View, table: NodeTable, task: PendingTask, now: float) -> TaskExplanation:
    sentences = [_sentence(task.reason or "it has not been looked at yet")]
    rows = None
    if task.node_id:
        name = node_name(view.nodes.get(task.node_id), task.node_id)
        sentences.append(
            f"It is for node {name} alone: a global service has one task on each node that suits."
        )
        rows = table.only(task.node_id)
    sentences.extend(of_delay(task.run_at, now))
    sentences.extend(of_predecessor(view, task.service_id, task.slot or task.node_id, ""))
    if task.avoid_node_id:
        name = node_name(view.nodes.get(task.avoid_node_id), task.avoid_node_id)
        sentences.append(f"Its predecessor failed on {name}, which is taken only if no other node suits.")
    subject = _subject(view, task.service_id, task.spec_version)
    nodes = look_at_nodes(view, table, subject, rows) if subject is not None else []
    return TaskExplanation(
        task.id,
        task_name(view, task),
        task.service_id,
        "",
        "pending",
        "running",
        task.reason,
        sentences,
        nodes,
    )


def _placed(view: View, task: Task, now: float) -> TaskExplanation:
    status = view.status_of(task) or assigned_status(task)
    node = view.nodes.get(task.node_id)
    sentences = [*of_state(view, task, now), *of_end(view, task, now), *of_version(view, task)]
    return TaskExplanation(
        task.id,
        task_name(view, task),
        task.service_id,
        node_name(node, task.node_id),
        status.state_name,
        STATE_NAMES[view.desired_of(task)],
        status.error,
        sentences,
        [],
    )


class _Scan(Struct, frozen=True):
    """What a look at the service's tasks, one by one, has found."""

    live: int
    current: int  # of the live ones, those of the current version
    not_running: int
    waiting: list[Task]  # of these the first by slot
    failed: list[Task]  # the latest
    is_part: bool


def _scan(view: View, service: Service) -> _Scan:
    tasks = list(islice(view.tasks_of_service(service.id), SCAN_MAX + 1))
    seen = tasks[:SCAN_MAX]
    version = service.template.version
    live = [t for t in seen if t.result is None and t.desired_state <= RUNNING]
    waiting = [t for t in live if observed(view, t) != RUNNING]
    failed = [t for t in seen if t.result is not None and t.result.state in (FAILED, REJECTED)]
    return _Scan(
        len(live),
        sum(1 for t in live if t.spec_version == version),
        len(waiting),
        nsmallest(TASKS_MAX, waiting, key=lambda t: (t.slot, t.node_id)),
        nlargest(FAILED_MAX, failed, key=lambda t: t.updated_at),
        len(tasks) > SCAN_MAX,
    )


def _of_update(view: View, service: Service, scan: _Scan) -> list[str]:
    update = service.update
    if update is None or update.state in ("completed", "rollback_completed"):
        return []
    found = [
        f"Update {update.state.replace('_', ' ')} since {time_text(update.started_at)}: {update.message}."
    ]
    found.append(f"{scan.current} of {scan.live} tasks are of the current version.")
    config = service.spec.update_config
    if view.pending.get(service.id) and config is not None and config.order == "start-first":
        found.append("The order is start-first: a node must have room for the new task beside the old one.")
    return found


def _failed_lately(view: View, failed: list[Task], now: float) -> list[str]:
    said = []
    for task in failed:
        assert task.result is not None
        name = node_name(view.nodes.get(task.node_id), task.node_id)
        when = ago_text(task.result.at, now)
        said.append(f"{task_name(view, task)} {task.result.state_name} on {name} {when}: {task.result.error}")
    return said


def _avoided(view: View, service_id: str, failures: Failures) -> list[str]:
    avoided = sorted(
        node_name(view.nodes.get(node_id), node_id)
        for (of, node_id), count in failures.items()
        if of == service_id and count >= MAX_FAILURES
    )
    if not avoided:
        return []
    names = names_text(avoided[:TASKS_MAX], len(avoided))
    return [f"Taken only if nothing else suits, as its tasks failed there lately: {names}."]


def _counted(view: View, service: Service, live: int, pending: int) -> str:
    running = view.running.get(service.id, 0)
    wanted = service.spec.replicas
    said = (
        f"{running} of {live + pending} tasks run"
        if wanted is None
        else f"{running} of {wanted} replicas run"
    )
    return f"{said}; {live} have a node, {pending} wait for one." if pending else f"{said}."


def _subject(view: View, service_id: str, version: int) -> Subject | None:
    service = view.services.get(service_id)
    if service is None:
        return None
    return Subject(service_id, service.template_of(version), view.demand(service_id, version))


def _with(said: TaskExplanation, more: list[str]) -> TaskExplanation:
    return TaskExplanation(
        said.id,
        said.name,
        said.service_id,
        said.node,
        said.state,
        said.desired_state,
        said.error,
        [*said.sentences, *more],
        said.nodes,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""
