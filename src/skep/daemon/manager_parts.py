"""What a manager of this machine stands on: etcd as a child, a TLS port, unix sockets that lead to others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from skep.daemon.addresses import parse_address
from skep.daemon.leader_client import LeaderClient
from skep.daemon.manager_links import Door, ManagerLinks, Moved
from skep.daemon.platform import ManagerParts
from skep.daemon.socket_dir import SocketDir
from skep.daemon.state import Membership
from skep.rpc.certificates import NodeKeys
from skep.rpc.interfaces import Handler
from skep.rpc.link import FrameLink, connect
from skep.rpc.link_server import LinkServer
from skep.rpc.streams import API, OPEN_S, RAFT, Dial, Pipe, StreamServer
from skep.rpc.tls import client_context, load_chain, server_context
from skep.runtime.errors import SkepError, Unavailable
from skep.runtime.metrics import Gauge, Metric
from skep.store.etcd.client import EtcdStatus, EtcdStore
from skep.store.etcd.maintenance import commit_cured, maintain
from skep.store.etcd.members import peer_socket
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import Store, Txn

log = structlog.get_logger()

STREAMS_MAX = 256  # per door: etcd keeps a handful open, the rest are calls of users


def manager_parts(
    state_dir: Path,
    etcd_binary: str,
    sockets: SocketDir,
    membership: Membership,
    keys: NodeKeys,
    moved: Moved,
) -> ManagerParts:
    """Errors: `Invalid`, `Corrupt`."""
    node_id = membership.node_id
    etcd = EtcdCopy(state_dir, etcd_binary, node_id)
    listener = TlsListener(keys)
    way = TlsWay(keys, sockets, etcd.sockets)
    return ManagerParts(
        etcd,
        listener,
        ManagerLinks(node_id, membership.advertise, membership.peers, way, moved),
        StreamServer({RAFT: etcd.sockets.path(peer_socket(node_id)), API: sockets.path(API)}),
        LeaderClient,
    )


class EtcdCopy:
    """This machine's etcd, and the way to it; fulfils `platform.StoreCopy`."""

    def __init__(self, state_dir: Path, binary: str, node_id: str) -> None:
        self._process = EtcdProcess(state_dir, binary, node_id)
        self._process.prepare()
        self.sockets = SocketDir(self._process.run_dir)
        self._store: EtcdStore | None = None
        self._status: EtcdStatus | None = None  # as it was last looked at
        quota_bytes = self._process.quota_bytes
        self.metrics: tuple[Metric, ...] = (
            Gauge(
                "skep_etcd_db_bytes",
                "Size of the file of this manager's etcd; 0: not known yet.",
                lambda: self._status.db_bytes if self._status is not None else 0,
            ),
            Gauge(
                "skep_etcd_db_in_use_bytes",
                "What of that file is in use.",
                lambda: self._status.db_in_use_bytes if self._status is not None else 0,
            ),
            Gauge("skep_etcd_quota_bytes", "What its file may grow to.", lambda: quota_bytes),
        )

    @property
    def has_data(self) -> bool:
        return self._process.has_data

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def target(self) -> str:
        """Where clients connect, as gRPC names it."""
        return self._process.target

    def trouble(self) -> str:
        return self._process.trouble()

    async def start(self, peers: Sequence[str], force_new_cluster: bool = False) -> EtcdStore:
        await self._process.start(peers, force_new_cluster)
        self._store = EtcdStore(self._process.target, self._process.trouble)
        return self._store

    async def maintain(self, say: Callable[[str], None]) -> None:
        assert self._store is not None
        await maintain(self._store, self._process.quota_bytes, say, saw=self._saw)

    def _saw(self, status: EtcdStatus) -> None:
        self._status = status

    async def commit_cured(self, store: Store, txn: Txn) -> None:
        assert self._store is not None
        await commit_cured(self._store, store, txn)

    async def stop(self) -> None:
        if self._store is not None:
            await self._store.close()
        await self._process.stop()
        self.sockets.close()


class TlsListener:
    """A port of this machine."""

    def __init__(self, keys: NodeKeys) -> None:
        self._keys = keys
        self._context = server_context(keys)
        self._server: LinkServer | None = None
        self._works: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int, accept: Callable[[FrameLink], Handler | None]) -> None:
        server = LinkServer()
        await server.listen(host, port, self._context, accept)
        before, self._server = self._server, server
        if before is not None:
            await before.close()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._server.metrics if self._server is not None else ()

    def use(self, keys: NodeKeys) -> None:
        before, self._keys = self._keys, keys
        if keys.ca_pem == before.ca_pem:
            load_chain(self._context, keys)
            return
        self._context = server_context(keys)
        if self._server is not None:
            work = asyncio.ensure_future(self._server.reopen(self._context))
            self._works.add(work)
            work.add_done_callback(self._works.discard)

    async def close(self) -> None:
        for work in self._works:
            work.cancel()
        if self._server is not None:
            await self._server.close()


class TlsWay:
    """TLS to the others' ports, from unix sockets: `etcd_sockets` are etcd's doors, `sockets` the API's."""

    def __init__(self, keys: NodeKeys, sockets: SocketDir, etcd_sockets: SocketDir) -> None:
        self._context = client_context(keys)
        self._sockets = sockets
        self._etcd_sockets = etcd_sockets

    def use(self, keys: NodeKeys) -> None:
        self._context = client_context(keys)

    def dial(self, address: str) -> Dial:
        host, port = parse_address(address)
        return lambda handler: connect(host, port, self._context, handler, timeout_s=OPEN_S)

    def door(self, links: ManagerLinks, node_id: str, kind: str) -> Door:
        if kind == RAFT:
            return SocketDoor(links, node_id, kind, self._etcd_sockets, peer_socket(node_id))
        return SocketDoor(links, node_id, kind, self._sockets, node_id)

    def api_socket(self, node_id: str) -> str:
        return self._sockets.path(node_id)


class SocketDoor:
    """A listening unix socket; each connection to it becomes a stream to the manager behind it."""

    def __init__(self, links: ManagerLinks, node_id: str, kind: str, sockets: SocketDir, name: str) -> None:
        self._links = links
        self._node_id = node_id
        self._kind = kind
        self._sockets = sockets
        self._name = name
        self._server: asyncio.Server | None = None
        self._near: set[Pipe] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._trouble = ""

    async def open(self) -> None:
        bound = self._sockets.bind(self._name)
        self._server = await asyncio.get_running_loop().create_unix_server(self._entered, sock=bound)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._sockets.remove(self._name)
        self.interrupt()

    def interrupt(self) -> None:
        for work in list(self._opening):
            work.cancel()
        for pipe in list(self._near):
            pipe.close()

    def _entered(self) -> Pipe:
        near = Pipe(self._near.discard)
        self._near.add(near)
        work = asyncio.ensure_future(self._lead_on(near))
        self._opening.add(work)
        work.add_done_callback(self._opening.discard)
        return near

    async def _lead_on(self, near: Pipe) -> None:
        far = Pipe()
        try:
            if len(self._near) > STREAMS_MAX:
                raise Unavailable(f"{STREAMS_MAX} streams to manager {self._node_id} are open")
            await self._links.stream(self._node_id, self._kind, far)
        except SkepError as error:
            if str(error) != self._trouble:  # etcd tries ten times a second
                log.info("peers.unreachable", node_id=self._node_id, stream=self._kind, error=str(error))
            self._trouble = str(error)
            near.close()
            return
        except BaseException:
            with contextlib.suppress(RuntimeError):
                near.close()
            raise
        self._trouble = ""
        near.join(far)
