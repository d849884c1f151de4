"""What managers answer that is made into points: of each answer, what is read of it.

A member that is missing or of another type makes the answer one that cannot be read; more members than these
do no harm.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from skep.runtime.errors import Unavailable


class MetricSample(Struct, frozen=True, rename="pascal"):
    """One number of a metric; those that are none (true, or null for what cannot be said) are in none that is
    read here."""

    value: float | bool | None
    labels: dict[str, str] = {}
    suffix: str = ""


class MetricAnswer(Struct, frozen=True, rename="pascal"):
    """A metric of the leader's, by name."""

    name: str
    samples: list[MetricSample] = []


class MetricsAnswer(Struct, frozen=True, rename="pascal"):
    """`GET /skep/v1/metrics`."""

    leader: str
    metrics: list[MetricAnswer] = []


class NodeUse(Struct, frozen=True):
    """What a node has said of itself: cores in use, bytes of memory in use."""

    cpu_cores: float = field(name="CPUCores")
    memory_used_bytes: int = field(name="MemoryUsedBytes")


class NodeAnswer(Struct, frozen=True):
    """A node in `GET /skep/v1/nodes/usage`; `usage` is None where it has said nothing (yet)."""

    id: str = field(name="ID")
    hostname: str = field(name="Hostname")
    nano_cpus: int = field(name="NanoCPUs")
    memory_bytes: int = field(name="MemoryBytes")
    usage: NodeUse | None = field(name="Usage", default=None)


class NodesAnswer(Struct, frozen=True, rename="pascal"):
    """`GET /skep/v1/nodes/usage`."""

    nodes: list[NodeAnswer] = []


class ServiceCount(Struct, frozen=True, rename="pascal"):
    """Docker's `ServiceStatus`. A job's desired tasks are those that may be under way at once, also when all
    is done."""

    running_tasks: int = 0
    desired_tasks: int = 0
    completed_tasks: int = 0


class JobMode(Struct, frozen=True, rename="pascal"):
    """Docker's `ReplicatedJob`."""

    total_completions: int | None = None


class ModeAnswer(Struct, frozen=True, rename="pascal"):
    """Docker's `Mode`: one of its members is there."""

    replicated: dict[str, Any] | None = None
    global_: dict[str, Any] | None = field(name="Global", default=None)
    replicated_job: JobMode | None = None
    global_job: dict[str, Any] | None = None


class ServiceText(Struct, frozen=True, rename="pascal"):
    """Docker's `ServiceSpec`."""

    name: str
    mode: ModeAnswer = ModeAnswer()


class ServiceAnswer(Struct, frozen=True, rename="pascal"):
    """A service in Docker's `GET /services?status=true`."""

    id: str = field(name="ID")
    spec: ServiceText
    service_status: ServiceCount = ServiceCount()


class ManagerState(Struct, frozen=True, rename="pascal"):
    """Docker's `ManagerStatus`; `reachability` is reachable, unreachable or unknown."""

    leader: bool = False
    reachability: str = ""


class HostText(Struct, frozen=True, rename="pascal"):
    """Docker's node `Description`."""

    hostname: str = ""


class ManagerAnswer(Struct, frozen=True, rename="pascal"):
    """A node in Docker's `GET /nodes`; one that manages no more has no `manager_status`."""

    id: str = field(name="ID")
    description: HostText = HostText()
    manager_status: ManagerState | None = None


class SwarmAnswers(Struct, frozen=True):
    """All that a gather asks for."""

    metrics: MetricsAnswer
    nodes: NodesAnswer
    services: list[ServiceAnswer]
    managers: list[ManagerAnswer]

    @property
    def leaders(self) -> list[str]:
        """Returns the ids of managers that are said to lead: one."""
        return [each.id for each in self.managers if each.manager_status and each.manager_status.leader]


T = TypeVar("T")


def read_answer(path: str, content: object, kind: type[T]) -> T:
    """Returns the JSON of an answer as `kind`. Errors: `Unavailable`, which says where it cannot be."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise Unavailable(f"the answer to {path} cannot be read: {error}") from error
