"""The leader's picture of the swarm, in memory, indexed the ways deciders and the API ask.

Everything handed out is frozen or must not be changed by the reader. Only `store.commits` (durable
objects, once committed) and the dispatcher's reports (soft statuses) change it, from the event loop and
without awaiting, so a decider sees one consistent picture.

Costs: one task changed is O(1); nothing here walks all tasks but `tasks.values()`.
"""

from __future__ import annotations

from collections.abc import Iterable

from skep.model.attachment import Attachment
from skep.model.cluster import Cluster
from skep.model.constraint import eligible
from skep.model.generic import key_and_count
from skep.model.material import KINDS, Material
from skep.model.network import PREDEFINED, Network, ingress_of
from skep.model.node import NODE_UNKNOWN, READY, Node, NodeStatus, NodeTls
from skep.model.service import RemovedService, Service, TaskTemplate
from skep.model.states import COMPLETE, REMOVE, RUNNING, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus
from skep.store.claims import Claims
from skep.store.demand import Demand, Usage
from skep.store.excess import excess_of, is_over
from skep.store.port import Member

TICK_S = 1e-6  # what a float of seconds since the epoch can still tell apart
SlotKey = int | str  # a replicated service's slot number; a global service's node id


def slot_key(task: Task) -> SlotKey:
    """Returns what the task is one of: its slot, or its node for a global service (slot 0)."""
    return task.slot or task.node_id


