"""What must hold of updates: how they go from state to state, how many slots at once, and what restarts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from skep.manager.orchestrator.updater import UNDER_WAY, config_of
from skep.model.service import Service
from skep.model.spec import UpdateConfig
from skep.model.states import COMPLETE, FAILED, REJECTED, RUNNING, SHUTDOWN
from skep.model.task import Task
from skep.sim.etcd import Etcd, Peer
from skep.sim.history import History
from skep.sim.picture import Picture
from skep.sim.violation import Violation
from skep.sim.workload import value_of
from skep.sim.world import World
from skep.store import codec
from skep.store.interfaces import Put, Txn
from skep.store.view import SlotKey, slot_key

MANUAL = "manually requested rollback"
WELL_S = 60.0  # a machine that had no trouble, and was not drained, for as long keeps its tasks


class UpdateLedger:
    """Watches all writes of services: a user's, or the next step of an update; nothing else changes them."""

    def __init__(self, etcd: Etcd, history: History) -> None:
        self._etcd = etcd
        self._history = history
        self._services: dict[str, Service] = {}

    def written(self, peer: Peer, txn: Txn) -> None:
        """A transaction was applied."""
        for op in txn.ops:
            if not codec.is_service(op.key):
                continue
            if not isinstance(op, Put):
                self._services.pop(op.key, None)
                continue
            after = codec.decode_object(Service, op.key, op.value, self._etcd.state.revision)
            before = self._services.get(op.key)
            self._services[op.key] = after
            wrong = self._what_is_wrong(before, after) if before is not None else ""
            if wrong:
                self._etcd.wrong.append(f"service {after.spec.name}: {wrong}")

    def _what_is_wrong(self, before: Service, after: Service) -> str:
        state, then = _state(before), _state(after)
        if _is_users(before, after):
            asked = self._history.was_asked(f"service {after.spec.name}", value_of(after.spec))
            return "" if asked else "it was given a spec that nobody asked for"
        action = config_of(before).failure_action
        if (state, then) == ("updating", "rollback_started"):
            self._history.rolled_back(
                f"service {after.spec.name}", value_of(before.spec), value_of(after.spec)
            )
            if after.spec != before.previous_spec or after.previous_spec is not None:
                return "an automatic rollback did not go back to the spec before"
            return "" if action == "rollback" else f"it was rolled back, its failure action is {action!r}"
        if after.spec != before.spec or after.previous_spec != before.previous_spec:
            return f"its spec was changed by an update that went from {state!r} to {then!r}"
        if state == then:
            return ""
        if (state, then) == ("updating", "paused") or (state, then) == (
            "rollback_started",
            "rollback_paused",
        ):
            return "" if action != "continue" else f"{then}, although it was to go on after failures"
        if (state, then) in (("updating", "completed"), ("rollback_started", "rollback_completed")):
            return self._outdated(after)
        return "" if (state, then) == ("", "updating") else f"its update went from {state!r} to {then!r}"

    def _outdated(self, service: Service) -> str:
        """An update that is done has left nothing of another version, but where the new task failed that was
        to run first."""
        live: list[Task] = []
        newest: dict[SlotKey, Task] = {}
        for pair in self._etcd.state.prefix(codec.PREFIX):
            if not codec.is_bucket(pair.key) or service.id not in pair.key:
                continue
            for task in codec.decode_bucket(pair.key, pair.value, pair.revision):
                live += [task] if is_live(task) else []
                newest[slot_key(task)] = max(
                    task, newest.get(slot_key(task), task), key=lambda t: t.created_at
                )
        version, first = service.template.version, _is_start_first(config_of(service))
        for task in live:
            if task.spec_version != version and not (
                first and newest[slot_key(task)].spec_version == version
            ):
                return f"its update is done, and task {task.id} of version {task.spec_version} is to run"
        return ""


