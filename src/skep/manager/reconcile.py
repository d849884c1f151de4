"""The one loop of the leader: something changed or it is time -> decide, place, commit, publish.

Single flight: a pass begins when the one before is durable, so deciders always see their own decisions.
Level-triggered: what is marked twice is decided once; a mark too many costs a look.
A service or node on which a decider fails is set aside (`asides`, `guard`): it costs nobody else a decision.
"""

from __future__ import annotations

import asyncio

import structlog

from skep.manager.allocator import tasks as addresses
from skep.manager.asides import AGAIN_MIN_S, PART_AGAIN_MAX_S, Asides, costs_lead
from skep.manager.commits import Committer
from skep.manager.failures import Failures
from skep.manager.orchestrator import global_service, jobs, replicated, slot
from skep.manager.rollouts import Rollouts
from skep.manager.scheduler import explain
from skep.manager.scheduler.place import Round
from skep.manager.task_events import TaskEvents
from skep.manager.timers import Timers
from skep.manager.work_queue import PASS_MAX, WorkQueue
from skep.model.aside import SERVICE, reason_of
from skep.model.change import Change, DropRemoved, DropTask, NewTask, Plan, PutService, PutTask
from skep.model.service import Service
from skep.model.states import RUNNING
from skep.model.task import Task
from skep.runtime.clock import Clock
from skep.runtime.ids import NewId
from skep.runtime.metrics import LabelledCounter, Metric
from skep.store.view import SlotKey, View, slot_key

log = structlog.get_logger()

SLICE = 2_000  # slots decided before the loop breathes: 20 to 60 ms
SCALE_SLICE = 4_000  # new tasks made and placed before it does; each slice looks at all slots there are
LOOK_SLICE = 20_000  # changes that are looked at again before it does: 20 ms
RETRY_PENDING_S = 0.5  # tasks without a node are tried again at most this often, however much changes