class View:
    """See the module's text. `pending` holds tasks without a node, by service."""

    def __init__(self) -> None:
        self.revision = 0
        self.led_since = 0.0  # when this leader began: what was to be waited for is waited for anew
        self.cluster: Cluster | None = None
        self.members: tuple[Member, ...] = ()  # who holds the store, as the leader last saw
        self.reachable: frozenset[str] = frozenset()  # node ids of members that answer
        self.nodes: dict[str, Node] = {}
        self.node_status: dict[str, NodeStatus] = {}
        self.node_tls: dict[str, NodeTls] = {}  # as the nodes say it, to this leader
        self.services: dict[str, Service] = {}
        self.service_ids: dict[str, str] = {}  # name -> id
        self.service_names: dict[str, str] = {}  # name in lower case -> id: no two may differ by case only
        self.removed: dict[str, RemovedService] = {}
        self.networks: dict[str, Network] = {}
        self.network_ids: dict[str, str] = {}  # name -> id
        self.materials: dict[str, Material] = {}  # secrets and configs
        # kind -> name in lower case -> id
        self.material_ids: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self.claims = Claims()  # addresses and ports that are given out
        self.attached: dict[str, dict[str, Attachment]] = {}  # node -> id -> a single container on a network
        self.tasks: dict[str, Task] = {}
        self.status: dict[str, TaskStatus] = {}  # last report of live tasks, by task id
        # service -> slot -> its tasks, oldest first: tuples of tasks are nothing to Python's garbage
        # collector, whose full rounds stop the leader, and there is one for each replica
        self.slots: dict[str, dict[SlotKey, tuple[Task, ...]]] = {}
        self.buckets: dict[str, dict[str, dict[str, Task]]] = {}  # node -> service -> task id -> task
        self.pending: dict[str, dict[SlotKey, PendingTask]] = {}  # service -> slot -> task
        self.pending_ids: dict[str, PendingTask] = {}
        self.usage: dict[str, Usage] = {}
        self.running: dict[str, int] = {}  # service -> tasks wanted and observed running
        self.live: dict[str, dict[str, int]] = {}  # service -> node -> tasks not finished and wanted
        self.completed: dict[str, dict[int, int]] = {}  # service -> version -> tasks that ended well
        self.newest_at: dict[str, float] = {}  # service -> when the latest of its tasks so far was made
        self._demands: dict[tuple[str, int], Demand] = {}
        self._excess: dict[str, tuple[object, frozenset[str]]] = {}  # node -> (of what, task ids)
        for network in PREDEFINED:
            self.put_network(network)

    # Reading

    def status_of(self, task: Task) -> TaskStatus | None:
        """Returns the final status, or the last report; None where the agent has not spoken yet."""
        return task.result or self.status.get(task.id)

    def desired_of(self, task: Task) -> int:
        """Returns the desired state, which the removal of the service overrides."""
        return REMOVE if task.service_id in self.removed else task.desired_state

    def node_state(self, node_id: str) -> NodeStatus:
        return self.node_status.get(node_id, NODE_UNKNOWN)

    def is_member(self, node_id: str) -> bool:
        """True when the node holds a copy of the store."""
        return any(member.node_id == node_id for member in self.members)

    def is_learner(self, node_id: str) -> bool:
        """True when the node's copy of the store has no vote (yet)."""
        return any(member.node_id == node_id and member.is_learner for member in self.members)

    def reachability_of(self, node_id: str) -> str:
        """Returns Docker's word for a manager; an empty text for a node that holds no copy of the store."""
        if not self.is_member(node_id):
            return ""
        if self.is_learner(node_id):
            return "unknown"  # Docker's own third word: it does not count as a manager yet
        return "reachable" if node_id in self.reachable else "unreachable"

    def role_of(self, node: Node) -> str:
        """Returns what the node is to act as: a manager stays one until its copy of the store is let go."""
        return "manager" if node.spec.role == "manager" or self.is_member(node.id) else "worker"

    def manager_addresses(self, first: str = "") -> list[str]:
        """Returns where managers are reached (host:port), that of node `first` before the others."""
        managers = [n for n in self.nodes.values() if n.manager_addr and self.is_member(n.id)]
        return [n.manager_addr for n in sorted(managers, key=lambda n: (n.id != first, n.id))]

    def is_schedulable(self, node: Node) -> bool:
        """True when new tasks may go to the node."""
        return node.spec.availability == "active" and self.node_state(node.id).state == READY

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

    def is_job(self, service_id: str) -> bool:
        """True for a job, also while it is being removed."""
        service = self.services.get(service_id)
        if service is not None:
            return service.spec.is_job
        removed = self.removed.get(service_id)
        return removed is not None and removed.is_job

    def shown_slot(self, task: Task | PendingTask) -> int:
        """Returns the slot as Docker counts: jobs' from 0, ours from 1 (0 is "one per node" here)."""
        return task.slot - 1 if task.slot and self.is_job(task.service_id) else task.slot

    def template_of(self, task: Task) -> TaskTemplate | None:
        return self._template(task.service_id, task.spec_version)

    def _template(self, service_id: str, version: int) -> TaskTemplate | None:
        service = self.services.get(service_id)
        if service is not None:
            return service.template_of(version)
        removed = self.removed.get(service_id)
        if removed is None or not removed.templates:
            return None
        for template in removed.templates:
            if template.version == version:
                return template
        return removed.templates[-1]

    def material(self, kind: str, material_id: str, name: str) -> Material | None:
        """Returns the secret or config that a service refers to: its name has to be right as well."""
        found = self.materials.get(material_id)
        is_meant = found is not None and found.kind == kind and found.spec.name == name
        return found if is_meant else None

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

    def demand(self, service_id: str, spec_version: int) -> Demand:
        """Returns what a task of that version takes, also while its service is being removed."""
        key = (service_id, spec_version)
        found = self._demands.get(key)
        if found is None:
            template = self._template(service_id, spec_version)
            found = Demand(template, self._networks_of(template))
            if template is not None:
                self._demands[key] = found
        return found

    def is_excess(self, task: Task) -> bool:
        """True for a task that its node has no room for any more: it became smaller (`store.excess`). A node
        that is paused keeps what it has."""
        node, usage = self.nodes.get(task.node_id), self.usage.get(task.node_id)
        if node is None or usage is None or node.spec.availability != "active":
            return False
        resources = node.description.resources
        if not is_over(resources, usage.nano_cpus, usage.memory_bytes, usage.generic):
            return False
        held = (usage.tasks, usage.to_run, usage.nano_cpus, usage.memory_bytes, tuple(usage.generic.items()))
        key = (node.version, len(self.removed), held)
        known = self._excess.get(node.id)
        if known is None or known[0] != key:
            live = [t for t in self.tasks_of_node(node.id) if self._is_to_run(t)]
            known = self._excess[node.id] = (key, excess_of(resources, live, self._needs))
        return task.id in known[1]

    def _is_to_run(self, task: Task) -> bool:
        status = self.status_of(task)
        return self.desired_of(task) <= RUNNING and not (status is not None and is_terminal(status.state))

    def _needs(self, task: Task) -> tuple[int, int]:
        demand = self.demand(task.service_id, task.spec_version)
        return demand.nano_cpus, demand.memory_bytes

    def _networks_of(self, template: TaskTemplate | None) -> tuple[str, ...]:
        if template is None or not (template.ports or template.spec.networks or template.networks):
            return ()
        found: dict[str, None] = {}
        if any(port.publish_mode in ("", "ingress") for port in template.endpoint.ports):
            ingress = ingress_of(self.networks.values())
            if ingress is not None:
                found[ingress.id] = None
        for attached in template.spec.networks or template.networks:
            if attached.target in self.claims.books:
                found[attached.target] = None
        return tuple(found)

    # Changing: durable objects, after their commit

    def put_cluster(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def put_node(self, node: Node) -> None:
        known = self.nodes.get(node.id)
        if known is None or known.version <= node.version:
            self.nodes[node.id] = node

    def drop_node(self, node_id: str) -> None:
        self.nodes.pop(node_id, None)
        self.node_status.pop(node_id, None)
        self.node_tls.pop(node_id, None)
        self._excess.pop(node_id, None)
        for attachment in list(self.attached.get(node_id, {}).values()):
            self.drop_attachment(attachment)
        if node_id not in self.buckets:  # tasks of its that are still there are counted until they go
            self.usage.pop(node_id, None)

    def put_service(self, service: Service) -> None:
        known = self.services.get(service.id)
        if known is None or known.version <= service.version:
            self.services[service.id] = service
            self.service_ids[service.spec.name] = service.id
            self.service_names[service.spec.name.lower()] = service.id
            self.claims.settle(service.id, service.endpoint)

    def remove_service(self, removed: RemovedService) -> None:
        """The service is gone for users; its tasks are on their way out."""
        service = self.services.pop(removed.id, None)
        if service is not None:
            self.service_ids.pop(service.spec.name, None)
            self.service_names.pop(service.spec.name.lower(), None)
            self.claims.settle(service.id, None)
        self.removed[removed.id] = removed
        self.drop_all_pending(removed.id)

    def drop_removed(self, service_id: str) -> None:
        self.removed.pop(service_id, None)
        self.slots.pop(service_id, None)
        self.live.pop(service_id, None)
        self.running.pop(service_id, None)
        self.newest_at.pop(service_id, None)
        self.completed.pop(service_id, None)
        for key in [k for k in self._demands if k[0] == service_id]:
            del self._demands[key]

    def put_network(self, network: Network) -> None:
        known = self.networks.get(network.id)
        if known is None or known.version <= network.version:
            self.networks[network.id] = network
            self.network_ids[network.spec.name] = network.id
            self.claims.add_network(network)

    def drop_network(self, network_id: str) -> None:
        network = self.networks.pop(network_id, None)
        self.claims.drop_network(network_id)
        if network is not None and self.network_ids.get(network.spec.name) == network_id:
            del self.network_ids[network.spec.name]

    def put_attachment(self, attachment: Attachment) -> None:
        self.attached.setdefault(attachment.node_id, {})[attachment.id] = attachment
        self.claims.hold_attached(attachment)

    def drop_attachment(self, attachment: Attachment) -> None:
        of_node = self.attached.get(attachment.node_id, {})
        if of_node.pop(attachment.id, None) is not None and not of_node:
            del self.attached[attachment.node_id]
        self.claims.release(attachment.address, attachment)

    def put_material(self, material: Material) -> None:
        known = self.materials.get(material.id)
        if known is None or known.version <= material.version:
            self.materials[material.id] = material
            self.material_ids[material.kind][material.spec.name.lower()] = material.id

    def drop_material(self, material_id: str) -> None:
        material = self.materials.pop(material_id, None)
        if material is not None:
            self.material_ids[material.kind].pop(material.spec.name.lower(), None)

    def put_task(self, task: Task) -> None:
        old = self.tasks.get(task.id)
        status = self.status_of(old) if old else None
        self._count(old, status, -1)
        self.tasks[task.id] = task
        self._put_in_slot(task, old)
        self.buckets.setdefault(task.node_id, {}).setdefault(task.service_id, {})[task.id] = task
        if task.addresses:
            self.claims.hold(task)
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
            self.claims.release(address, old)
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
        self._count(task, known, -1)
        self.status[task.id] = status
        self._count(task, status, +1)
        return True

    def put_node_status(self, node_id: str, status: NodeStatus) -> None:
        self.node_status[node_id] = status

    def put_node_tls(self, node_id: str, tls: NodeTls) -> None:
        self.node_tls[node_id] = tls

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
        if status is not None and is_terminal(status.state):
            if status.state == COMPLETE:
                self._count_completed(task, sign)
            return
        usage = self.usage.get(task.node_id)
        if usage is None:
            usage = self.usage[task.node_id] = Usage()
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
            live = self.live.setdefault(task.service_id, {})
            count = live.get(task.node_id, 0) + sign
            if count:
                live[task.node_id] = count
            else:
                live.pop(task.node_id, None)
            if status is not None and status.state == RUNNING:
                self.running[task.service_id] = self.running.get(task.service_id, 0) + sign

    def _count_completed(self, task: Task, sign: int) -> None:
        versions = self.completed.setdefault(task.service_id, {})
        count = versions.get(task.spec_version, 0) + sign
        if count:
            versions[task.spec_version] = count
        else:
            versions.pop(task.spec_version, None)
