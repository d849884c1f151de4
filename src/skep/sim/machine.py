"""A simulated machine as a platform of its node (`daemon.platform`): what the product asks of a real one, in
virtual time. Certificates are real, TLS is not: who connects shows one, and each end looks at the other's.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from skep.daemon.leader_client import CALL_S, KNOCK_S, EnrolFor
from skep.daemon.manager_links import Door, ManagerLinks, Moved
from skep.daemon.manager_runner import ManagerRunner
from skep.daemon.platform import ManagerParts
from skep.daemon.state import Membership
from skep.manager.ca.authority import Authority, new_root
from skep.model.event import Event
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.rpc.enrolment_messages import Enrolled
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.streams import API, RAFT, Dial, Pipe, StreamServer
from skep.runtime.errors import NoAddress, NoLeader, SkepError, Unavailable
from skep.sim.etcd_line import EtcdLine
from skep.sim.loop import EPOCH_S
from skep.sim.net import Port, Shown
from skep.sim.sealing import Below
from skep.store.interfaces import ClusterStore, KeyValue, Store, Txn

if TYPE_CHECKING:
    from skep.sim.hosts import Host
    from skep.sim.world import World

T = TypeVar("T")

SWARM = "sim"
ISSUED_S = EPOCH_S - 30 * 86400  # of what a run begins with: clocks that jump by hours stay within its life
DIAL_S = 1.0  # etcd tries ten times a second to reach a peer; what is learned by it is needed within seconds
RESTART_S = 1.0  # before an etcd that ended is started again


# Certificates


@functools.cache
def root() -> tuple[bytes, bytes]:
    """Returns the certificate and key of the swarm's root: one for all runs of a process."""
    return new_root(ISSUED_S)


def first_keys(node_id: str, role: str, issued_s: float, expiry_s: float) -> NodeKeys:
    """Returns what a node begins with."""
    certificate, key = root()
    key_pem, request_pem = new_key_and_request()
    signed = Authority(certificate, key).sign(request_pem, node_id, role, SWARM, issued_s, expiry_s)
    return NodeKeys(key_pem, signed, certificate)


# What a node has


class SimLine:
    """A node's connections to managers; fulfils `agent_runner.Line`."""

    def __init__(self, host: Host, world: World, keys: NodeKeys) -> None:
        self._host = host
        self._network = world.network
        self._keys = keys
        self._shown = Shown.of(keys)

    @property
    def keys(self) -> NodeKeys:
        return self._keys

    @keys.setter
    def keys(self, keys: NodeKeys) -> None:
        self._keys, self._shown = keys, Shown.of(keys)

    async def connect(self, address: str, handler: Handler) -> Connection:
        """Errors: `Unavailable`."""
        return self._checked(await self._network.connect(self._host.ip, self._shown, address, handler))

    async def connect_logs(self, address: str, handler: Handler) -> FrameLink:
        """The same for a connection that can become a stream of bytes. Errors: `Unavailable`."""
        link = await self._network.connect_stream(self._host.ip, self._shown, address, handler)
        self._checked(link)
        return link

    def _checked(self, connection: Connection) -> Connection:
        identity = connection.identity
        if identity is None or identity.not_after < self._host.clock.now():
            connection.close()
            raise Unavailable("TLS: the manager's certificate is not valid now")
        return connection


# What a manager has


class SimListener:
    """A manager's port; fulfils `platform.Listener`."""

    def __init__(self, host: Host, world: World, keys: NodeKeys) -> None:
        self._host = host
        self._network = world.network
        self._shown = Shown.of(keys)
        self._accept: Callable[[FrameLink], Handler | None] | None = None
        self._connections: list[Connection] = []

    async def listen(self, host: str, port: int, accept: Callable[[FrameLink], Handler | None]) -> None:
        if host != self._host.where:
            raise NoAddress(f"cannot listen on {host}:{port}: Cannot assign requested address")
        self._accept = accept
        entrance = Port(self._enter, lambda: self._shown, self._lets_in)
        self._network.open(self._host.ip, entrance)
        self._network.open_streams(self._host.ip, entrance)

    def use(self, keys: NodeKeys) -> None:
        self._shown = Shown.of(keys)

    async def close(self) -> None:
        if self._accept is None:
            return
        self._accept = None
        self._network.stop_listening(self._host.ip)
        for connection in self._connections:
            connection.close()

    def _lets_in(self, shown: Shown) -> bool:
        return shown.is_in_time(self._host.clock.now())

    def _enter(self, connection: Connection) -> Handler | None:
        if self._accept is None:
            return None
        self._connections.append(connection)
        return self._accept(connection)  # type: ignore[arg-type] # a session comes without a stream's link