class Reconciler(WorkQueue):
    """`enqueue_*` are called from anywhere on the loop and never wait."""

    def __init__(
        self,
        view: View,
        committer: Committer,
        clock: Clock,
        new_id: NewId,
        task_events: TaskEvents | None = None,
        asides: Asides | None = None,
    ) -> None:
        super().__init__(view, Rollouts(view, new_id), asides or Asides(view, clock))
        self._committer = committer
        self._clock = clock
        self._new_id = new_id
        self._task_events = task_events
        self._alarms = Timers(clock)
        self._failures = Failures()
        self._retried_at = 0.0
        self._unplaced = LabelledCounter(
            "skep_placement_failures_total",
            "Tasks that no node suited, by what refused most nodes: once for each reason that one waits for.",
            "reason",
            explain.REASONS,
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (self._unplaced,)

    def enqueue_failure(self, task: Task) -> None:
        """A task failed on its node: others are preferred for a while."""
        self._failures.add(task, self._clock.now())

    @property
    def failures(self) -> dict[tuple[str, str], int]:
        """How often tasks of a service failed on a node lately, by (service, node)."""
        return self._failures.counts(self._newest_of)

    def _newest_of(self, service_id: str) -> int | None:
        service = self._view.services.get(service_id)
        return service.template.version if service is not None else None

    # The loop

    async def run(self) -> None:
        """Runs until cancelled. Errors: `Denied` when this manager no longer leads."""
        again_s = AGAIN_MIN_S
        while True:
            try:
                await self._wait()
                await self._pass()
                again_s = AGAIN_MIN_S
            except Exception as error:
                if costs_lead(error):
                    raise
                # Of no service alone, or it would have been set aside: everything is looked at again.
                log.exception("reconcile.pass_failed", again_in_s=again_s)
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, PART_AGAIN_MAX_S)
                self.enqueue_everything()

    async def _wait(self) -> None:
        """Returns when there is something to decide."""
        while True:
            self._ring()
            if self._services or self._steps or self._slots:
                return
            waits = [self._until_retry()] if self._retry_pending else []
            waits.extend(s for s in (self._alarms.next_s(), self._asides.next_s()) if s is not None)
            self._wake.clear()
            try:
                async with asyncio.timeout(min(waits) if waits else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _until_retry(self) -> float:
        return max(0.0, self._retried_at + RETRY_PENDING_S - asyncio.get_running_loop().time())

    def _ring(self) -> None:
        for kind, object_id in self._asides.take_due():
            if kind == SERVICE:
                self._enqueue_whole(object_id)
            elif self._guard.try_node(object_id):
                self.enqueue_node(object_id)
        for service_id, key in self._alarms.ring():
            if key is None:
                self._steps[service_id] = None
            else:
                self._slots[service_id, key] = None
        if self._retry_pending and self._until_retry() <= 0:
            self._retry_pending = False
            self._retried_at = asyncio.get_running_loop().time()
            for service_id, pending in self._view.pending.items():
                for key in pending:
                    self._slots[service_id, key] = None

    async def _pass(self) -> None:
        now = self._clock.now()
        self._failures.forget_old(now)
        self._guard.begin()
        round_ = Round(self._view, now, self.failures)
        changes: list[Change] = []
        decided: set[tuple[str, SlotKey]] = set()
        services, self._services = self._services, {}
        steps, self._steps = self._steps, {}
        for service_id in steps:
            service = self._view.services.get(service_id)
            if service is not None and service_id not in services and not self._is_aside(service_id):
                with self._guard.of(service_id):
                    self._decide_step(service, now, round_, changes, decided)
        wanted_total = 0
        for service_id in services:
            if self._is_aside(service_id):
                continue
            with self._guard.of(service_id):
                wanted_total += await self._decide_service(
                    service_id, now, round_, changes, decided, wanted_total
                )
        slots = self._take_slots()
        for start in range(0, len(slots), SLICE):
            self._decide_slots(slots[start : start + SLICE], now, round_, changes, decided)
            await asyncio.sleep(0)
        self._finish_removed(changes)
        self._guard.sift(changes)
        if changes:
            for service_id in await self._committer.commit(changes):
                self.enqueue_service(service_id)
            while changes:  # and let go of: freeing a hundred thousand tasks at once takes as long as a slice
                self._look_again(changes[-LOOK_SLICE:])
                del changes[-LOOK_SLICE:]
                await asyncio.sleep(0)
        self._guard.end()
        self._asides.settle()

    def _is_aside(self, service_id: str) -> bool:
        return self._view.is_aside(SERVICE, service_id)

    async def _decide_service(
        self,
        service_id: str,
        now: float,
        round_: Round,
        changes: list[Change],
        decided: set[tuple[str, SlotKey]],
        wanted_before: int,
    ) -> int:
        """Brings count and version of one service in line; returns how many tasks are to be placed."""
        view = self._view
        service = view.services.get(service_id)
        if service is None:
            return 0
        self._decide_step(service, now, round_, changes, decided)
        if service.spec.mode.global_ is not None:
            for node_id in global_service.nodes_to_look_at(view, service):
                self._slots[service_id, node_id] = None
            return 0
        if service.spec.is_job:
            self._mark_outdated(service)
            return 0
        wanted = placed = after = 0
        more = True
        while more:
            room = min(SCALE_SLICE, PASS_MAX - wanted_before - wanted)
            if room <= 0:
                self.enqueue_service(service_id)
                break
            plan = replicated.decide_scale(view, service, now, self._new_id, room, after, placed)
            changes.extend(plan.changes)
            decided.update((service_id, key) for key in plan.retired)
            for key in plan.retired:
                view.drop_pending(service_id, key)
                self._touch(service_id, key)  # an update may wait for what found no node
            wanted += len(plan.wanted)
            placed += self._place(plan.wanted, round_, changes)
            after, more = plan.last, plan.more
            await asyncio.sleep(0)
        return wanted

    def _decide_step(
        self,
        service: Service,
        now: float,
        round_: Round,
        changes: list[Change],
        decided: set[tuple[str, SlotKey]],
    ) -> None:
        """Lets an update or a job go on."""
        step = self._updating.take(service, now, SCALE_SLICE)
        changes.extend(step.changes)
        decided.update((service.id, key) for key in step.decided)
        self._place(step.wanted, round_, changes)
        self._alarms.set(step.wake_at, service.id, None)
        if step.more:
            self._steps[service.id] = None
            self._wake.set()

    def _mark_outdated(self, service: Service) -> None:
        """A job was ordered (again): whatever is left of the iteration before is looked at."""
        if service.spec.mode.global_job is not None:
            keys = jobs.nodes_to_look_at(self._view, service)
        else:
            keys = list(self._view.slots.get(service.id, ()))
        for key in keys:
            self._slots[service.id, key] = None

    def _decide_slots(
        self,
        slots: list[tuple[str, SlotKey]],
        now: float,
        round_: Round,
        changes: list[Change],
        decided: set[tuple[str, SlotKey]],
    ) -> None:
        wanted: list[NewTask] = []
        for service_id, key in slots:
            if (service_id, key) in decided:
                self._slots[service_id, key] = None
                self._wake.set()
                continue
            if self._guard.leaves_alone(service_id, key):
                continue
            try:
                plan = self._decide_slot(service_id, key, now)
            except Exception as error:
                self._guard.failed(service_id, error)
                continue
            changes.extend(plan.changes)
            wanted.extend(plan.wanted)
            self._alarms.set(plan.wake_at, service_id, key)
        self._place(wanted, round_, changes)

    def _decide_slot(self, service_id: str, key: SlotKey, now: float) -> Plan:
        view = self._view
        service = view.services.get(service_id)
        if service is None:
            is_removed = service_id in view.removed
            return slot.decide_removed_slot(view, service_id, key, now) if is_removed else Plan()
        decide = jobs.decide_job_slot if service.spec.is_job else slot.decide_slot
        plan = decide(view, service, key, now, self._new_id)
        dropped = not plan.wanted and key in view.pending.get(service_id, {})
        if dropped:
            view.drop_pending(service_id, key)
        if dropped or plan.changes:
            self._touch(service_id, key)  # a node that was drained tells no update
        return plan

    def _place(
        self, wanted: list[NewTask] | tuple[NewTask, ...], round_: Round, changes: list[Change]
    ) -> int:
        """Returns how many have a node; the view holds the others as pending."""
        if not wanted:
            return 0
        try:
            placement = round_.place(wanted)
            placed, waiting = addresses.give(self._view, placement.placed)
        except Exception as error:
            return self._place_apart(wanted, round_, changes, error)
        changes.extend(PutTask(task) for task in placed)
        events = self._task_events if self._task_events is not None and self._task_events.wanted else None
        for pending in (*placement.pending, *waiting):
            before = self._view.pending_ids.get(pending.id)
            if before is None or before.refused_by != pending.refused_by:
                self._unplaced.add(pending.refused_by)
            if events is not None:
                events.waits(before, pending)
            self._view.put_pending(pending)
        return len(placed)

    def _place_apart(
        self,
        wanted: list[NewTask] | tuple[NewTask, ...],
        round_: Round,
        changes: list[Change],
        error: Exception,
    ) -> int:
        """Placing these has failed: finds the service that it was by placing those of each alone."""
        self._guard.release({new.id for new in wanted})
        of_services: dict[str, list[NewTask]] = {}
        for new in wanted:
            of_services.setdefault(new.service_id, []).append(new)
        if len(of_services) > 1:
            self._retry_pending = True  # what the failed try has given away counts as taken in this pass
            return sum(self._place(alone, round_, changes) for alone in of_services.values())
        (service_id,) = of_services
        self._guard.failed(service_id, error)
        self._guard.show_waiting(wanted, reason_of(error))
        self._unplaced.add(explain.FAILED, len(wanted))
        return 0

    def _finish_removed(self, changes: list[Change]) -> None:
        """Forgets removed services whose last task is gone (by the pass before this one)."""
        changes.extend(
            DropRemoved(removed)
            for service_id, removed in self._view.removed.items()
            if not self._view.slots.get(service_id)
        )

    def _look_again(self, changes: list[Change]) -> None:
        """Marks what a commit has made due: tasks that wait for their turn, removed services that lost
        their last task, updates that go on."""
        view = self._view
        for change in changes:
            if isinstance(change, PutTask):
                task = change.task
                if task.desired_state < RUNNING:
                    self.enqueue_slot(task.service_id, slot_key(task))
                if task.addresses and task.result is not None and view.pending:
                    self._retry_pending = True  # its addresses are free
            elif isinstance(change, DropTask):
                task = change.task
                if task.service_id in view.removed and not view.slots.get(task.service_id):
                    self._services[task.service_id] = None
                self._retry_pending = self._retry_pending or bool(view.pending)
            elif isinstance(change, PutService):
                self._steps[change.service.id] = None
