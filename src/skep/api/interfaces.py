"""What the API needs of the node it speaks for. `daemon.node` fulfils it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from msgspec import Struct

from skep.model.cluster import Cluster, SwarmSpec
from skep.model.event import Event
from skep.model.kernel_net import Carried
from skep.model.logs import LogOptions, LogSelection
from skep.model.material import ConfigSpec, Material
from skep.model.network import Network, NetworkSpec
from skep.model.node import Node, NodeSpec
from skep.model.service import RegistryAuth, Service
from skep.model.since import ApiVersion
from skep.model.spec import ServiceSpec
from skep.model.task import PendingTask, Task
from skep.model.usage import MeasuredServices, MeasuredTasks, NodesAsked, NodeUsage
from skep.model.wire import Wire
from skep.runtime.audience import Write
from skep.runtime.metrics import Registry
from skep.store.view import View


class InitRequest(Wire, frozen=True, kw_only=True):
    """Body of `POST /swarm/init`."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    data_path_port: int = 0
    default_addr_pool: list[str] | None = None  # None: Docker's own, with its size; an empty one: not said
    subnet_size: int = 0
    force_new_cluster: bool = False
    spec: SwarmSpec = SwarmSpec()
    auto_lock_managers: bool = False
    availability: str = ""


class JoinRequest(Wire, frozen=True, kw_only=True):
    """Body of `POST /swarm/join`."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    remote_addrs: list[str] = []
    join_token: str = ""
    availability: str = ""


class UnlockRequest(Wire, frozen=True, kw_only=True):
    """Body of `POST /swarm/unlock`."""

    unlock_key: str = ""


class RestoreRequest(Wire, frozen=True, kw_only=True):
    """Parameters of `POST /skep/v1/restore`."""

    listen_addr: str = ""
    advertise_addr: str = ""
    unlock_key: str = ""


class ReconnectRequest(Wire, frozen=True, kw_only=True):
    """Body of `POST /skep/v1/reconnect`: where managers are now, and where this one is."""

    remote_addrs: list[str] = []
    listen_addr: str = ""
    advertise_addr: str = ""


class LocalNode(Struct, frozen=True):
    """What this node is in its swarm."""

    state: str  # inactive | pending | active | error | locked
    node_id: str = ""
    addr: str = ""
    is_manager: bool = False
    error: str = ""
    managers: tuple[tuple[str, str], ...] = ()  # (node id, address)
    etcd_pid: int = 0  # of this host's etcd; 0: none
    safe_mode: bool = False  # it decides nothing where it leads
    swarm_id: str = ""


class ServiceCommands(Protocol):
    """What users order of services; see `manager.control.services`."""

    async def create(
        self, spec: ServiceSpec, auth: RegistryAuth | None = None, api: ApiVersion | None = None
    ) -> Service: ...
    async def update(
        self,
        service_id: str,
        version: int,
        spec: ServiceSpec,
        auth: RegistryAuth | None = None,
        api: ApiVersion | None = None,
    ) -> Service: ...
    def auth_for(self, service_id: str, given: str, taken_from: str) -> RegistryAuth | None: ...
    async def roll_back(self, service_id: str, version: int) -> Service: ...
    async def remove(self, service_id: str) -> None: ...
    def warnings(self, spec: ServiceSpec) -> list[str]: ...


class NetworkCommands(Protocol):
    """What users order of networks; see `manager.control.networks`."""

    async def create(self, spec: NetworkSpec) -> Network: ...
    async def remove(self, network_id: str) -> None: ...


class MaterialCommands(Protocol):
    """What users order of secrets and configs; see `manager.control.materials`."""

    async def create(self, kind: str, spec: ConfigSpec) -> Material: ...
    async def update(self, material_id: str, version: int, spec: ConfigSpec) -> Material: ...
    async def remove(self, material_id: str) -> None: ...


class NodeCommands(Protocol):
    """What users order of nodes; see `manager.control.nodes`."""

    async def update(self, node_id: str, version: int, spec: NodeSpec) -> Node: ...
    async def remove(self, node_id: str, force: bool) -> None: ...


class ClusterCommands(Protocol):
    """What users order of the swarm itself; see `manager.control.swarm`."""

    async def update(
        self,
        version: int,
        spec: SwarmSpec,
        rotate_worker: bool = False,
        rotate_manager: bool = False,
        rotate_unlock_key: bool = False,
    ) -> Cluster: ...
    async def allow(
        self,
        devices: bool | None,
        privileged: bool | None,
        self_reported_constraints: bool | None,
        data_path: str | None,
    ) -> Cluster: ...
    async def rotate_data_key(self) -> Cluster: ...


class LogLines(Protocol):
    """One request for logs; see `manager.logs.reader`."""

    def parts(self) -> AsyncIterator[bytes]: ...
    def close(self) -> None: ...


class Logs(Protocol):
    """What tasks have put out; see `manager.logs.broker`."""

    def open(
        self, selection: LogSelection, options: LogOptions, since: str, timestamps: bool
    ) -> LogLines: ...


class DataKeyWork(Protocol):
    """The change of the data key: what it waits for, to people, and the same where that takes too long."""

    @property
    def why(self) -> str: ...
    @property
    def why_late(self) -> str: ...


class UsageInSwarm(Protocol):
    """What nodes, services and tasks take of their hosts; see `manager.usage`."""

    def of(self, node_id: str) -> NodeUsage | None: ...
    def recent(self, node_id: str) -> NodeUsage | None: ...
    async def ask_nodes(self, age_s: float = ...) -> NodesAsked: ...
    async def tasks(
        self, nodes: Collection[str] | None, services: Collection[str] | None, sort: str, limit: int
    ) -> MeasuredTasks: ...
    async def services(self, services: Collection[str] | None, sort: str, limit: int) -> MeasuredServices: ...


class WholeBoard(Protocol):
    """The whole board, as JSON and as a gzip file of it."""

    @property
    def data(self) -> bytes: ...
    @property
    def packed(self) -> bytes: ...


class Boards(Protocol):
    """The swarm at a glance, and those who watch it; see `manager.board_keeper`."""

    async def file(self) -> WholeBoard: ...
    async def watch(self, after: str, write: Write, cut: Callable[[], None]) -> None: ...


class Manager(Protocol):
    """A leading manager."""

    @property
    def safe_mode(self) -> bool: ...
    @property
    def view(self) -> View: ...
    @property
    def metrics(self) -> Registry: ...
    @property
    def usage(self) -> UsageInSwarm: ...
    @property
    def services(self) -> ServiceCommands: ...
    @property
    def nodes(self) -> NodeCommands: ...
    @property
    def networks(self) -> NetworkCommands: ...
    @property
    def materials(self) -> MaterialCommands: ...
    @property
    def logs(self) -> Logs: ...
    @property
    def swarm(self) -> ClusterCommands: ...

    @property
    def board(self) -> Boards: ...

    @property
    def data_key(self) -> DataKeyWork: ...

    @property
    def why_nodes_are_held(self) -> str:
        """Why nodes that are not heard of are not given up; empty where they are."""
        ...

    def explain_task(self, task: Task | PendingTask) -> Struct:
        """Returns why the task is where it is, or nowhere (`manager.explain`)."""
        ...

    def explain_service(self, service: Service) -> Struct:
        """Returns what keeps the service from being as it is wanted."""
        ...

    async def inspect_net(self, node: Node) -> Struct:
        """Returns what a node has of the swarm's networks, and finds (`manager.net_inspect`)."""
        ...

    def trace(self, service: Service, port: int, protocol: str, start: Node | Task) -> Struct:
        """Returns the way of a connection to the service, from a node or a task (`manager.net_trace`)."""
        ...


