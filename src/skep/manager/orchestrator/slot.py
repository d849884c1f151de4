"""One slot of one service: what is to become of its tasks. Everything that runs passes through here.

A slot is one replica of a replicated service, or one node of a global one. It should have exactly one live
task; around a restart or an update it has a predecessor too, and behind it a short history.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from msgspec.structs import replace

from skep.model.change import Change, DropTask, NewTask, Plan, PutTask
from skep.model.constraint import eligible
from skep.model.node import DOWN
from skep.model.service import Service
from skep.model.states import COMPLETE, FAILED, READY, REJECTED, REMOVE, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus
from skep.runtime.ids import NewId
from skep.store.room import is_crowded
from skep.store.view import TICK_S, SlotKey, View

from .restart import OLD_TASK_TIMEOUT_S, delay_max_s, delay_s, floor_s, history_limit, may_restart

# Why a task counts as rejected that was ended as its node does not suit it any more (swarmkit's constraint
# enforcer, whose words these are).
ENFORCED = "task rejected by constraint enforcer"


class Wish(Enum):
    """What the service wants of a slot."""

    RUN = "run"
    STOP = "stop"  # a global service's node that may not run it now; history stays
    REMOVE = "remove"


def is_wanted(task: Task) -> bool:
    """True for a task that is its slot's own: one that is to run, or has ended before its turn came."""
    return task.desired_state <= RUNNING


def is_live(task: Task) -> bool:
    """True for a task that runs or is to run."""
    return is_wanted(task) and task.result is None


def has_ended_early(task: Task) -> bool:
    """True for a task that has ended while it waited for its turn to run, and is its slot's until then.

    Its container is made while it waits. Were it followed at once, a missing image would be asked for again
    and again, whatever the delay (swarmkit's restart supervisor waits for the delay under way, too).
    """
    return is_wanted(task) and task.result is not None


def is_lost(view: View, task: Task) -> bool:
    """True where nobody can say any more what became of the task: its node is down or gone."""
    return task.node_id not in view.nodes or view.node_state(task.node_id).state == DOWN


def is_ending(view: View, task: Task) -> bool:
    """True for a task that is to stop, and may still run."""
    return task.result is None and task.desired_state > RUNNING and not is_lost(view, task)


def decide_slot(view: View, service: Service, key: SlotKey, now: float, new_id: NewId) -> Plan:
    """Returns the changes for one slot, at most one task to place, and when to look again."""
    current = [settled(view, service, task, now) for task in view.slot(service.id, key)]
    wish = _wish(view, service, key, current)
    if wish is Wish.REMOVE:
        return Plan(changes_of(view, service.id, key, removed_all(view, current, now)))
    if wish is Wish.STOP:
        current = [stopped(task, now) if is_wanted(task) else task for task in current]
        return Plan(changes_of(view, service.id, key, trimmed(view, service, current)))
    current = _superseded(view, current, now)
    current, wake_at = in_turn(view, current, now, delay_max_s(service))
    wanted = _wanted(view, service, key, current, now, new_id)
    # What ended for good holds its slot, whatever the history's limit: without it the slot were to be filled,
    # or, where it was to be there first and the task of a version before runs on, to be updated again.
    is_right = any(is_live(t) and not view.is_outdated(service, t) for t in current)
    last = current[-1] if current and not wanted and not is_right else None
    kept = trimmed(view, service, current, "" if last is None else last.id)
    return Plan(changes_of(view, service.id, key, kept), wanted, wake_at)


def decide_removed_slot(view: View, service_id: str, key: SlotKey, now: float) -> Plan:
    """Returns the changes for a slot of a service that was removed: tasks go as they end."""
    kept = []
    for task in view.slot(service_id, key):
        status = view.status_of(task)
        if not (status is not None and is_terminal(status.state)) and not is_lost(view, task):
            kept.append(task)
    return Plan(changes_of(view, service_id, key, kept))


def new_task(
    service: Service,
    key: SlotKey,
    now: float,
    new_id: NewId,
    desired_state: int = RUNNING,
    follows: Task | None = None,
) -> NewTask:
    """Returns a task for a slot, of the service's present version.

    A slot's tasks are in the order of their creation, and an update's are made after its start, also where
    the clock went back since.
    """
    earliest = now if service.update is None else max(now, service.update.started_at)
    return NewTask(
        id=new_id(),
        service_id=service.id,
        slot=key if isinstance(key, int) else 0,
        spec_version=service.template.version,
        created_at=earliest if follows is None else max(earliest, follows.created_at + TICK_S),
        node_id=key if isinstance(key, str) else "",
        desired_state=desired_state,
    )


