"""A simulated machine as a platform of its node (`daemon.platform`): what the product asks of a real one, in
virtual time. Certificates are real, TLS is not: who connects shows one, and each end looks at the other's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skep.daemon.manager_links import Door, ManagerLinks, Moved
from skep.daemon.platform import ManagerParts
from skep.daemon.state import Membership
from skep.rpc.certificates import NodeKeys
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.streams import RAFT, Dial, Pipe, StreamServer
from skep.runtime.errors import NoAddress, SkepError, Unavailable
from skep.runtime.metrics import Metric
from skep.sim.leader_line import SimLeaderLine
from skep.sim.net import Shown, SimulatedPort
from skep.sim.own_store import SimCopy

if TYPE_CHECKING:
    from skep.sim.hosts import Host
    from skep.sim.world import World

DIAL_S = 1.0  # etcd tries ten times a second to reach a peer; what is learned by it is needed within seconds


# What a node has


class SimLine:
    """A node's connections to managers; fulfils `agent_runner.Line`."""

    def __init__(self, host: Host, world: World, keys: NodeKeys) -> None:
        self._host = host
        self._network = world.network
        self.use(keys)

    def use(self, keys: NodeKeys) -> None:
        self.keys, self._shown = keys, Shown.of(keys)

    async def connect(self, address: str, handler: Handler) -> Connection:
        """Errors: `Unavailable`."""
        return self._checked(await self._network.connect(self._host.ip, self._shown, address, handler))

    async def connect_standby(self, address: str, handler: Handler) -> Connection:
        """Errors: `Unavailable`."""
        return self._checked(
            await self._network.connect_standby(self._host.ip, self._shown, address, handler)
        )

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

    metrics: tuple[Metric, ...] = ()

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
        entrance = SimulatedPort(self._enter, lambda: self._shown, self._lets_in)
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


class SimWay:
    """How a machine reaches other managers; fulfils `manager_links.Way`. The near end of one's API is named
    as its node is."""

    def __init__(self, host: Host, world: World, keys: NodeKeys) -> None:
        self._line = SimLine(host, world, keys)
        self._host = host
        self.use(keys)

    def use(self, keys: NodeKeys) -> None:
        self._line.use(keys)
        self._host.shows(Shown.of(keys))

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


def manager_parts(
    host: Host, world: World, membership: Membership, keys: NodeKeys, moved: Moved
) -> ManagerParts:
    """Returns what a manager of this machine stands on."""
    host.adopt(membership.node_id)
    way = SimWay(host, world, keys)
    links = ManagerLinks(membership.node_id, membership.advertise, membership.peers, way, moved)
    host.links_by(links)
    return ManagerParts(
        SimCopy(host, world),
        SimListener(host, world, keys),
        links,
        SimStreams(host),
        lambda leader_socket: SimLeaderLine(host, world, links, leader_socket),
        world.overlay_bounds,
    )