class ContainerPlace(Protocol):
    """Where a single container is to be: the name of the engine's network, its address there, and whom it is
    to ask for names; nobody where the engine knows them itself."""

    @property
    def network(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def node_id(self) -> str: ...
    @property
    def nameservers(self) -> tuple[str, ...]: ...


class Attachments(Protocol):
    """Single containers on the swarm's networks; see `agent.attachments`."""

    def change(self) -> AbstractAsyncContextManager[None]: ...
    async def attach(self, network: str, address: str) -> ContainerPlace: ...


class EventFeed(Protocol):
    """Ends where it is read too slowly; `close` it where it is not wanted any more."""

    def __aiter__(self) -> AsyncIterator[Event]: ...
    async def __anext__(self) -> Event: ...
    def close(self) -> None: ...


class SwarmNode(Protocol):
    """This daemon's part in a swarm."""

    def local(self) -> LocalNode: ...

    @property
    def metrics(self) -> Registry:
        """What this daemon counts as a node, and as a manager, whether it leads or not."""
        ...

    async def carried(self) -> list[tuple[str, Carried]]:
        """Returns what this node has led to services' tasks, with the services' names. Errors: `Unavailable`,
        `Corrupt`."""
        ...

    def manager(self) -> Manager:
        """Errors: `NotManager`, in Docker's words."""
        ...

    def attachments(self) -> Attachments | None:
        """Returns who attaches single containers to networks; None where this is in no swarm, or has no
        engine."""
        ...

    def leader_socket(self) -> str | None:
        """Returns the socket of the API of another manager, which leads; None where there is none."""
        ...

    async def leader_says(self) -> dict[str, Any]:
        """Returns what the leader, another manager, says of the swarm (`/info`). Errors: `Unavailable`."""
        ...

    async def ask_leader(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Returns what another manager, which leads, answers. Errors: as its own, `NoLeader`."""
        ...

    async def check_health(self) -> None:
        """Errors: `Unavailable` where this is no manager with a quorum."""
        ...

    def seen_nodes(self) -> list[str]:
        """Returns the nodes that came to this manager lately and looked for a leader."""
        ...

    async def enrol_for(self, body: bytes) -> bytes:
        """Takes a node in that joins through another manager. Errors: `Denied`, `Invalid`, `Unavailable`."""
        ...

    def join_tokens(self, cluster: Cluster) -> tuple[str, str]:
        """Returns (worker token, manager token)."""
        ...

    async def init(self, request: InitRequest) -> str:
        """Makes a new swarm and returns this node's id."""
        ...

    async def join(self, request: JoinRequest) -> None: ...

    async def backup(self) -> Iterator[bytes]:
        """Returns a backup of the swarm as it is now, in pieces; this manager leads."""
        ...

    async def restore(self, request: RestoreRequest, content: AsyncIterator[bytes]) -> tuple[str, list[str]]:
        """Makes this node the only manager of a swarm as a backup has it; returns the node's id, and what
        was left out, key by key."""
        ...

    async def reconnect(self, request: ReconnectRequest) -> list[str]:
        """Tells this node where managers are now; returns what did not go well, address by address."""
        ...

    async def leave(self, force: bool) -> None: ...

    async def unlock(self, key: str) -> None:
        """Opens a locked manager with the swarm's unlock key, and goes on as at a normal start."""
        ...

    def event_history(self, since_ns: int, until_ns: int | None, tasks: bool) -> list[Event]:
        """Returns what this manager remembers of the swarm's events in that time, in its order."""
        ...

    def event_feed(self, tasks: bool) -> EventFeed:
        """Returns the swarm's events from now on, whoever leads; those of tasks where they are wanted."""
        ...
