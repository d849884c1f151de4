"""The leader's picture of the swarm, in memory, indexed the ways deciders and the API ask.

Everything handed out is frozen or must not be changed by the reader. Only `store.commits` (durable
objects, once committed) and the dispatcher's reports (soft statuses) change it, from the event loop and
without awaiting, so a decider sees one consistent picture.

Costs: one task changed is O(1); nothing here walks all tasks but `tasks.values()`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from skep.model.constraint import eligible
from skep.model.generic import key_and_count
from skep.model.node import DOWN
from skep.model.service import RemovedService, Service, TaskTemplate
from skep.model.states import ASSIGNED, COMPLETE, REMOVE, RUNNING, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus
from skep.store.counts import TaskCounts
from skep.store.demand import Reserved
from skep.store.objects import Objects
from skep.store.overcommit import is_overcommitted, tasks_to_evict

K = TypeVar("K", bound=Hashable)

TICK_S = 1e-6  # what a float of seconds since the epoch can still tell apart
SlotKey = int | str  # a replicated service's slot number; a global service's node id


def slot_key(task: Task) -> SlotKey:
    """Returns what the task is one of: its slot, or its node for a global service (slot 0)."""
    return task.slot or task.node_id


class View(Objects):
    """See the module's text. `pending` holds tasks without a node, by service."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, Task] = {}
        self.status: dict[str, TaskStatus] = {}  # last report of live tasks, by task id
        # service -> slot -> its tasks, oldest first: tuples of tasks are nothing to Python's garbage
        # collector, whose full rounds stop the leader, and there is one for each replica
        self.slots: dict[str, dict[SlotKey, tuple[Task, ...]]] = {}
        self.buckets: dict[str, dict[str, dict[str, Task]]] = {}  # node -> service -> task id -> task
        self.pending: dict[str, dict[SlotKey, PendingTask]] = {}  # service -> slot -> task
        self.pending_ids: dict[str, PendingTask] = {}
        self.usage: dict[str, Reserved] = {}
        self.task_counts = TaskCounts()
        self.running: dict[str, int] = {}  # service -> tasks wanted and observed running
        self.running_on: dict[str, int] = {}  # the same by node
        self.stopping: dict[str, dict[str, int]] = {}  # service -> node -> tasks to end and observed running
        self.live: dict[str, dict[str, int]] = {}  # service -> node -> tasks not finished and wanted
        self.completed: dict[str, dict[int, int]] = {}  # service -> version -> tasks that ended well
        self.newest_at: dict[str, float] = {}  # service -> when the latest of its tasks so far was made
        self._excess: dict[str, tuple[object, frozenset[str]]] = {}  # node -> (of what, task ids)

    # Reading

    def status_of(self, task: Task) -> TaskStatus | None:
        """Returns the final status, or the last report; None where the agent has not spoken yet."""
        return task.result or self.status.get(task.id)

    def desired_of(self, task: Task) -> int:
        """Returns the desired state, which the removal of the service overrides."""
        return REMOVE if task.service_id in self.removed else task.desired_state

    def is_outdated(self, service: Service, task: Task) -> bool:
        """True where an update has to replace the task. A change of placement alone, as long as the task's
        node satisfies it, needs no new task."""
        latest = service.template
        if task.spec_version == latest.version:
            return False
        if service.template_of(task.spec_version).runs != latest.runs:
            return True
        node = self.nodes.get(task.node_id)
        return node is None or not eligible(node, latest.spec.placement)

    def shown_slot(self, task: Task | PendingTask) -> int:
        """Returns the slot as Docker counts: jobs' from 0, ours from 1 (0 is "one per node" here)."""
        return task.slot - 1 if task.slot and self.is_job(task.service_id) else task.slot

    def template_of(self, task: Task) -> TaskTemplate | None:
        return self.template(task.service_id, task.spec_version)

    def tasks_of_service(self, service_id: str) -> Iterable[Task]:
        for tasks in self.slots.get(service_id, {}).values():
            yield from tasks

    def later_than_tasks(self, service_id: str, now: float) -> float:
        """Returns the time for what begins after all the service's tasks were made, also where the clock has
        gone back since."""
        return max(now, self.newest_at.get(service_id, 0.0) + TICK_S)

    def slot(self, service_id: str, key: SlotKey) -> tuple[Task, ...]:
        """Returns the tasks of a slot, oldest first."""
        return self.slots.get(service_id, {}).get(key, ())

    def tasks_of_node(self, node_id: str) -> Iterable[Task]:
        for bucket in self.buckets.get(node_id, {}).values():
            yield from bucket.values()

    def bucket(self, node_id: str, service_id: str) -> dict[str, Task]:
        return self.buckets.get(node_id, {}).get(service_id, {})

    def is_half_known(self, node_id: str) -> bool:
        """True where some of the node's tasks, or what they run, cannot be read from the store."""
        if not self.quarantine:
            return False
        if node_id in self.half_known:
            return True
        known = (self.services, self.removed)
        return any(all(each not in of for of in known) for each in self.buckets.get(node_id, ()))

    def is_excess(self, task: Task) -> bool:
        """True for a task that its node has no room for any more: it became smaller (`store.overcommit`). A
        node that is paused keeps what it has."""
        node, usage = self.nodes.get(task.node_id), self.usage.get(task.node_id)
        if node is None or usage is None or node.spec.availability != "active":
            return False
        resources = node.description.resources
        if not is_overcommitted(resources, usage.nano_cpus, usage.memory_bytes, usage.generic):
            return False
        held = (usage.tasks, usage.to_run, usage.nano_cpus, usage.memory_bytes, tuple(usage.generic.items()))
        key = (node.version, len(self.removed), held)
        known = self._excess.get(node.id)
        if known is None or known[0] != key:
            live = [t for t in self.tasks_of_node(node.id) if self._is_to_run(t)]
            known = self._excess[node.id] = (key, tasks_to_evict(resources, live, self._needs))
        return task.id in known[1]

    def _is_to_run(self, task: Task) -> bool:
        status = self.status_of(task)
        return self.desired_of(task) <= RUNNING and not (status is not None and is_terminal(status.state))

    def _needs(self, task: Task) -> tuple[int, int]:
        demand = self.demand(task.service_id, task.spec_version)
        return demand.nano_cpus, demand.memory_bytes

    # Changing: durable objects, after their commit

    def drop_node(self, node_id: str) -> None:
        super().drop_node(node_id)
        self._excess.pop(node_id, None)
        if node_id not in self.buckets:  # tasks of its that are still there are counted until they go
            self.usage.pop(node_id, None)

    def remove_service(self, removed: RemovedService) -> None:
        super().remove_service(removed)
        self.drop_all_pending(removed.id)

    def drop_removed(self, service_id: str) -> None:
        super().drop_removed(service_id)
        for of_services in (
            self.slots,
            self.live,
            self.running,
            self.stopping,
            self.newest_at,
            self.completed,
        ):
            of_services.pop(service_id, None)

    def put_task(self, task: Task) -> None:
        old = self.tasks.get(task.id)
        status = self.status_of(old) if old else None
        self._count(old, status, -1)
        self.tasks[task.id] = task
        self._put_in_slot(task, old)
        self.buckets.setdefault(task.node_id, {}).setdefault(task.service_id, {})[task.id] = task
        if task.addresses:
            self.allocations.hold(task)
        if task.result is not None:
            self.status.pop(task.id, None)
        if old is None:
            self.newest_at[task.service_id] = max(task.created_at, self.newest_at.get(task.service_id, 0.0))
        if old is None and task.id in self.pending_ids:
            self.drop_pending(task.service_id, slot_key(task))
        self._count(task, self.status_of(task), +1)

    def drop_task(self, task: Task) -> None:
        old = self.tasks.pop(task.id, None)
        if old is None:
            return
        self._count(old, old.result or self.status.get(old.id), -1)
        self.status.pop(old.id, None)
        for address in old.addresses:
            self.allocations.release(address, old)
        self._drop_from_slot(old)
        buckets = self.buckets.get(old.node_id, {})
        bucket = buckets.get(old.service_id)
        if bucket is not None:
            bucket.pop(old.id, None)
            if not bucket:
                del buckets[old.service_id]
                if not buckets:
                    self.buckets.pop(old.node_id, None)
                    if old.node_id not in self.nodes:
                        self.usage.pop(old.node_id, None)

    def _put_in_slot(self, task: Task, old: Task | None) -> None:
        slots, key = self.slots.setdefault(task.service_id, {}), slot_key(task)
        tasks = slots.get(key, ())
        if old is None:
            slots[key] = (*tasks, task)
        else:
            slots[key] = tuple(task if known is old else known for known in tasks)

    def _drop_from_slot(self, task: Task) -> None:
        slots, key = self.slots.get(task.service_id, {}), slot_key(task)
        left = tuple(known for known in slots.get(key, ()) if known is not task)
        if left:
            slots[key] = left
        else:
            slots.pop(key, None)

    def order_slots(self) -> None:
        """Puts each slot's tasks in the order of their creation, after they were put in any."""
        for slots in self.slots.values():
            for key, tasks in slots.items():
                if len(tasks) > 1:
                    slots[key] = tuple(sorted(tasks, key=lambda task: task.created_at))

    # Changing: soft state

    def put_status(self, task: Task, status: TaskStatus) -> bool:
        """Records a report; False where it is not news (states are only ever raised)."""
        known = self.status_of(task)
        if known is not None and (task.result is not None or status.state < known.state or status == known):
            return False
        has_ended = is_terminal(status.state) or (known is not None and is_terminal(known.state))
        count = self._count if has_ended else self._count_state
        count(task, known, -1)
        self.status[task.id] = status
        count(task, status, +1)
        return True

    def put_pending(self, pending: PendingTask) -> None:
        """Records why a slot has no task yet; a slot has one pending task at most."""
        key = pending.slot or pending.node_id
        self.drop_pending(pending.service_id, key)
        self.pending.setdefault(pending.service_id, {})[key] = pending
        self.pending_ids[pending.id] = pending

    def drop_pending(self, service_id: str, key: SlotKey) -> None:
        of_service = self.pending.get(service_id)
        dropped = of_service.pop(key, None) if of_service else None
        if dropped is not None:
            self.pending_ids.pop(dropped.id, None)
            if not of_service:
                del self.pending[service_id]

    def drop_all_pending(self, service_id: str) -> None:
        for dropped in self.pending.pop(service_id, {}).values():
            self.pending_ids.pop(dropped.id, None)

    def _count(self, task: Task | None, status: TaskStatus | None, sign: int) -> None:
        """Keeps usage, running and live counts right; called with -1 before and +1 after a change."""
        if task is None:
            return
        self._count_state(task, status, sign)
        if self.node_counts.down and task.desired_state <= RUNNING and task.node_id in self.node_counts.down:
            self.task_counts.strand(sign)
        if status is not None and is_terminal(status.state):
            if status.state == COMPLETE:
                self._count_completed(task, sign)
            return
        usage = self.usage.get(task.node_id)
        if usage is None:
            usage = self.usage[task.node_id] = Reserved()
        demand = self.demand(task.service_id, task.spec_version)
        usage.tasks += sign
        if demand.nano_cpus or demand.memory_bytes or demand.ports:
            usage.nano_cpus += sign * demand.nano_cpus
            usage.memory_bytes += sign * demand.memory_bytes
            for port in demand.ports:
                usage.ports[port] = usage.ports.get(port, 0) + sign
        for claim in task.generic:
            held, count = key_and_count(claim)
            taken = usage.generic.pop(held, 0) + sign * count
            if taken:
                usage.generic[held] = taken
        if task.desired_state < COMPLETE:
            usage.to_run += sign
            _add(self.live.setdefault(task.service_id, {}), task.node_id, sign)

    def _count_state(self, task: Task, status: TaskStatus | None, sign: int) -> None:
        """What of `_count` depends on more than whether the task has ended."""
        state = status.state if status is not None else ASSIGNED
        self.task_counts.by_states[task.desired_state, state] += sign
        if state != RUNNING:
            return
        if task.desired_state < COMPLETE:
            self.running[task.service_id] = self.running.get(task.service_id, 0) + sign
            _add(self.running_on, task.node_id, sign)
        elif task.desired_state > COMPLETE:
            _add(self.stopping.setdefault(task.service_id, {}), task.node_id, sign)

    def _count_node(self, node_id: str, sign: int) -> None:
        super()._count_node(node_id, sign)
        if node_id in self.nodes and self.node_state(node_id).state == DOWN:
            wanted = sum(1 for task in self.tasks_of_node(node_id) if task.desired_state <= RUNNING)
            self.task_counts.strand(sign * wanted)

    def _count_completed(self, task: Task, sign: int) -> None:
        _add(self.completed.setdefault(task.service_id, {}), task.spec_version, sign)


def _add(counts: dict[K, int], key: K, sign: int) -> None:
    """Counts one more or less; a count of none is not kept."""
    count = counts.get(key, 0) + sign
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)
