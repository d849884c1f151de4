"""What the agent needs of whatever runs containers. Two classes fulfil it: docker and simulated.

The agent says what to do next for a task (`begin`), never waits, and hears of it through `report`. That
keeps a simulated node with thousands of tasks free of a coroutine per task.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from skep.model.container import LogDriver
from skep.model.logs import LogOptions
from skep.model.material import MaterialPayload
from skep.model.node import NodeDescription
from skep.model.task import TaskAddress
from skep.rpc.messages import AssignedTask, ServiceTemplate, TaskNetwork


class TaskContext(Struct, frozen=True):
    """All an executor needs to run one task. `log_driver` is the swarm's, for tasks that name none;
    `materials` are the secrets and configs that the node was given, by id."""

    task: AssignedTask
    template: ServiceTemplate
    node_id: str
    node_hostname: str
    log_driver: LogDriver | None = None
    materials: dict[str, MaterialPayload] = {}


class Action(Enum):
    """What is to be done next for a task."""

    PREPARE = "prepare"  # image there, container created -> READY
    START = "start"  # -> STARTING, RUNNING; later COMPLETE or FAILED when it exits
    STOP = "stop"  # -> SHUTDOWN
    REMOVE = "remove"  # container deleted; nothing is reported


class Observation(Struct, frozen=True, gc=False):
    """What an executor saw of a task. `state` is a TaskState value; `at` epoch seconds."""

    task_id: str
    state: int
    at: float
    message: str = ""
    error: str = ""
    container_id: str = ""
    pid: int = 0
    exit_code: int = 0
    ports: tuple[tuple[str, int, int], ...] = ()


class Adopted(Struct, frozen=True):
    """A container of ours that was found at start, with the state it is in."""

    task_id: str
    service_id: str
    observation: Observation


Report = Callable[[Observation], None]


class RunningTask(Struct, frozen=True, gc=False):
    """A task whose container runs, and its first process on this host (0: not known)."""

    task_id: str
    container_id: str
    pid: int


class Counted(Struct, frozen=True, gc=False):
    """What a container, or the host, has used at that moment (`at`, in seconds that never jump): processors
    since it began (seconds), memory (bytes), and how much of that it may have; 0: no limit of its own."""

    at: float
    cpu_s: float
    memory_bytes: int
    memory_limit_bytes: int = 0


class UsageReading(Struct, frozen=True):
    """Of the host with its load of the last minute, and of tasks' containers, by task id."""

    host: Counted
    load1: float
    tasks: dict[str, Counted] = {}


class Prepared(Struct, frozen=True):
    """The name of an engine's network, and whom a container on it is to ask for names: nobody where the
    engine knows them itself."""

    name: str
    nameservers: tuple[str, ...] = ()


class InUse(Struct, frozen=True):
    """What a single container has on a network. `names` are its own and its aliases there."""

    address: TaskAddress
    names: tuple[str, ...] = ()


class Containers(Protocol):
    """Single containers of the node on the swarm's networks. Errors: as the engine's client's."""

    async def prepare(self, network: TaskNetwork, address: TaskAddress) -> Prepared:
        """Returns the engine's network that stands for the swarm's; it is there by now, and stays until
        `hold` no longer names it."""
        ...

    async def in_use(self) -> list[InUse]:
        """Returns what they have, whether they run or not."""
        ...

    def hold(self, network_ids: frozenset[str]) -> None:
        """They need these networks here, and no others."""
        ...


class NameServer(Protocol):
    """Answers containers' questions for names; see `agent.naming`."""

    def serve(self, network_id: str, gateway: str, is_internal: bool) -> None:
        """Containers on the network are about to ask at its gateway here."""
        ...

    def stop(self, network_id: str) -> None:
        """None is on it any more."""
        ...

    def ask_for(self, address: str, nameservers: Iterable[str]) -> None:
        """The user has named these for the container with this address; none: the host's are asked."""
        ...


class Executor(Protocol):
    """Errors: `Unavailable` when the engine cannot be reached (begin retries by itself instead)."""

    @property
    def single(self) -> Containers | None:
        """Returns who knows the single containers on the swarm's networks; None where there is no engine."""
        ...

    def use_names(self, server: NameServer) -> None:
        """Has containers on the swarm's networks ask there for names; said before `start`."""
        ...

    async def start(self, node_id: str, report: Report) -> None:
        """Connects; from now on `report` is called from the event loop for every observation."""
        ...

    @property
    def looks_again_s(self) -> float | None:
        """How often what the node is may be worth looking at; None where it never changes."""
        ...

    @property
    def can_freeze(self) -> bool:
        """False where the engine always answers: nobody need ask."""
        ...

    async def ping(self, wait_s: float) -> None:
        """Errors: `Unavailable` where the engine does not answer within `wait_s`."""
        ...

    async def describe(self) -> NodeDescription:
        """Returns what the node is: host name, platform, resources, engine."""
        ...

    async def adopt(self) -> list[Adopted]:
        """Returns the containers of this node's tasks that exist already."""
        ...

    def begin(self, action: Action, context: TaskContext) -> None:
        """Starts an action and returns at once. A task has at most one action under way, except that
        STOP may overtake PREPARE or START, which are then given up."""
        ...

    def remove_unknown(self, task_id: str) -> None:
        """Stops and deletes the container of a task nobody knows any more (a leftover)."""
        ...

    async def clear(self, node_id: str, sweeps: bool) -> list[str]:
        """Ends and removes at once what a node has here: containers, networks that nobody else needs, files.
        Where it is the node of `start`, nothing is begun afterwards. `sweeps`: networks of swarms that
        nobody needs go, too, whoever made them; where another node of this daemon works, it may be about to
        need them. Returns what is still there, for people; raises nothing."""
        ...

    def logs(self, task_id: str, since: str, options: LogOptions, limit: int) -> AsyncIterator[bytes]:
        """Yields what a task has put out: frames as the engine's (stream, length, line), whole ones, `limit`
        bytes at a time where no single one is longer. A line is its time, a space, with `details` what the
        log driver says of it and another space, and its text.

        Nothing where its container is gone. Errors: `SkepError` where they cannot be read."""
        ...

    async def read_usage(self, tasks: Sequence[RunningTask]) -> UsageReading:
        """Returns what the host and these tasks have used by now; those that cannot be read are left out.
        Errors: `Unavailable` where the host cannot be read either."""
        ...

    async def close(self) -> None:
        """Stops watching. Containers run on."""
        ...
