"""Jobs: tasks that run to their end. A replicated job has a slot for each completion, 1 to TotalCompletions
(Docker shows them from 0), of which MaxConcurrent are under way at a time; a global job has one on each node
that was there when it was ordered. Each update runs a job again: an iteration is a version of its template.

A task's desired state RUNNING means for a job: until it is complete.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec.structs import replace

from skep.model.aside import NODE
from skep.model.change import NewTask, Plan
from skep.model.constraint import eligible
from skep.model.node import READY as NODE_READY
from skep.model.node import Node
from skep.model.service import Service
from skep.model.states import COMPLETE, READY, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import Task
from skep.runtime.ids import NewId
from skep.store.view import SlotKey, View

from .restart import delay_max_s, may_restart
from .slot import (
    changes_of,
    has_ended_early,
    in_turn,
    is_ending,
    is_live,
    is_lost,
    new_task,
    placed_again,
    removed_all,
    stopped,
    successor,
    trimmed,
    verdict,
)


class JobStage(Enum):
    """How far a replicated job's slot is."""

    FREE = "free"  # to be begun
    BUSY = "busy"  # something runs in it, or is about to; also what is left of the iteration before
    OVER = "over"  # complete, or given up by the restart policy


class JobProgress:
    """The memo of one iteration of a replicated job: made from the view, then kept up slot by slot."""

    __slots__ = ("busy", "free", "total", "version", "waiting")

    def __init__(self, view: View, service: Service, now: float) -> None:
        self.version = service.template.version
        self.total = service.completions
        self.busy: set[SlotKey] = set()
        self.free: list[int] = []  # a heap; a slot in it may be taken meanwhile, `waiting` says which are not
        self.waiting: set[int] = set(range(1, self.total + 1))
        keys = {*view.slots.get(service.id, ()), *view.pending.get(service.id, ())}
        self.waiting.difference_update(key for key in keys if isinstance(key, int))
        self.free = sorted(self.waiting)
        for key in keys:
            self.observe(view, service, key, now)

    @property
    def is_over(self) -> bool:
        return not self.busy and not self.waiting

    def observe(self, view: View, service: Service, key: SlotKey, now: float) -> None:
        """Something happened in a slot."""
        stage = stage_of(view, service, key, now)
        self.busy.discard(key)
        if stage is JobStage.BUSY:
            self.busy.add(key)
        if not isinstance(key, int) or key > self.total:
            return
        if stage is not JobStage.FREE:
            self.waiting.discard(key)
        elif key not in self.waiting:
            self.waiting.add(key)
            heapq.heappush(self.free, key)

    def take(self) -> int:
        """Returns the lowest slot that is to be begun, as busy from now on; 0 where there is none."""
        while self.free:
            number = heapq.heappop(self.free)
            if number in self.waiting:
                self.waiting.discard(number)
                self.busy.add(number)
                return number
        return 0


def stage_of(view: View, service: Service, key: SlotKey, now: float) -> JobStage:
    """Returns how far a slot is in the present iteration."""
    tasks = view.slot(service.id, key)
    if key in view.pending.get(service.id, {}):
        return JobStage.BUSY
    version = service.template.version
    mine = [task for task in tasks if task.spec_version == version]
    if any(_runs(view, task) for task in tasks):
        return JobStage.BUSY  # also of the iteration before: never more at once than the user wants
    if any(_is_complete(view, task) for task in mine):
        return JobStage.OVER
    if not mine:
        return JobStage.FREE
    policy = service.template.spec.restart_policy
    ended = mine[-1] if mine[-1].result is not None else settled(view, service, mine[-1], now)
    return JobStage.BUSY if may_restart(policy, ended, mine, now, True) else JobStage.OVER


def decide_job(
    view: View,
    service: Service,
    progress: JobProgress,
    touched: Iterable[SlotKey],
    now: float,
    new_id: NewId,
    batch_max: int,
) -> list[NewTask]:
    """Returns tasks (`batch_max` at most) for slots that are to be begun now. `touched` are slots where
    something was observed."""
    for key in touched:
        progress.observe(view, service, key, now)
    job = service.spec.mode.replicated_job
    room = min(batch_max, (0 if job is None else job.max_concurrent or 0) - len(progress.busy))
    wanted: list[NewTask] = []
    while len(wanted) < room and (number := progress.take()):
        wanted.append(new_task(service, number, now, new_id))
    return wanted


