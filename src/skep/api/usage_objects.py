"""What hosts, services and tasks take, in JSON: skep's own, in Docker's way of writing."""

from __future__ import annotations

from msgspec import Struct, field

from skep.api.objects import reply_time
from skep.model.node import Node
from skep.model.states import STATE_NAMES
from skep.model.task import Task, assigned_status
from skep.model.usage import MeasuredService, MeasuredTask, NodeUsage
from skep.store.view import View


class HostUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """`CPUCores` are processors in use, on average over a moment before `At`."""

    at: str
    cpu_cores: float = field(name="CPUCores")
    memory_used_bytes: int
    load1: float = field(name="Load1")


class NodeUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A node with what it has (`NanoCPUs`, `MemoryBytes`), and what of that is in use; `Usage` is null where
    it is not known."""

    id: str = field(name="ID")
    hostname: str
    role: str
    state: str
    availability: str
    leader: bool
    nano_cpus: int = field(name="NanoCPUs")
    memory_bytes: int
    tasks_running: int
    usage: HostUsageJson | None


class NodesUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer of `/skep/v1/nodes/usage`. `Asked` nodes were to say it now, and `Answered` have; the others
    have what they said last. Both are 0 where nobody was asked."""

    at: str
    asked: int
    answered: int
    nodes: list[NodeUsageJson]


class TaskUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A task and what it takes. `Restarts`: how many tasks of its slot, with the same spec, ended before it.
    `MemoryLimitBytes` is its node's memory where it has no limit of its own."""

    id: str = field(name="ID")
    name: str
    node_id: str = field(name="NodeID")
    hostname: str
    service_id: str = field(name="ServiceID")
    state: str
    cpu_cores: float = field(name="CPUCores")
    memory_bytes: int
    memory_limit_bytes: int
    restarts: int


class TasksUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer of `/skep/v1/tasks/usage`: of `Total` tasks that were measured those that take most."""

    at: str
    asked: int
    answered: int
    total: int
    tasks: list[TaskUsageJson]


class ServiceUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A service and what its tasks take together, as far as they were measured (`TasksMeasured`)."""

    id: str = field(name="ID")
    name: str
    mode: str
    tasks_running: int
    tasks_measured: int
    cpu_cores: float = field(name="CPUCores")
    memory_bytes: int
    restarts: int


class ServicesUsageJson(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer of `/skep/v1/services/usage`: of `Total` services those that take most."""

    at: str
    asked: int
    answered: int
    total: int
    services: list[ServiceUsageJson]


def node_usage_json(view: View, node: Node, leader_id: str, usage: NodeUsage | None) -> NodeUsageJson:
    """Returns a node and how much of it is used."""
    described = node.description
    return NodeUsageJson(
        id=node.id,
        hostname=described.hostname,
        role=view.role_of(node),
        state=view.node_state(node.id).state,
        availability=node.spec.availability,
        leader=node.id == leader_id,
        nano_cpus=described.resources.nano_cpus,
        memory_bytes=described.resources.memory_bytes,
        tasks_running=view.running_on.get(node.id, 0),
        usage=None if usage is None else _host(usage),
    )


def _host(usage: NodeUsage) -> HostUsageJson:
    return HostUsageJson(
        at=reply_time(usage.at),
        cpu_cores=usage.host.cpu_cores,
        memory_used_bytes=usage.host.memory_bytes,
        load1=usage.host.load1,
    )


def task_usage_json(view: View, measured: MeasuredTask) -> TaskUsageJson:
    """Returns a task and what it takes."""
    task, usage = measured.task, measured.usage
    status = view.status_of(task) or assigned_status(task)
    node = view.nodes.get(task.node_id)
    of_node = node.description.resources.memory_bytes if node is not None else 0
    return TaskUsageJson(
        id=task.id,
        name=_task_name(view, task),
        node_id=task.node_id,
        hostname=node.description.hostname if node is not None else "",
        service_id=task.service_id,
        state=STATE_NAMES.get(status.state, status.state_name),
        cpu_cores=usage.cpu_cores,
        memory_bytes=usage.memory_bytes,
        memory_limit_bytes=usage.memory_limit_bytes or of_node,
        restarts=task.attempt,
    )


def _task_name(view: View, task: Task) -> str:
    """Returns what `docker service ps` calls it: `web.3`, a task of a global service `web.NODE`."""
    service, removed = view.services.get(task.service_id), view.removed.get(task.service_id)
    name = service.spec.name if service else removed.name if removed else task.service_id
    return f"{name}.{view.shown_slot(task) or task.node_id}"


def service_usage_json(view: View, measured: MeasuredService) -> ServiceUsageJson:
    """Returns a service and what its tasks take."""
    service = measured.service
    return ServiceUsageJson(
        id=service.id,
        name=service.spec.name,
        mode=service.spec.mode_name,
        tasks_running=view.running.get(service.id, 0),
        tasks_measured=measured.tasks,
        cpu_cores=measured.cpu_cores,
        memory_bytes=measured.memory_bytes,
        restarts=measured.restarts,
    )