class SimCopy:
    """A manager's copy of the store, in the model of etcd; fulfils `platform.StoreCopy`."""

    quota_bytes = 1 << 40

    def __init__(self, host: Host, world: World) -> None:
        self._host = host
        self._world = world
        self._line: EtcdLine | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._trouble = ""

    @property
    def has_data(self) -> bool:
        return bool(self._host.peer.member_id)

    @property
    def pid(self) -> int:
        return int(self._host.peer.running)

    def trouble(self) -> str:
        return "" if self._host.peer.running else self._trouble

    async def start(self, peers: Sequence[str], force_new_cluster: bool = False) -> ClusterStore:
        self._line = EtcdLine(self._world.etcd, self._host.peer, self._world.faults)
        self._host.lines.append(self._line)
        try:
            self._begin(force_new_cluster)
        except Unavailable:
            if not peers:
                raise
        self._keeping = asyncio.ensure_future(self._keep())
        return SimStore(self._line, Below(self._line, self._world.seals))

    async def maintain(self, say: Callable[[str], None]) -> None:
        await asyncio.Event().wait()  # it never fills

    async def commit_cured(self, store: Store, txn: Txn) -> None:
        await store.commit(txn)

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            self._host.peer.running = False

    def _begin(self, alone: bool = False) -> None:
        try:
            self._world.etcd.begin(self._host.peer, alone)
        except Unavailable as error:
            self._trouble = str(error)
            raise

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RESTART_S)
            if not self._host.peer.running:
                try:
                    self._begin()
                except Unavailable:
                    continue


class SimStore:
    """A manager's store: values are sealed below; fulfils `store.interfaces.ClusterStore`."""

    def __init__(self, line: EtcdLine, below: Below) -> None:
        self.cluster = line
        self._below = below

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        return await self._below.load(prefix)

    async def commit(self, txn: Txn) -> int:
        return await self._below.commit(txn)

    async def close(self) -> None:
        await self._below.close()


class SimWay:
    """How a machine reaches other managers; fulfils `manager_links.Way`. The near end of one's API is named
    as its node is."""

    def __init__(self, host: Host, world: World, keys: NodeKeys) -> None:
        self._line = SimLine(host, world, keys)
        self._host = host
        self.use(keys)

    def use(self, keys: NodeKeys) -> None:
        self._line.keys = keys
        self._host.shown = Shown.of(keys)

    def dial(self, address: str) -> Dial:
        return lambda handler: self._line.connect_logs(address, handler)

    def door(self, links: ManagerLinks, node_id: str, kind: str) -> Door:
        return RaftDoor(links, node_id) if kind == RAFT else ApiDoor()

    def api_socket(self, node_id: str) -> str:
        return node_id


class ApiDoor:
    """Calls open their streams themselves (`SimLeaderLine`)."""

    async def open(self) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class RaftDoor:
    """etcd keeps a stream to each peer; what goes through it is the model's."""

    def __init__(self, links: ManagerLinks, node_id: str) -> None:
        self._links = links
        self._node_id = node_id
        self._work: asyncio.Task[None] | None = None
        self._pipe: Pipe | None = None

    async def open(self) -> None:
        self._work = asyncio.ensure_future(self._keep())

    def interrupt(self) -> None:
        if self._pipe is not None:
            self._pipe.close()

    def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self.interrupt()

    async def _keep(self) -> None:
        while True:
            ended = asyncio.Event()
            self._pipe = Pipe(lambda pipe, ended=ended: ended.set())  # type: ignore[misc]
            try:
                await self._links.stream(self._node_id, RAFT, self._pipe)
                await ended.wait()
            except SkepError:
                pass
            await asyncio.sleep(DIAL_S)


