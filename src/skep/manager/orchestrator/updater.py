"""Rolling updates: a few slots at a time, watching what fails (Engine API 1.51, `UpdateConfig`).

`Progress` is the updater's memo of one update: which slots are left and which are under way. A new leader
makes it again from the view, so that nothing of it is stored; a step costs the slots that were touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from skep.model.change import Change, NewTask, PutService, PutTask
from skep.model.service import Service, UpdateStatus, with_template
from skep.model.spec import UpdateConfig
from skep.model.states import FAILED, READY, REJECTED, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import Task
from skep.runtime.ids import NewId
from skep.store.view import SlotKey, View

from .slot import is_live, new_task

SECOND_NS = 1_000_000_000
MONITOR_S = 5.0  # Docker's default
PARALLELISM = 1  # Docker's default where no configuration is given; 0 in one means all at once
_DEFAULT = UpdateConfig(parallelism=PARALLELISM)


class Progress:
    """One update of one service to one version."""

    __slots__ = ("failed", "in_flight", "last_failed", "remaining", "settled_at", "total", "version")

    def __init__(self, version: int, outdated: Iterable[SlotKey], under_way: Iterable[SlotKey]) -> None:
        self.version = version
        self.remaining = deque(outdated)
        self.in_flight: dict[SlotKey, float | None] = dict.fromkeys(under_way)  # -> when it settled
        self.total = len(self.remaining) + len(self.in_flight)
        self.failed: set[SlotKey] = set()
        self.last_failed = ""
        self.settled_at = 0.0


class Step(Struct, frozen=True):
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


def begin(view: View, service: Service) -> Progress | None:
    """Returns the memo of an update that is due or under way; None where every task is up to date."""
    update = service.update
    if update is not None and update.state in ("paused", "rollback_paused"):
        return None
    version = service.template.version
    outdated: list[SlotKey] = []
    under_way: list[SlotKey] = []
    for key, tasks in view.slots.get(service.id, {}).items():
        newest = next((t for t in reversed(tasks) if is_live(t)), None)
        if newest is None:
            continue
        if newest.spec_version != version:
            outdated.append(key)
        elif update is not None and update.state in ("updating", "rollback_started") and len(tasks) > 1:
            status = view.status_of(newest)
            if status is None or status.state < RUNNING:
                under_way.append(key)
    unfinished = update is not None and update.state in ("updating", "rollback_started")
    if not outdated and not under_way and not unfinished:
        return None
    outdated.sort(key=str)
    return Progress(version, outdated, under_way)


def step(
    view: View, service: Service, progress: Progress, touched: Iterable[SlotKey], now: float, new_id: NewId
) -> Step:
    """Returns the next moves of an update. `touched` are slots where something was observed."""
    if service.update is None or service.update.state not in ("updating", "rollback_started"):
        started = UpdateStatus(state="updating", started_at=now, message="update in progress")
        return Step((PutService(replace(service, update=started)),))
    config = config_of(service)
    monitor_s = (config.monitor or MONITOR_S * SECOND_NS) / SECOND_NS
    for key in list(touched):
        _observe(view, service, progress, key, monitor_s, now)
    if progress.total and len(progress.failed) / progress.total > config.max_failure_ratio:
        verdict = _on_failure(service, config, progress.last_failed, now)
        if verdict is not None:
            return Step((PutService(verdict),), done=True)
    delay_s = config.delay / SECOND_NS
    progress.settled_at = min(progress.settled_at, now)  # the clock may have gone back
    for key, settled_at in list(progress.in_flight.items()):
        if settled_at is not None and settled_at + delay_s <= now:
            del progress.in_flight[key]
        elif settled_at is not None and settled_at > now:
            progress.in_flight[key] = now
    return _advance(view, service, progress, config, monitor_s, now, new_id)


def _advance(
    view: View,
    service: Service,
    progress: Progress,
    config: UpdateConfig,
    monitor_s: float,
    now: float,
    new_id: NewId,
) -> Step:
    changes: list[Change] = []
    wanted: list[NewTask] = []
    started: list[SlotKey] = []
    room = (config.parallelism or len(progress.remaining)) - len(progress.in_flight)
    while room > 0 and progress.remaining:
        key = progress.remaining.popleft()
        old = [t for t in view.slot(service.id, key) if is_live(t) and t.spec_version != progress.version]
        if not old:
            continue
        started.append(key)
        progress.in_flight[key] = None
        room -= 1
        if config.order == "start-first":
            wanted.append(new_task(service, key, now, new_id, follows=old[-1]))
            continue
        changes.extend(PutTask(replace(t, desired_state=SHUTDOWN, updated_at=now)) for t in old)
        wanted.append(new_task(service, key, now, new_id, READY, old[-1]))
    wake_at = None
    if progress.in_flight:
        delay_s = config.delay / SECOND_NS
        settled = [at + delay_s for at in progress.in_flight.values() if at is not None]
        wake_at = min(settled, default=None)
    elif not progress.remaining:
        if now >= progress.settled_at + monitor_s:
            done = PutService(_completed(view, service, now))
            return Step((*changes, done), tuple(wanted), tuple(started), done=True)
        wake_at = progress.settled_at + monitor_s
    return Step(tuple(changes), tuple(wanted), tuple(started), wake_at)


def _observe(
    view: View, service: Service, progress: Progress, key: SlotKey, monitor_s: float, now: float
) -> None:
    """Notes a slot under way that settled, and a new task that failed while it was watched."""
    newest: Task | None = None
    for task in view.slot(service.id, key):
        if task.spec_version != progress.version:
            continue
        newest = task
        status = view.status_of(task)
        if status is None or status.state not in (FAILED, REJECTED):
            continue
        if not status.started_at or status.at - status.started_at <= monitor_s:
            progress.failed.add(key)
            progress.last_failed = task.id
    if progress.in_flight.get(key, 0.0) is not None or key in view.pending.get(service.id, {}):
        return
    status = view.status_of(newest) if newest is not None else None
    # A slot that has no task any more (its node was drained, the service shrank) is settled too.
    ended = newest is None or not is_live(newest)
    if ended or (status is not None and (status.state == RUNNING or is_terminal(status.state))):
        progress.in_flight[key] = now
        progress.settled_at = now


def _on_failure(service: Service, config: UpdateConfig, task_id: str, now: float) -> Service | None:
    """Returns the service paused or rolled back; None where the update is to go on."""
    assert service.update is not None
    rolling_back = service.update.state == "rollback_started"
    if config.failure_action == "continue":
        return None
    cause = f"due to failure or early termination of task {task_id}"
    if config.failure_action == "rollback" and not rolling_back and service.previous_spec is not None:
        message = f"update rolled back {cause}"
        return rolled_back(service, UpdateStatus(state="rollback_started", started_at=now, message=message))
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
    templates = [t for t in service.templates[:-1] if t.version in in_use]
    return replace(service, update=update, templates=[*templates, service.templates[-1]])