class Updating:
    """Compares each moment with the one before; `ran` are tasks that were ever seen running."""

    def __init__(self, world: World, troubled: Mapping[str, float]) -> None:
        self._world = world
        self._troubled = troubled
        self._before: Picture | None = None
        self._ran: set[str] = set()
        self._seen_at: dict[str, float] = {}  # task -> when it was first seen
        self._stopped_at: dict[str, float] = {}  # task -> when it was first seen to be ended
        self._ended: set[str] = set()  # tasks that were to end while their service had an update
        self._start_first: set[str] = set()  # services that ever had that order: it may change meanwhile
        self._inactive_at: dict[str, float] = {}  # node -> when it was last seen to take no tasks
        self._since: dict[str, tuple[object, float]] = {}  # service -> its update, when that was first seen

    def saw_running(self, task_ids: Iterable[str]) -> None:
        self._ran.update(task_ids)

    def may_start_first(self, service_id: str) -> bool:
        """True where two versions may run in one slot."""
        return service_id in self._start_first

    def was_ended(self, task_id: str) -> bool:
        """True for a task that an update may have ended. It may still be stopping when a change that updates
        no task, such as another number of replicas, has taken the update from the service."""
        return task_id in self._ended

    def check(self, picture: Picture, now: float) -> None:
        """To be asked whenever the store has changed. Errors: `Violation`."""
        before, self._before = self._before, picture
        self._note(before, picture, now)
        at_once: dict[str, int] = {}
        goes_on: set[str] = set()  # services whose update of now has begun with a slot that is not ready yet
        for (service_id, key), tasks in picture.slots.items():
            service = picture.services.get(service_id)
            if service is None or service.spec.is_job:
                continue
            self._one_is_to_run(service, key, tasks)
            if self._is_in_transition(picture, service, tasks, now):
                at_once[service_id] = at_once.get(service_id, 0) + 1
                if self._seen_at[tasks[-1].id] > self._since[service_id][1]:
                    goes_on.add(service_id)
            if before is not None:
                self._restarts_by_its_policy(before, service, key, tasks)
                self._starts_first(before, picture, service, tasks, now)
        for service_id, count in at_once.items():
            service = picture.services[service_id]
            most = config_of(service).parallelism
            if most and count > most and service_id in goes_on:  # one before may have allowed more at once
                raise Violation(f"{count} slots of {service.spec.name} are updated at once, not {most}")

    def _note(self, before: Picture | None, picture: Picture, now: float) -> None:
        for task_id in [task_id for task_id in self._seen_at if task_id not in picture.tasks]:
            del self._seen_at[task_id]
            self._stopped_at.pop(task_id, None)
            self._ended.discard(task_id)
        for task in picture.tasks.values():
            self._seen_at.setdefault(task.id, now)
            known = before.tasks.get(task.id) if before is not None else None
            if task.desired_state > RUNNING and (known is None or known.desired_state <= RUNNING):
                self._stopped_at[task.id] = now
            service = picture.services.get(task.service_id)
            if task.desired_state > RUNNING and service is not None and service.update is not None:
                self._ended.add(task.id)
        for node in picture.nodes.values():
            if node.spec.availability != "active":
                self._inactive_at[node.id] = now
        for service in picture.services.values():
            specs = [spec for spec in (service.spec, service.previous_spec) if spec]  # two may come at once
            if any(_is_start_first(c) for spec in specs for c in (spec.update_config, spec.rollback_config)):
                self._start_first.add(service.id)
            update = (service.template.version, service.updated_at)
            if self._since.get(service.id, (None, 0.0))[0] != update:
                self._since[service.id] = (update, now)

    def _one_is_to_run(self, service: Service, key: SlotKey, tasks: list[Task]) -> None:
        """Of each version at most; of all versions, too, where what runs is stopped before."""
        live = [task for task in tasks if is_live(task)]
        versions = {task.spec_version for task in live}
        if len(live) > len(versions) or (len(live) > 1 and not self.may_start_first(service.id)):
            raise Violation(f"in slot {key} of {service.spec.name} {len(live)} tasks are to run")

    def _is_in_transition(self, picture: Picture, service: Service, tasks: list[Task], now: float) -> bool:
        """True where the update has begun with a slot, and its new task has not run yet.

        What restarts for other reasons takes the new version, too, and is not counted: a task that ended by
        itself, or whose node is drained or was in trouble. A new version counts anew.
        """
        if len(tasks) < 2 or _state(service) not in UNDER_WAY or service.spec.endpoint_spec is not None:
            return False  # with ports it may wait for a node, and follow what an update before has ended
        new, old = tasks[-1], tasks[-2]
        if not is_live(new) or new.spec_version != service.template.version or self._has_run(new):
            return False
        if old.spec_version == new.spec_version or not self._is_well(picture, new.node_id, now):
            return False
        if new.attempt:
            return False  # it follows one of its version that has ended, and may have left the history
        if any(_has_ended_in(service, task) for task in tasks if task.spec_version == new.spec_version):
            return False  # a rollback found it still there, and it has failed since
        if is_live(old):
            return True
        is_stopped = old.result is None or old.result.state == SHUTDOWN
        stopped_at = self._stopped_at.get(old.id, 0.0)
        return (
            is_stopped
            and stopped_at >= self._since[service.id][1]
            and self._is_well(picture, old.node_id, now)
        )

    def _restarts_by_its_policy(
        self, before: Picture, service: Service, key: SlotKey, tasks: list[Task]
    ) -> None:
        """Also a user's next update, or a rollback, may start what had ended for good."""
        for ended, new in pairwise(tasks):
            if new.id in before.tasks or ended.spec_version != new.spec_version or ended.result is None:
                continue
            then = before.tasks.get(ended.id)
            if then is not None and then.result is None and then.desired_state > RUNNING:
                continue  # stopped with its node, and followed before the node was heard of again
            if (
                _state(service).startswith("rollback")
                or self._seen_at[ended.id] <= self._since[service.id][1]
            ):
                continue
            policy = service.template_of(ended.spec_version).spec.restart_policy
            if policy is None or ended.result.state not in (COMPLETE, FAILED, REJECTED):
                continue
            never = policy.condition == "none"
            never = never or (policy.condition == "on-failure" and ended.result.state == COMPLETE)
            if never or (policy.max_attempts and new.attempt > policy.max_attempts):
                raise Violation(
                    f"in slot {key} of {service.spec.name} task {ended.id} was followed by {new.id}"
                )

    def _starts_first(
        self, before: Picture, picture: Picture, service: Service, tasks: list[Task], now: float
    ) -> None:
        """What an update ends has a successor that has run, where that is to be started first."""
        known = before.services.get(service.id)
        if known is None or not (_updates_start_first(known) and _updates_start_first(service)):
            return
        if (known.template.version, known.updated_at) != (service.template.version, service.updated_at):
            return  # there may have been another update in between
        for task in tasks:
            then = before.tasks.get(task.id)
            if then is None or then.desired_state > RUNNING or task.desired_state != SHUTDOWN:
                continue
            if task.spec_version == service.template.version or task.result is not None:
                continue
            if not self._has_run(task) or not self._is_well(picture, task.node_id, now):
                continue
            others = [t for t in tasks if t.created_at > task.created_at or (is_live(t) and t is not task)]
            if not any(self._has_run(t) or not self._is_well(picture, t.node_id, now) for t in others):
                raise Violation(f"task {task.id} of {service.spec.name} was stopped before another ran")

    def _has_run(self, task: Task) -> bool:
        state = self._world.host(task.node_id).executor.state_of(task.id)
        return task.id in self._ran or task.result is not None or (state is not None and state >= RUNNING)

    def _is_well(self, picture: Picture, node_id: str, now: float) -> bool:
        troubled_at = self._troubled.get(self._world.host(node_id).name, 0.0)
        was_away_at = max(troubled_at, self._inactive_at.get(node_id, 0.0))
        return node_id in picture.nodes and now - was_away_at >= WELL_S


def is_live(task: Task) -> bool:
    """True for a task that is to run and has not ended."""
    return task.desired_state <= RUNNING and task.result is None


def _updates_start_first(service: Service) -> bool:
    return _state(service) in UNDER_WAY and _is_start_first(config_of(service))


def _is_start_first(config: UpdateConfig | None) -> bool:
    return config is not None and config.order == "start-first"


def _state(service: Service) -> str:
    return "" if service.update is None else service.update.state


def _is_users(before: Service, after: Service) -> bool:
    """True for a write of the control API: the spec before is kept, and no update goes on."""
    if after.previous_spec != before.spec or after.updated_at == before.updated_at:
        return False
    return after.update is None or after.spec == before.previous_spec


def _has_ended_in(service: Service, task: Task) -> bool:
    """True for a task that has ended by itself since the service's update began."""
    if task.result is None or service.update is None or task.updated_at < service.update.started_at:
        return False
    return task.result.state in (COMPLETE, FAILED, REJECTED)
