"""Tasks: the durable decision (`Task`) and what the agent last said of it (`TaskStatus`).

Durable, in etcd: identity, slot, spec version, desired state, terminal result. Soft, in the leader's
memory: the observed state while the task is alive. Agents say it again when a session starts.
"""

from __future__ import annotations

from msgspec import Struct

from .generic import Claim
from .states import ASSIGNED, STATE_NAMES

TIME_MAX_S = 253_402_300_799.0  # the end of the year 9999, as clients of Docker's API read times


def known_time(at: float) -> float:
    """Returns the time, or 0 for what is none: a store may hold what was never checked."""
    return at if 0.0 <= at <= TIME_MAX_S else 0.0


class TaskStatus(Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """What was last observed of a task. Written by its agent (above ASSIGNED)."""

    state: int
    at: float  # seconds since the epoch, on the agent's clock
    message: str = ""
    error: str = ""
    container_id: str = ""
    pid: int = 0
    exit_code: int = 0
    ports: tuple[tuple[str, int, int], ...] = ()  # host ports bound: (protocol, target, published)
    started_at: float = 0.0  # when it was first seen running; 0: never

    @property
    def state_name(self) -> str:
        """Returns Docker's word for the state. A store of an earlier skep may hold one that nobody knows."""
        return STATE_NAMES.get(self.state, "orphaned")


class TaskAddress(Struct, frozen=True, gc=False, array_like=True):
    """A task's address on a network, with its prefix length; `gateway` is its node's own one there."""

    network_id: str
    address: str
    gateway: str


class Task(Struct, frozen=True, gc=False):
    """One task as it is decided; stored in the bucket of its node and service.

    `slot` is 0 for global services. `spec_version` names one of the service's task specs. `run_at` is
    when a task that replaces a failed one may run (its desired state is READY until then); 0: at once.
    `result` is the final status, once there is one.
    """

    id: str
    service_id: str
    node_id: str
    slot: int
    spec_version: int
    desired_state: int
    created_at: float
    updated_at: float
    run_at: float = 0.0
    result: TaskStatus | None = None
    attempt: int = 0  # how many tasks of this slot and version ended before it
    revision: int = 0  # of the bucket it was last stored in; not stored itself
    generic: tuple[Claim, ...] = ()  # what it was given of its node's generic resources
    addresses: tuple[TaskAddress, ...] = ()  # its own from its placement on, until it has a result


class PendingTask(Struct, frozen=True, gc=False):
    """A task that has no node yet: soft state, made again by a new leader from the services' counts."""

    id: str
    service_id: str
    slot: int
    spec_version: int
    created_at: float
    reason: str = ""  # why no node suits, in Docker's words
    run_at: float = 0.0
    attempt: int = 0
    node_id: str = ""  # the node it is for (global services)
    avoid_node_id: str = ""
    refused_by: str = ""  # the reason in a word, of few: what is counted by it


def assigned_status(task: Task) -> TaskStatus:
    """Returns the status of a task its agent has not yet reported on."""
    return TaskStatus(ASSIGNED, task.created_at, "scheduler assigned task to node")


def container_name(service_name: str, shown_slot: int, node_id: str, task_id: str) -> str:
    """Returns Docker's name of a task's container: service, slot (node for global services), task id."""
    return f"{service_name}.{shown_slot or node_id}.{task_id}"