def decide_job_slot(view: View, service: Service, key: SlotKey, now: float, new_id: NewId) -> Plan:
    """Returns the changes for one slot of a job, at most one task to place, and when to look again."""
    current = [settled(view, service, task, now) for task in view.slot(service.id, key)]
    node = view.nodes.get(key) if isinstance(key, str) else None
    if (isinstance(key, str) and node is None) or (isinstance(key, int) and key > service.completions):
        return Plan(changes_of(view, service.id, key, removed_all(view, current, now)))
    current, wake_at = in_turn(view, current, now, delay_max_s(service))
    version = service.template.version
    before = [task for task in current if task.spec_version != version]
    mine = [task for task in current if task.spec_version == version]
    complete = next((task for task in mine if _is_complete(view, task)), None)
    # A run of an iteration before leaves no trace, nor does a second one of work that is done already.
    unwanted = {task.id for task in (before if complete is None else current) if is_live(task)}
    if unwanted:
        ending = [task for task in current if task.id in unwanted]
        removed = {task.id: task for task in removed_all(view, ending, now)}
        current = [removed.get(t.id, t) for t in current if t.id not in unwanted or t.id in removed]
    wanted: tuple[NewTask, ...] = ()
    if complete is None:
        wanted = _wanted(view, service, key, node, mine, current, now, new_id)
        if any(is_ending(view, task) for task in current):  # it waits for its predecessor to stop
            wanted = tuple(replace(new, desired_state=READY) for new in wanted)
    kept = trimmed(view, service, current, "" if complete is None else complete.id)
    return Plan(changes_of(view, service.id, key, kept), wanted, wake_at)


def wants(view: View, service: Service, node: Node) -> bool:
    """True where a global job is to run on the node: it was there when the job was ordered."""
    return (
        node.spec.availability == "active"
        and view.node_state(node.id).state == NODE_READY
        and node.created_at <= service.last_execution_at
        and eligible(node, service.template.spec.placement)
    )


def nodes_to_look_at(view: View, service: Service) -> list[SlotKey]:
    """Returns the nodes where a global job has yet to run, or something else than its present iteration."""
    slots, version = view.slots.get(service.id, {}), service.template.version
    found: list[SlotKey] = [
        node.id
        for node in view.nodes.values()
        if node.id not in slots and not view.is_aside(NODE, node.id) and wants(view, service, node)
    ]
    found.extend(key for key, tasks in slots.items() if any(t.spec_version != version for t in tasks))
    return found


def _wanted(
    view: View,
    service: Service,
    key: SlotKey,
    node: Node | None,
    mine: Sequence[Task],
    current: Sequence[Task],
    now: float,
    new_id: NewId,
) -> tuple[NewTask, ...]:
    if any(is_live(task) for task in mine) or (mine and has_ended_early(mine[-1])):
        return ()
    if node is not None and not wants(view, service, node):
        return ()
    pending = view.pending.get(service.id, {}).get(key)
    if pending is not None:
        return (placed_again(view, service, pending, current, now),)
    if mine:
        return successor(service, key, mine[-1], mine, now, new_id)
    # How many slots of a replicated job are begun is for `decide_job` to say.
    return (new_task(service, key, now, new_id),) if node is not None else ()


def settled(view: View, service: Service, task: Task, now: float) -> Task:
    """Writes down a final status, and ends a task that nobody can speak for or whose node does not suit it.

    A node that is drained lets a job's task come to its end, as Docker's does; new ones go elsewhere.
    """
    if task.result is not None:
        return task
    status = view.status.get(task.id)
    if status is not None and is_terminal(status.state):
        over = COMPLETE if status.state == COMPLETE else SHUTDOWN
        desired = max(task.desired_state, over) if task.desired_state != READY else READY
        result = verdict(view, service, task, status)
        return replace(task, result=result, desired_state=desired, updated_at=now)
    if task.desired_state > RUNNING:
        return task
    placement = service.template_of(task.spec_version).spec.placement
    if is_lost(view, task) or not eligible(view.nodes[task.node_id], placement):
        return stopped(task, now)
    return task


def _runs(view: View, task: Task) -> bool:
    """True where a container of the task may be there, and somebody can say so."""
    status = view.status_of(task)
    return not (status is not None and is_terminal(status.state)) and not is_lost(view, task)


def _is_complete(view: View, task: Task) -> bool:
    status = view.status_of(task)
    return status is not None and status.state == COMPLETE
