"""The node's tasks: what is assigned, what is observed, and the next action for each.

In: `assign` (from the session) and `observed` (from the executor). Out: actions to the executor and
statuses to the reporter. Each call costs the tasks it names, never all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import structlog

from skep.agent.executor.interfaces import (
    Action,
    Adopted,
    Executor,
    Observation,
    RunningTask,
    TaskContext,
)
from skep.agent.task_machine import Fate, fate_of, next_action
from skep.model.container import LogDriver
from skep.model.generic import Claim
from skep.model.material import MaterialPayload, references
from skep.model.states import (
    ACCEPTED,
    ASSIGNED,
    PREPARING,
    REJECTED,
    RUNNING,
    SHUTDOWN,
    STARTING,
    is_terminal,
)
from skep.model.task import TaskAddress, TaskStatus
from skep.rpc.messages import Assign, AssignedTask, ServiceTemplate
from skep.runtime.clock import Clock

log = structlog.get_logger()


class _Record:
    """One task on this node."""

    __slots__ = (
        "addresses",
        "desired",
        "fate",
        "generic",
        "id",
        "service_id",
        "slot",
        "spec_version",
        "status",
        "under_way",
    )

    def __init__(self, task_id: str, service_id: str, status: TaskStatus) -> None:
        self.id = task_id
        self.service_id = service_id
        self.slot = 0
        self.addresses: tuple[TaskAddress, ...] = ()
        self.spec_version = 0
        self.desired = ASSIGNED
        self.fate = Fate.STOP
        self.status = status
        self.under_way: Action | None = None
        self.generic: tuple[Claim, ...] = ()


class TaskNetworking(Protocol):
    """What leads connections to tasks of this node."""

    def arriving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """Returns what ends when a task with these addresses may be started; None: at once."""
        ...

    def leaving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """Returns what ends when a task that serves others may be stopped; None: at once."""
        ...


class Worker:
    """See the module's text. `report` gets every status that is news, and again at each session start."""

    def __init__(
        self,
        node_id: str,
        hostname: str,
        executor: Executor,
        clock: Clock,
        report: Callable[[str, TaskStatus], None],
        networks: TaskNetworking | None = None,
    ) -> None:
        self._node_id = node_id
        self._hostname = hostname
        self._executor = executor
        self._clock = clock
        self._report = report
        self._networks = networks
        self._waiting: set[asyncio.Task[None]] = set()
        self._records: dict[str, _Record] = {}
        self._by_service: dict[str, set[str]] = {}
        self._templates: dict[tuple[str, int], ServiceTemplate] = {}
        self._adopted: dict[str, Adopted] = {}
        self._materials: dict[str, MaterialPayload] = {}  # what tasks of this node need; in memory only
        self._log_driver: LogDriver | None = None  # the swarm's, for tasks that name none
        self.is_started = False
        self._early: list[Assign] = []  # of this session, until it is known what runs here

    async def start(self) -> None:
        """Takes over what runs already, then does what it was told meanwhile. Errors: `Unavailable` when the
        engine cannot be reached."""
        await self._executor.start(self._node_id, self.observed)
        for adopted in await self._executor.adopt():
            self._adopted[adopted.task_id] = adopted
        self.is_started = True
        early, self._early = self._early, []
        for message in early:
            self.assign(message)

    def session_began(self) -> None:
        """Its manager tells everything: what an earlier one said and nobody did is over."""
        self._early.clear()

    def close(self) -> None:
        """Begins nothing more of what waits for its networks: the engine is another's matter from now on."""
        for each in self._waiting:
            each.cancel()

    def everything(self) -> list[tuple[str, TaskStatus]]:
        """Returns the status of every task known here: the first report of a session."""
        return [(r.id, r.status) for r in self._records.values() if r.status.state > ASSIGNED]

    @property
    def held(self) -> frozenset[str]:
        """Returns the ids of the secrets and configs that this node has now."""
        return frozenset(self._materials)

    def running(self) -> list[RunningTask]:
        """Returns the tasks whose containers run, of all that this node knows."""
        found = ((record.id, record.status) for record in self._records.values())
        return [RunningTask(id, s.container_id, s.pid) for id, s in found if s.state == RUNNING]

    def assign(self, message: Assign) -> None:
        """Takes a message of the manager: the whole set, or differences. It waits until `start` has
        succeeded: a task that runs here already would be begun once more."""
        if not self.is_started:
            self._early.append(message)
            return
        if message.defaults is not None:
            self._log_driver = message.defaults.log_driver
        self._materials.update((each.id, each) for each in message.materials)
        for material_id in message.withdrawn:
            self._materials.pop(material_id, None)
        if message.complete:
            self._materials = {k: m for k, m in self._materials.items() if k in message.held}
            # A new session's manager begins anew with what it has sent.
            used = {(r.service_id, r.spec_version) for r in self._records.values()}
            self._templates = {k: t for k, t in self._templates.items() if k in used}
        for key in message.outdated:
            self._templates.pop(key, None)
        for template in message.templates:
            self._templates[template.service_id, template.version] = template
        for task in message.tasks:
            self._take(task)
        for service_id in message.removing:
            for task_id in list(self._by_service.get(service_id, ())):
                self._settle(self._records[task_id], Fate.STOP)
        for task_id in message.dropped:
            if record := self._records.get(task_id):
                self._settle(record, Fate.FORGET)
            elif self._adopted.pop(task_id, None) is not None:  # it had ended before this agent began
                self._executor.remove_unknown(task_id)
        if message.complete:
            self._reconcile(message)

    def observed(self, seen: Observation) -> None:
        """Takes what the executor saw. States are only ever raised; a task nobody knows is ignored."""
        record = self._records.get(seen.task_id)
        if record is None:
            if (adopted := self._adopted.get(seen.task_id)) is not None:
                self._adopted[seen.task_id] = Adopted(adopted.task_id, adopted.service_id, seen)
            return
        if seen.state not in (PREPARING, STARTING):
            record.under_way = None
        if seen.state > record.status.state and not is_terminal(record.status.state):
            status = TaskStatus(
                seen.state,
                seen.at,
                seen.message,
                seen.error,
                seen.container_id or record.status.container_id,
                seen.pid or record.status.pid,
                seen.exit_code,
                seen.ports or record.status.ports,
                seen.at if seen.state == RUNNING else record.status.started_at,
            )
            record.status = status
            self._report(record.id, status)
        self._advance(record)

    def _take(self, task: AssignedTask) -> None:
        record = self._records.get(task.id)
        if record is None:
            adopted = self._adopted.pop(task.id, None)
            if adopted is not None:
                status = _status_of(adopted.observation)
            else:
                status = TaskStatus(ACCEPTED, self._clock.now(), "accepted")
            record = _Record(task.id, task.service_id, status)
            self._records[task.id] = record
            self._by_service.setdefault(task.service_id, set()).add(task.id)
            self._report(task.id, status)
        record.slot, record.spec_version, record.desired = task.slot, task.spec_version, task.desired_state
        record.addresses = task.addresses
        record.generic = task.generic
        self._settle(record, fate_of(task.desired_state))

    def _reconcile(self, message: Assign) -> None:
        """Ends what the manager did not name: leftovers of a time when this node was not heard from."""
        named = {task.id for task in message.tasks}
        named.update(message.kept)
        for record in list(self._records.values()):
            if record.id not in named and record.service_id not in message.removing:
                self._settle(record, Fate.FORGET)
        for task_id, adopted in list(self._adopted.items()):
            if task_id in message.kept and is_terminal(adopted.observation.state):
                continue
            log.info("task.leftover", task_id=task_id, service_id=adopted.service_id)
            self._executor.remove_unknown(task_id)
            del self._adopted[task_id]

    def _settle(self, record: _Record, fate: Fate) -> None:
        if record.fate is not Fate.FORGET:
            record.fate = fate
        self._advance(record)

    def _advance(self, record: _Record) -> None:
        action = next_action(record.fate, record.desired, record.status.state, record.under_way)
        if action is None:
            return
        template = self._templates.get((record.service_id, record.spec_version))
        if template is None or (action is Action.STOP and record.status.state <= ACCEPTED):
            self._end_without_container(record, action)
            return
        record.under_way = action
        task = AssignedTask(
            record.id,
            record.service_id,
            record.spec_version,
            record.slot,
            record.desired,
            record.generic,
            record.addresses,
        )
        context = TaskContext(
            task,
            template,
            self._node_id,
            self._hostname,
            self._log_driver,
            self._materials_of(template) if action is Action.PREPARE else {},
        )
        if (awaited := self._awaited(action, record)) is not None:
            waiting = asyncio.ensure_future(self._begin_late(awaited, action, record, context))
            self._waiting.add(waiting)
            waiting.add_done_callback(self._waiting.discard)
            return
        self._executor.begin(action, context)
        if action is Action.REMOVE:
            self._forget(record)

    def _awaited(self, action: Action, record: _Record) -> Awaitable[None] | None:
        """Returns what the action waits for. Others lead to a task as soon as it runs, and until they hear
        that it is to end: this node is to know it by then, and to have let it go."""
        if not record.addresses or self._networks is None:
            return None
        if action is Action.START:
            return self._networks.arriving(record.service_id, record.addresses)
        if action is Action.STOP and record.status.state == RUNNING:
            return self._networks.leaving(record.service_id, record.addresses)
        return None

    async def _begin_late(
        self, awaited: Awaitable[None], action: Action, record: _Record, context: TaskContext
    ) -> None:
        """Begins it, unless something else is under way by then."""
        try:
            await awaited
        except Exception:  # a fault there is to keep no task from being begun, or from being ended
            log.exception("task.wait_failed", task_id=record.id)
        if record.under_way is action and self._records.get(record.id) is record:
            self._executor.begin(action, context)

    def _materials_of(self, template: ServiceTemplate) -> dict[str, MaterialPayload]:
        asked = (each[1] for each in references(template.spec.container_spec))
        return {each: self._materials[each] for each in asked if each in self._materials}

    def _end_without_container(self, record: _Record, action: Action) -> None:
        """A task that was never begun here, or that an earlier process began: stop by id, and forget."""
        if action is Action.REMOVE or record.status.container_id:
            self._executor.remove_unknown(record.id)
        if record.fate is Fate.FORGET:
            self._forget(record)
        elif not is_terminal(record.status.state):
            if action is Action.STOP:
                record.status = TaskStatus(SHUTDOWN, self._clock.now(), "shutdown")
            else:
                error = "the manager has not said what the task is to run"
                record.status = TaskStatus(REJECTED, self._clock.now(), "rejected", error)
            self._report(record.id, record.status)

    def _forget(self, record: _Record) -> None:
        self._records.pop(record.id, None)
        siblings = self._by_service.get(record.service_id)
        if siblings is not None:
            siblings.discard(record.id)
            if not siblings:
                del self._by_service[record.service_id]


def _status_of(seen: Observation) -> TaskStatus:
    return TaskStatus(
        seen.state,
        seen.at,
        seen.message,
        seen.error,
        seen.container_id,
        seen.pid,
        seen.exit_code,
        seen.ports,
        seen.at if seen.state == RUNNING else 0.0,
    )
