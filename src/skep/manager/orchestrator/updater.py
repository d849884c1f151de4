"""Rolling updates: a few slots at a time, watching what fails (Engine API 1.51, `UpdateConfig`).

`Progress` is the updater's memo of one update: which slots are left and which are under way. A new leader
makes it again from the view, so that nothing of it is stored; a step costs the slots that were touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from skep.model.change import Change, NewTask, PutService, PutTask
from skep.model.constraint import eligible
from skep.model.node import DOWN
from skep.model.service import Service, UpdateStatus, still_needed, with_template
from skep.model.spec import UpdateConfig
from skep.model.states import COMPLETE, FAILED, READY, REJECTED, REMOVE, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import Task
from skep.runtime.ids import NewId
from skep.store.view import SlotKey, View

from .restart import may_restart
from .slot import is_live, is_wanted, new_task

SECOND_NS = 1_000_000_000
MONITOR_S = 5.0  # Docker's default
UNDER_WAY = ("updating", "rollback_started")
PARALLELISM = 1  # Docker's default where no configuration is given; 0 in one means all at once
_DEFAULT = UpdateConfig(parallelism=PARALLELISM)


class Progress:
    """One update of one service to one version. A step costs the slots that were touched since the last."""

    __slots__ = ("failed", "last_failed", "remaining", "resting", "settled_at", "total", "version", "waiting")

    def __init__(
        self, version: int, outdated: Iterable[SlotKey], under_way: Iterable[SlotKey], done: int = 0
    ) -> None:
        self.version = version
        self.remaining = deque(outdated)
        self.waiting: set[SlotKey] = set(under_way)  # decided about, and not running yet
        self.resting: deque[tuple[float, SlotKey]] = deque()  # (when it ran, slot): these wait for the delay
        self.total = len(self.remaining) + len(self.waiting) + done
        self.failed: set[SlotKey] = set()
        self.last_failed = ""
        self.settled_at = 0.0

    def settle(self, key: SlotKey, now: float) -> None:
        """The slot runs what it should, or nothing: its part of the update is done."""
        self.waiting.discard(key)
        self.resting.append((now, key))
        self.settled_at = now


class UpdateStage(Enum):
    """How far an update is with a slot."""

    OUTDATED = "outdated"  # to be begun with
    UNDER_WAY = "under way"
    UPDATED = "updated"  # its new task ran, or has ended
    NONE = "none"  # nothing to do


class UpdateStep(Struct, frozen=True):
    """What an update does now. `started` are slots it has decided about in this step."""

    changes: tuple[Change, ...] = ()
    wanted: tuple[NewTask, ...] = ()
    started: tuple[SlotKey, ...] = ()
    wake_at: float | None = None
    done: bool = False


def config_of(service: Service) -> UpdateConfig:
    """Returns the configuration in force: the rollback's own while rolling back."""
    rolling_back = service.update is not None and service.update.state.startswith("rollback")
    return (service.spec.rollback_config if rolling_back else service.spec.update_config) or _DEFAULT


def begin(view: View, service: Service, now: float) -> Progress | None:
    """Returns the memo of an update that is due or under way; None where every task is up to date."""
    update = service.update
    if update is not None and update.state in ("paused", "rollback_paused"):
        return None
    unfinished = update is not None and update.state in UNDER_WAY
    outdated: list[SlotKey] = []
    updated: list[SlotKey] = []
    under_way: list[SlotKey] = []
    is_due = unfinished
    for key, tasks in view.slots.get(service.id, {}).items():
        stage = _stage_of(view, service, key, tasks, now)
        if stage is UpdateStage.OUTDATED:
            outdated.append(key)
        elif stage is UpdateStage.UNDER_WAY and (
            unfinished or (update is None and any(is_live(t) for t in tasks))
        ):
            under_way.append(key)  # also where the service was only scaled meanwhile
            is_due = is_due or bool(_old(view, service, tasks))
        elif stage is UpdateStage.UPDATED and unfinished:
            updated.append(key)
    if update is None:
        waiting = _waiting_for_a_node(view, service, {*outdated, *under_way})
        under_way.extend(waiting)
        is_due = is_due or bool(waiting)
    if not outdated and not is_due:
        return None
    outdated.sort(
        key=lambda key: (str(key) if isinstance(key, str) else "", key if isinstance(key, int) else 0)
    )
    progress = Progress(service.template.version, outdated, under_way, len(updated))
    if unfinished:
        for key in (*updated, *under_way):
            _note_failures(view, service, progress, key, monitor_of(config_of(service)))
    return progress