def _wish(view: View, service: Service, key: SlotKey, current: Sequence[Task]) -> Wish:
    if isinstance(key, str):
        node = view.nodes.get(key)
        if node is None:
            return Wish.REMOVE
        drained = node.spec.availability == "drain" or view.node_state(key).state == DOWN
        if node.spec.availability == "pause":  # it keeps what it has, and is given nothing, as with Docker
            suits = any(is_live(task) for task in current)
        else:
            suits = eligible(node, service.template.spec.placement)
        return Wish.RUN if suits and not drained else Wish.STOP
    is_retired = current and all(task.desired_state == REMOVE for task in current)
    comes_again = key in view.pending.get(service.id, {})  # the service has grown again meanwhile
    return Wish.REMOVE if is_retired and not comes_again else Wish.RUN


def settled(view: View, service: Service, task: Task, now: float) -> Task:
    """Writes down a final status, and ends a task whose node cannot or must not run it any more. One that
    still waited for its turn waits on: `in_turn` ends it."""
    if task.result is not None:
        return task
    status = view.status.get(task.id)
    if status is not None and is_terminal(status.state):
        desired = task.desired_state if task.desired_state == READY else max(task.desired_state, SHUTDOWN)
        return replace(
            task, result=verdict(view, service, task, status), desired_state=desired, updated_at=now
        )
    if task.desired_state <= RUNNING and _misplaced(view, service, task):
        return stopped(task, now)
    return task


def verdict(view: View, service: Service, task: Task, status: TaskStatus) -> TaskStatus:
    """Returns the final status of a task: one that was ended as its node does not suit it any more counts as
    rejected."""
    node = view.nodes.get(task.node_id)
    if node is None or node.spec.availability != "active":
        return status
    if (status.state, task.desired_state) != (SHUTDOWN, SHUTDOWN):
        return status
    if eligible(node, service.template_of(task.spec_version).spec.placement):
        return status
    # The exit code is of a container that was told to end: it is nothing that the task said.
    why = "assigned node no longer meets constraints"
    return replace(status, state=REJECTED, message=ENFORCED, error=why, exit_code=0)


def _misplaced(view: View, service: Service, task: Task) -> bool:
    if is_lost(view, task):
        return True
    node = view.nodes[task.node_id]
    if node.spec.availability != "active":  # a paused one keeps what it has, whatever becomes of its labels
        return node.spec.availability == "drain"
    return not eligible(node, service.template_of(task.spec_version).spec.placement) or view.is_excess(task)


def stopped(task: Task, now: float) -> Task:
    return replace(task, desired_state=SHUTDOWN, updated_at=now)


def removed_all(view: View, current: Sequence[Task], now: float) -> list[Task]:
    kept = []
    for task in current:
        if task.result is not None or is_lost(view, task):
            continue
        if task.desired_state != REMOVE:
            task = replace(task, desired_state=REMOVE, updated_at=now)
        kept.append(task)
    return kept


def _superseded(view: View, current: list[Task], now: float) -> list[Task]:
    """Once the newest task runs, what ran before it in the slot ends (start-first updates)."""
    live = [task for task in current if is_live(task)]
    if len(live) < 2:
        return current
    newest = view.status.get(live[-1].id)
    if newest is None or newest.state != RUNNING:
        return current
    older = {task.id for task in live[:-1]}
    return [stopped(task, now) if task.id in older else task for task in current]


def _wanted(
    view: View, service: Service, key: SlotKey, current: Sequence[Task], now: float, new_id: NewId
) -> tuple[NewTask, ...]:
    live = [task for task in current if is_live(task)]
    newest = current[-1] if current else None
    version = service.template.version
    pending = view.pending.get(service.id, {}).get(key)
    if live and pending is not None and view.is_outdated(service, live[-1]):
        # An update that starts what is new first has not found a node for it yet.
        return (placed_again(view, service, pending, current, now),)
    if live and (newest is live[-1] or newest is None or newest.spec_version != version):
        return ()
    if pending is not None:
        return (placed_again(view, service, pending, current, now),)
    if newest is not None and has_ended_early(newest):
        return ()
    if newest is None:
        # How many slots a replicated service has is for `replicated.decide_scale` to say.
        return (new_task(service, key, now, new_id),) if isinstance(key, str) else ()
    return successor(service, key, newest, current, now, new_id)


