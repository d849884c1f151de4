"""What hosts and tasks take, in JSON: skep's own, in Docker's way of writing."""

from __future__ import annotations

from msgspec import Struct, field

from skep.api.objects import reply_time
from skep.model.node import Node
from skep.model.usage import NodeUsage
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
    """The answer of `/skep/v1/nodes/usage`."""

    at: str
    nodes: list[NodeUsageJson]


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