def _old(view: View, service: Service, tasks: Sequence[Task]) -> list[Task]:
    """Returns those of a slot's tasks that are its own now (`is_wanted`), and of a version before."""
    return [t for t in tasks if is_wanted(t) and view.is_outdated(service, t)]


def _waiting_for_a_node(view: View, service: Service, known: Collection[SlotKey]) -> list[SlotKey]:
    """Returns the other slots for which a task of the version before has found no node."""
    pending, version = view.pending.get(service.id, {}), service.template.version
    return [key for key, each in pending.items() if key not in known and each.spec_version != version]


def _stage_of(view: View, service: Service, key: SlotKey, tasks: Sequence[Task], now: float) -> UpdateStage:
    """Returns how far the update is with one slot, as far as the tasks tell."""
    if _is_paused(view, key):
        return UpdateStage.NONE
    newest, update = tasks[-1], service.update
    is_new = not view.is_outdated(service, newest)
    own = next((t for t in reversed(tasks) if is_wanted(t)), None)
    is_pending = key in view.pending.get(service.id, {})
    is_done = update is not None and update.state not in UNDER_WAY
    has_old = bool(_old(view, service, tasks))
    if has_old and not is_done and not _stays_beside(view, service, newest, own):
        return UpdateStage.OUTDATED  # also what an update before was to start first, and has left there
    if is_pending:
        # It takes the new version as soon as there is a node for it.
        return UpdateStage.NONE if is_new else UpdateStage.UNDER_WAY
    status = view.status_of(newest)
    starts = is_new and own is newest and (status is None or status.state < RUNNING)
    if starts and (has_old or (len(tasks) > 1 and view.is_outdated(service, tasks[-2]))):
        return UpdateStage.UNDER_WAY
    if has_old and is_new and not is_done and _is_in_vain(view, service, tasks, now):
        return UpdateStage.OUTDATED
    if update is not None and is_new and newest.created_at >= update.started_at:
        # Where it failed, and what it was to replace still runs ("start-first"), the slot is done, too.
        return UpdateStage.UNDER_WAY if starts else UpdateStage.UPDATED
    if own is not None:
        # In one that is done, a newer task has failed that was to be there first.
        is_left = view.is_outdated(service, own) and not (is_done and is_new)
        return UpdateStage.OUTDATED if is_left else UpdateStage.NONE
    if is_done:
        return UpdateStage.NONE  # it was lost since
    if _is_left(view, service, key, tasks, now):
        return UpdateStage.OUTDATED
    # Its old task was ended, and whoever did it led no longer when the new one was to be made.
    comes = newest.desired_state != REMOVE and _may_run(view, service, key)
    return UpdateStage.UNDER_WAY if comes and not is_new else UpdateStage.NONE


def _stays_beside(view: View, service: Service, newest: Task, own: Task | None) -> bool:
    """True where a task of a version before may stay until what the update starts first runs.

    It has nothing to wait for where the slot's own task is the right one, and what came after that has ended:
    a rollback finds it so, where the version that it takes back has failed.
    """
    if config_of(service).order != "start-first":
        return False
    return own is None or own is newest or view.is_outdated(service, own)


def _is_paused(view: View, key: SlotKey) -> bool:
    """True for a global service's node that keeps what it has: it is updated when it is active again."""
    node = view.nodes.get(key) if isinstance(key, str) else None
    return node is not None and node.spec.availability == "pause"


def _may_run(view: View, service: Service, key: SlotKey) -> bool:
    """False for a node that a global service has no task on, as far as is known: one not heard of yet may."""
    if not isinstance(key, str):
        return True
    node = view.nodes.get(key)
    return (
        node is not None
        and node.spec.availability == "active"
        and view.node_state(key).state != DOWN
        and eligible(node, service.template.spec.placement)
    )