def placed_again(
    view: View, service: Service, pending: PendingTask, current: Sequence[Task], now: float
) -> NewTask:
    """Returns a task that found no node so far, of the service's present version: one of a version before has
    waited, and been tried, for nothing."""
    is_same = pending.spec_version == service.template.version
    run_at = pending.run_at if is_same else 0.0
    waits = run_at > now or any(is_ending(view, t) for t in current)
    return NewTask(
        pending.id,
        pending.service_id,
        pending.slot,
        service.template.version,
        # An update's tasks are made after its start.
        pending.created_at if service.update is None else max(pending.created_at, service.update.started_at),
        run_at,
        pending.node_id,
        pending.attempt if is_same else 0,
        pending.avoid_node_id,
        READY if waits else RUNNING,
    )


def successor(
    service: Service, key: SlotKey, ended: Task, current: Sequence[Task], now: float, new_id: NewId
) -> tuple[NewTask, ...]:
    """Returns the task that follows one that ended, where the restart policy lets it have a successor."""
    policy = service.template_of(ended.spec_version).spec.restart_policy  # its own, as Docker's
    wanted = new_task(service, key, now, new_id, follows=ended)
    if not may_restart(policy, ended, current, now, service.spec.is_job):
        return ()  # where it is outdated, the update starts another
    if ended.result is None:
        # Its node is down (nothing to wait for) or drains it (the new one waits until it has stopped).
        return (replace(wanted, attempt=ended.attempt, desired_state=READY),)
    failed = ended.result.state in (FAILED, REJECTED)
    if not failed and ended.result.state != COMPLETE:
        return (wanted,)
    if isinstance(key, str) and ended.result.message == ENFORCED:
        return (wanted,)  # the node suits the service again: no restart, as it is none for swarmkit
    # By the manager's clock, not the agent's: one that is behind would make every delay shorter.
    run_at = min(ended.updated_at, now) + max(delay_s(policy), floor_s(ended))
    return (
        replace(
            wanted,
            run_at=run_at,
            desired_state=READY if run_at > now else RUNNING,
            attempt=ended.attempt + 1 if ended.spec_version == wanted.spec_version else 0,
            avoid_node_id=ended.node_id if failed and not wanted.node_id else "",
        ),
    )


def in_turn(
    view: View, current: Sequence[Task], now: float, delay_max_s: float
) -> tuple[list[Task], float | None]:
    """Lets a waiting task go on whose turn has come: its time, and what it follows has stopped (or will not).
    It runs; one that has ended meanwhile, or has a newer one after it, is over. Returns the tasks, and when
    the next turn comes.

    A time further off than any delay was written before the clock went back: it has come.
    """
    after: list[Task] = []
    wake_at: float | None = None
    waits = False
    for task in current:
        if task.desired_state == READY:
            at = task.run_at if task.run_at <= now + delay_max_s else now
            if waits:
                seen_at = max(min(task.created_at, now), view.led_since)
                at = max(at, seen_at + OLD_TASK_TIMEOUT_S)
            if task.result is not None and (at <= now or task is not current[-1]):
                task = stopped(task, now)
            elif at <= now:
                task = replace(task, desired_state=RUNNING, updated_at=now)
            else:
                wake_at = at if wake_at is None else min(wake_at, at)
        waits = waits or is_ending(view, task)
        after.append(task)
    return after, wake_at


def trimmed(view: View, service: Service, current: Sequence[Task], kept_id: str = "") -> list[Task]:
    """Keeps the history within the swarm's limit, and nothing of nodes that are gone; `kept_id` stays, and so
    does what is the slot's own."""
    limit = 5 if view.cluster is None else view.cluster.spec.history_limit
    if any(task.result is not None and is_crowded(view, task) for task in current[:-1]):
        limit = 0  # all tasks of a service on a node are one value of the store: those that run come first
    limit = history_limit(service.template.spec.restart_policy, limit)
    over = len(current) - limit
    kept = []
    for task in current:
        ended = task.result is not None or (task.desired_state >= COMPLETE and is_lost(view, task))
        gone = ended and task.node_id not in view.nodes
        if task.id == kept_id or has_ended_early(task):
            kept.append(task)
            continue
        if gone or (ended and over > 0) or (task.desired_state == REMOVE and ended):
            over -= 1
            continue
        kept.append(task)
    return kept


def changes_of(view: View, service_id: str, key: SlotKey, kept: Sequence[Task]) -> tuple[Change, ...]:
    """Returns the difference between the slot as it is and as it is to be."""
    wanted = {task.id: task for task in kept}
    changes: list[Change] = []
    for task in view.slot(service_id, key):
        after = wanted.get(task.id)
        if after is None:
            changes.append(DropTask(task))
        elif after is not task:
            changes.append(PutTask(after))
    return tuple(changes)