class SimStreams(StreamServer):
    """The far end: etcd takes part through it while it runs."""

    def __init__(self, host: Host) -> None:
        super().__init__({})
        self._host = host

    async def open_near(self, kind: str, near: Pipe) -> None:
        if kind == RAFT and not self._host.peer.running:
            raise ConnectionRefusedError("etcd does not run")
        near.connection_made(Sink(near))


class Sink(asyncio.Transport):
    """Takes what comes, and says nothing."""

    def __init__(self, near: Pipe) -> None:
        super().__init__()
        self._near: Pipe | None = near

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        near, self._near = self._near, None
        if near is not None:
            asyncio.get_running_loop().call_soon(near.connection_lost, None)


class SimLeaderLine:
    """Calls of one manager to another: each opens a stream to its API; fulfils `platform.LeaderLine`."""

    def __init__(
        self, host: Host, world: World, links: ManagerLinks, leader_socket: Callable[[], str | None]
    ) -> None:
        self._host = host
        self._world = world
        self._links = links
        self._leader_socket = leader_socket

    async def is_well(self, socket: str) -> bool:
        try:
            async with asyncio.timeout(KNOCK_S):
                await self._call(socket, lambda manager: manager.check_health())
        except (SkepError, TimeoutError):
            return False
        return True

    async def seen(self, socket: str) -> list[str]:
        async def seen(manager: ManagerRunner) -> list[str]:
            return manager.seen()

        return await self._call(socket, seen)

    async def demote(self, node_id: str) -> None:
        async def demote(manager: ManagerRunner) -> None:
            leader = manager.leader
            if leader is None:
                raise NoLeader("no manager leads at the moment")
            node = leader.view.nodes[node_id]
            await leader.nodes.update(node.id, node.version, replace(node.spec, role="worker"))

        socket = self._leader_socket()
        if socket is None:
            raise NoLeader("the swarm has no leader at the moment; try again")
        await self._call(socket, demote)

    async def swarm(self) -> dict[str, Any]:
        raise Unavailable("nobody asks here")

    async def enrol(self, asked: EnrolFor) -> Enrolled:
        raise Unavailable("nobody joins here")

    async def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        raise Unavailable("nobody asks here")

    async def events(self, tasks: bool) -> AsyncIterator[Event]:
        """Nobody listens to events here."""
        await asyncio.Event().wait()
        yield Event("", "", "", {}, 0.0)

    async def close(self) -> None: ...

    async def _call(self, node_id: str, ask: Callable[[ManagerRunner], Awaitable[T]]) -> T:
        """Errors: as the other's, `Unavailable`."""
        pipe, other = Pipe(), self._world.host(node_id)
        await self._links.stream(node_id, API, pipe)
        try:
            manager = other.manager
            if manager is None:
                raise Unavailable("the manager does not answer")
            async with asyncio.timeout(CALL_S):
                answer = await asyncio.shield(other.do(_asked(ask, manager)))
                await asyncio.sleep(self._world.network.latency_s())
                if not self._world.network.linked(self._host.ip, other.ip):
                    await asyncio.Event().wait()  # it is lost on its way
        except TimeoutError as error:
            raise Unavailable("the manager does not answer: timeout") from error
        finally:
            pipe.close()
        return answer


async def _asked(ask: Callable[[ManagerRunner], Awaitable[T]], manager: ManagerRunner) -> T:
    return await ask(manager)


def manager_parts(
    host: Host, world: World, membership: Membership, keys: NodeKeys, moved: Moved
) -> ManagerParts:
    """Returns what a manager of this machine stands on."""
    way = SimWay(host, world, keys)
    links = host.links = ManagerLinks(membership.node_id, membership.advertise, membership.peers, way, moved)
    return ManagerParts(
        SimCopy(host, world),
        SimListener(host, world, keys),
        links,
        SimStreams(host),
        lambda leader_socket: SimLeaderLine(host, world, links, leader_socket),
        world.overlay_bounds,
    )