def _is_left(view: View, service: Service, key: SlotKey, tasks: Sequence[Task], now: float) -> bool:
    """True for a slot where nothing runs, or will by the restart policy, that an update has to start.

    A rollback starts again also what ended before the update, as Docker's does.
    """
    newest, update = tasks[-1], service.update
    if newest.desired_state == REMOVE:
        return False
    if not _may_run(view, service, key):
        return False
    before = (
        update is not None and update.state == "rollback_started" and newest.created_at < update.started_at
    )
    if not before and not view.is_outdated(service, newest):
        return False
    ended = newest if newest.result is not None else replace(newest, result=view.status.get(newest.id))
    policy = service.template_of(newest.spec_version).spec.restart_policy
    return not may_restart(policy, ended, tasks, now)


def _is_in_vain(view: View, service: Service, tasks: Sequence[Task], now: float) -> bool:
    """True where the new task that was to start first was stopped, with its node, before it ended by itself,
    and the restart policy gives it no successor."""
    newest = tasks[-1]
    status = newest.result or view.status_of(newest)
    has_failed = status is not None and status.state in (COMPLETE, FAILED, REJECTED)
    if view.is_outdated(service, newest) or newest.desired_state <= RUNNING or has_failed:
        return False
    return not may_restart(service.template_of(newest.spec_version).spec.restart_policy, newest, tasks, now)


def monitor_of(config: UpdateConfig) -> float:
    """Returns for how many seconds a new task is watched."""
    return (config.monitor or MONITOR_S * SECOND_NS) / SECOND_NS


def step(
    view: View, service: Service, progress: Progress, touched: Iterable[SlotKey], now: float, new_id: NewId
) -> UpdateStep:
    """Returns the next moves of an update. `touched` are slots where something was observed."""
    if service.update is None or service.update.state not in UNDER_WAY:
        started_at = view.later_than_tasks(service.id, now)
        started = UpdateStatus(state="updating", started_at=started_at, message="update in progress")
        return UpdateStep((PutService(replace(service, update=started)),))
    config = config_of(service)
    monitor_s = monitor_of(config)
    for key in list(touched):
        _observe(view, service, progress, key, monitor_s, now)
    if progress.total and len(progress.failed) / progress.total > config.max_failure_ratio:
        verdict = _on_failure(service, config, progress.last_failed, now)
        if verdict is not None:
            return UpdateStep((PutService(verdict),), done=True)
    delay_s = config.delay / SECOND_NS
    progress.settled_at = min(progress.settled_at, now)  # the clock may have gone back
    resting = progress.resting
    while resting and (resting[0][0] + delay_s <= now or resting[0][0] > now):
        settled_at, key = resting.popleft()
        if settled_at > now:
            resting.appendleft((now, key))
            break
    return _advance(view, service, progress, config, monitor_s, now, new_id)


def _advance(
    view: View,
    service: Service,
    progress: Progress,
    config: UpdateConfig,
    monitor_s: float,
    now: float,
    new_id: NewId,
) -> UpdateStep:
    changes: list[Change] = []
    wanted: list[NewTask] = []
    started: list[SlotKey] = []
    under_way = len(progress.waiting) + len(progress.resting)
    room = (config.parallelism or len(progress.remaining)) - under_way
    while room > 0 and progress.remaining:
        key = progress.remaining.popleft()
        if _is_paused(view, key):
            continue
        tasks = view.slot(service.id, key)
        own = [t for t in tasks if is_wanted(t)]
        old = _old(view, service, own)
        right = next((t for t in own if t not in old), None)
        if not old and (own or not tasks or not _is_left(view, service, key, tasks, now)):
            continue
        started.append(key)
        room -= 1
        progress.waiting.add(key)
        if right is None and old and config.order == "start-first":
            wanted.append(new_task(service, key, now, new_id, follows=tasks[-1]))
            continue
        changes.extend(PutTask(replace(t, desired_state=SHUTDOWN, updated_at=now)) for t in old)
        if right is None and key not in view.pending.get(service.id, {}):
            runs_at_once = not old and tasks[-1].result is not None
            wanted.append(new_task(service, key, now, new_id, RUNNING if runs_at_once else READY, tasks[-1]))
        elif right is not None and (status := view.status_of(right)) is not None and status.state == RUNNING:
            progress.settle(key, now)  # a rollback that finds the task of before still there
    wake_at = None
    if progress.resting:
        wake_at = progress.resting[0][0] + config.delay / SECOND_NS
    elif not progress.waiting and not progress.remaining:
        if now >= progress.settled_at + monitor_s:
            done = PutService(_completed(view, service, now))
            return UpdateStep((*changes, done), tuple(wanted), tuple(started), done=True)
        wake_at = progress.settled_at + monitor_s
    return UpdateStep(tuple(changes), tuple(wanted), tuple(started), wake_at)


