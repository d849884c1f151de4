"""How updates and jobs go on: what is remembered of each while it runs, and its next step.

Nothing of it is stored: a new leader makes the memos again from the view.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from skep.manager.allocator import endpoints
from skep.manager.orchestrator import jobs, slot, updater
from skep.model.change import Change, NewTask, PutService, PutTask
from skep.model.service import Service
from skep.runtime.ids import NewId
from skep.store.view import SlotKey, View


class RolloutStep(Struct, frozen=True):
    """What a service's update or job does now. `decided` are slots that it has decided about."""

    changes: tuple[Change, ...] = ()
    wanted: tuple[NewTask, ...] = ()
    decided: tuple[SlotKey, ...] = ()
    wake_at: float | None = None
    more: bool = False  # another step is due at once


class Rollouts:
    """The updates and jobs of one leader."""

    def __init__(self, view: View, new_id: NewId) -> None:
        self._view = view
        self._new_id = new_id
        self._updates: dict[str, updater.Progress] = {}
        self._jobs: dict[str, jobs.JobProgress] = {}
        self._touched: dict[str, set[SlotKey]] = {}

    def service_changed(self, service_id: str) -> None:
        """What is remembered may be of another version; what was touched is still to be looked at."""
        self._updates.pop(service_id, None)
        self._jobs.pop(service_id, None)

    def service_removed(self, service_id: str) -> None:
        """Nothing goes on any more."""
        self.service_changed(service_id)
        self._touched.pop(service_id, None)

    def touch(self, service_id: str, key: SlotKey) -> bool:
        """Something happened in a slot. Returns True where an update or a job may go on by it."""
        if service_id not in self._updates and service_id not in self._jobs:
            return False
        self._touched.setdefault(service_id, set()).add(key)
        return True

    def is_updating(self, service_id: str) -> bool:
        return service_id in self._updates

    def take(self, service: Service, now: float, limit: int) -> RolloutStep:
        """Lets an update or a job go on, by `limit` new tasks of a job at most. Costs the slots that were
        touched since the step before."""
        if service.spec.mode.replicated_job is not None:
            step = self._step_of_job(service, now, limit)
        elif service.spec.is_job:
            return RolloutStep()
        else:
            step = self._step_of_update(service, now)
        return replace(step, changes=(*step.changes, *self._ends(service, step, now)))

    def _ends(self, service: Service, step: RolloutStep, now: float) -> Iterator[Change]:
        """What has ended by itself in a slot is written with what follows it there, and may hold what it
        held: a next leader must not find both with it."""
        settled = jobs.settled if service.spec.is_job else slot.settled
        changed = {change.task.id for change in step.changes if isinstance(change, PutTask)}
        for key in step.decided:
            for task in self._view.slot(service.id, key):
                after = settled(self._view, service, task, now)
                if after.result is not None and task.result is None and task.id not in changed:
                    yield PutTask(after)

    def _step_of_job(self, service: Service, now: float, limit: int) -> RolloutStep:
        progress = self._jobs.get(service.id)
        if progress is None or progress.version != service.template.version:
            progress = self._jobs[service.id] = jobs.JobProgress(self._view, service, now)
        touched = self._touched.pop(service.id, set())
        wanted = jobs.decide_job(self._view, service, progress, touched, now, self._new_id, limit)
        if len(wanted) < limit and progress.is_over:
            del self._jobs[service.id]
        decided = tuple(new.slot for new in wanted)
        return RolloutStep(wanted=tuple(wanted), decided=decided, more=len(wanted) == limit)

    def _step_of_update(self, service: Service, now: float) -> RolloutStep:
        progress = self._updates.get(service.id)
        if progress is None or progress.version != service.template.version:
            found = updater.begin(self._view, service, now)
            if found is None:
                self._updates.pop(service.id, None)
                return RolloutStep()
            progress = self._updates[service.id] = found
        touched = self._touched.pop(service.id, set())
        step = updater.step(self._view, service, progress, touched, now, self._new_id)
        if step.done:
            del self._updates[service.id]
        changes = tuple(self._with_endpoint(change) for change in step.changes)
        return RolloutStep(changes, step.wanted, step.started, step.wake_at)

    def _with_endpoint(self, change: Change) -> Change:
        """A service that is rolled back has the ports and networks of then."""
        if not isinstance(change, PutService):
            return change
        service, known = change.service, self._view.services.get(change.service.id)
        if known is None or service.spec is known.spec:
            return change
        return PutService(replace(service, endpoint=endpoints.decide_what_can_be(self._view, service)))
