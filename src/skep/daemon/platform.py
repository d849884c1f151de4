"""What a node runs on: a machine with its disk, its engine, its port and its etcd. `this_host` is the real
one, `sim.machine` one in virtual time; all that is above is the same code.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from skep.agent.executor.interfaces import Executor
from skep.agent.plane import Plane
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings, Line
from skep.daemon.state import Membership
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.model.event import Event
from skep.model.host_network import HostNetwork
from skep.rpc.certificates import NodeKeys
from skep.rpc.enrol import Stayed
from skep.rpc.enrolment_messages import Enrolled
from skep.rpc.interfaces import Handler
from skep.rpc.link import FrameLink
from skep.rpc.streams import OpenStream
from skep.runtime.clock import Clock
from skep.runtime.metrics import Metric
from skep.store.interfaces import ClusterStore, Store, Txn

if TYPE_CHECKING:
    from skep.daemon.leader_client import EnrolFor


class StoreCopy(Protocol):
    """This manager's copy of the swarm's store."""

    @property
    def has_data(self) -> bool:
        """True where it was a member before."""
        ...

    @property
    def pid(self) -> int:
        """The process id of what keeps it; 0 while nothing does."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def trouble(self) -> str:
        """Returns why it ended a moment ago, in its own words; an empty text where it did not."""
        ...

    async def start(self, peers: Sequence[str], force_new_cluster: bool = False) -> ClusterStore:
        """Returns the store once it answers, or has peers to wait for. `force_new_cluster` makes this member
        the only one, with all that it has. Errors: `Invalid`, `Unavailable`."""
        ...

    async def maintain(self, say: Callable[[str], None]) -> None:
        """Keeps it small; `say` hears why nothing can be written, and when it can again. Never returns."""

    async def commit_cured(self, store: Store, txn: Txn) -> None:
        """Writes by `store`, after a cure where it is full. Errors: `Unavailable`."""

    async def stop(self) -> None:
        """Ends it; may be called twice, and without a start."""


class Listener(Protocol):
    """A manager's port."""

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    async def listen(self, host: str, port: int, accept: Callable[[FrameLink], Handler | None]) -> None:
        """Opens it; where one is open, in its place. Errors: `NoAddress`; then all is as before."""

    def use(self, keys: NodeKeys) -> None:
        """New connections are shown this certificate, and are trusted by this root."""

    async def close(self) -> None:
        """Stops listening and ends all connections."""


class Links(Protocol):
    """The other managers: where they are, and a door to each."""

    addresses: dict[str, str]  # by node id
    refused_by: set[str]  # managers that say that this node is none of their swarm

    def use(self, keys: NodeKeys) -> None: ...
    def learn(self, node_id: str, address: str) -> None: ...
    def move(self, address: str) -> None: ...
    def keep(self, node_ids: Container[str]) -> None: ...
    async def open_doors(self, node_ids: Iterable[str]) -> None:
        """Has a door to each of these managers, and to no other. Errors: `Invalid`."""

    def api_socket(self, node_id: str) -> str | None: ...
    def close(self) -> None: ...


class Streams(Protocol):
    """The far end of other managers' streams."""

    def serve(self, link: FrameLink, asked: OpenStream) -> None: ...
    def refuse(self, link: FrameLink, reason: str, is_no_manager: bool = False) -> None: ...
    def close_others(self, node_ids: Container[str]) -> None: ...
    def close(self) -> None: ...


class LeaderLine(Protocol):
    """Calls of this manager's own to others, by their doors. Errors: as theirs, `NoLeader`, `Unavailable`."""

    async def is_well(self, socket: str) -> bool: ...
    async def seen(self, socket: str) -> list[str]: ...
    async def swarm(self) -> dict[str, Any]: ...
    async def enrol(self, asked: EnrolFor) -> Enrolled: ...
    async def ask(self, method: str, path: str, body: bytes | None = None) -> bytes: ...
    async def demote(self, node_id: str) -> None: ...
    def events(self, tasks: bool) -> AsyncIterator[Event]: ...
    async def close(self) -> None: ...


class ManagerParts(Struct, frozen=True):
    """What a manager of this machine stands on. `line_by` makes its line to a leader whose socket the
    function says, None where there is no other. `overlay_bounds`: how much it tells of large networks."""

    etcd: StoreCopy
    listener: Listener
    links: Links
    streams: Streams
    line_by: Callable[[Callable[[], str | None]], LeaderLine]
    overlay_bounds: Bounds = Bounds()


class HostPlatform(Protocol):
    """One machine."""

    @property
    def hostname(self) -> str: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def rng(self) -> random.Random: ...

    @property
    def safe_mode(self) -> bool:
        """True where its manager decides nothing while it leads."""
        ...

    def make_executor(self) -> Executor:
        """Returns what runs tasks: a new one for each membership."""
        ...

    def make_plane(self, node_id: str, cluster_id: str = "") -> Plane | None:
        """Returns what programs the kernel for published ports and networks; None where nothing does."""
        ...

    def make_agent(
        self, settings: AgentSettings, line: Line, parts: AgentParts, owner: AgentOwner
    ) -> AgentRunner: ...

    async def own_networks(self) -> list[HostNetwork]:
        """Returns what this machine has; nothing where no container here is on a network of the swarm's."""
        ...

    def line(self, keys: NodeKeys, stayed: Stayed | None = None) -> Line:
        """Returns what opens connections to managers, the first one on what has `stayed`, if anything."""
        ...

    async def manager_parts(
        self, membership: Membership, keys: NodeKeys, moved: Callable[[dict[str, str]], None]
    ) -> ManagerParts:
        """`moved` hears of the other managers' addresses. Errors: `Invalid`."""
        ...