def _observe(
    view: View, service: Service, progress: Progress, key: SlotKey, monitor_s: float, now: float
) -> None:
    """Notes a slot under way that settled, and a new task that failed while it was watched."""
    _note_failures(view, service, progress, key, monitor_s)
    if key not in progress.waiting or key in view.pending.get(service.id, {}):
        return
    tasks = view.slot(service.id, key)
    new = [t for t in tasks if not view.is_outdated(service, t)]
    if _old(view, service, tasks) and (
        not new or _is_in_vain(view, service, tasks, now)
    ):  # it has gone with its node
        progress.waiting.discard(key)
        progress.remaining.append(key)
        return
    newest = new[-1] if new else None
    status = view.status_of(newest) if newest is not None else None
    # A slot that has no task any more (its node was drained, the service shrank) is settled too.
    ended = newest is None or not is_live(newest)
    if ended or (status is not None and (status.state == RUNNING or is_terminal(status.state))):
        progress.settle(key, now)


def _note_failures(view: View, service: Service, progress: Progress, key: SlotKey, monitor_s: float) -> None:
    """A task of this update that ended while it was watched counts as failed, also where it ended well: it is
    there to run (swarmkit's "failure or early termination")."""
    assert service.update is not None
    for task in view.slot(service.id, key):
        if task.created_at < service.update.started_at or view.is_outdated(service, task):
            continue
        status = view.status_of(task)
        if status is None or status.state not in (COMPLETE, FAILED, REJECTED):
            continue
        if not status.started_at or status.at - status.started_at <= monitor_s:
            progress.failed.add(key)
            progress.last_failed = task.id


def _on_failure(service: Service, config: UpdateConfig, task_id: str, now: float) -> Service | None:
    """Returns the service paused or rolled back; None where the update is to go on."""
    assert service.update is not None
    rolling_back = service.update.state == "rollback_started"
    if config.failure_action == "continue":
        return None
    cause = f"due to failure or early termination of task {task_id}"
    if config.failure_action == "rollback" and not rolling_back and service.previous_spec is not None:
        message = f"update rolled back {cause}"
        started = UpdateStatus(
            state="rollback_started", started_at=service.update.started_at, message=message
        )
        return replace(rolled_back(service, started), updated_at=now)
    state, what = ("rollback_paused", "rollback") if rolling_back else ("paused", "update")
    paused = replace(service.update, state=state, message=f"{what} paused {cause}")
    return replace(service, update=paused)


def rolled_back(service: Service, update: UpdateStatus) -> Service:
    """Returns the service with its previous spec back; its tasks of then are up to date again."""
    previous = service.previous_spec
    assert previous is not None
    return replace(
        service,
        spec=previous,
        previous_spec=None,
        registry_auth=service.previous_registry_auth,
        previous_registry_auth=None,
        templates=with_template(service.templates, previous),
        update=update,
    )


def _completed(view: View, service: Service, now: float) -> Service:
    """Returns the service with its update done, and without templates that no task uses."""
    assert service.update is not None
    rolling_back = service.update.state == "rollback_started"
    state, message = (
        ("rollback_completed", "rollback completed") if rolling_back else ("completed", "update completed")
    )
    update = replace(service.update, state=state, completed_at=now, message=message)
    in_use = {task.spec_version for task in view.tasks_of_service(service.id)}
    return replace(service, update=update, templates=still_needed(service.templates, in_use, 1))
