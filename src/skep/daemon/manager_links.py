"""The other managers: where they are, and a door to each, a local unix socket that leads to it.

etcd and our own HTTP client know the doors only. A manager that moved says its new address with every
stream it opens, so that one of two need to know where the other is now.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Container, Iterable

import structlog

from skep.daemon.addresses import parse_address
from skep.daemon.socket_dir import SocketDir
from skep.rpc.certificates import NodeKeys
from skep.rpc.streams import API, RAFT, OpenStream, Pipe, open_stream
from skep.rpc.tls import client_context
from skep.runtime.errors import NotAFellow, SkepError, Unavailable
from skep.store.etcd.members import peer_socket

log = structlog.get_logger()

STREAMS_MAX = 256  # per door: etcd keeps a handful open, the rest are calls of users


class ManagerLinks:
    """`moved` hears of every address that was learned, to keep it."""

    def __init__(
        self,
        node_id: str,
        address: str,
        keys: NodeKeys,
        sockets: SocketDir,
        etcd_sockets: SocketDir,
        addresses: dict[str, str],
        moved: Callable[[dict[str, str]], None],
    ) -> None:
        self._node_id = node_id
        self._address = address
        self._context = client_context(keys)
        self._sockets = sockets
        self._etcd_sockets = etcd_sockets
        self.addresses = dict(addresses)
        self._moved = moved
        self.refused_by: set[str] = set()  # managers that say that this node is none of their swarm
        self._doors: dict[str, list[_Door]] = {}

    def use(self, keys: NodeKeys) -> None:
        """The node's certificate was renewed: streams opened from now on show it."""
        self._context = client_context(keys)

    def learn(self, node_id: str, address: str) -> None:
        if address and node_id != self._node_id and self.addresses.get(node_id) != address:
            log.info("peers.address", node_id=node_id, address=address)
            self.addresses[node_id] = address
            self._moved(self.addresses)

    def move(self, address: str) -> None:
        """This manager is reached elsewhere: streams are opened anew, and say so."""
        self._address = self.addresses[self._node_id] = address
        for doors in self._doors.values():
            for door in doors:
                door.interrupt()

    def keep(self, node_ids: Container[str]) -> None:
        """Forgets where nodes are that are no managers any more."""
        gone = [n for n in self.addresses if n not in node_ids and n != self._node_id]
        if gone:
            for node_id in gone:
                del self.addresses[node_id]
            self._moved(self.addresses)

    async def open_doors(self, node_ids: Iterable[str]) -> None:
        """Has a door to each of these managers, and to no other. Errors: `Invalid`."""
        wanted = set(node_ids) - {self._node_id}
        for node_id in sorted(set(self._doors) - wanted):
            for door in self._doors.pop(node_id):
                door.close()
            self.refused_by.discard(node_id)
        for node_id in sorted(wanted - set(self._doors)):
            doors = [
                _Door(self, node_id, RAFT, self._etcd_sockets, peer_socket(node_id)),
                _Door(self, node_id, API, self._sockets, node_id),
            ]
            try:
                for door in doors:
                    await door.open()
            except BaseException:
                for door in doors:
                    door.close()
                raise
            self._doors[node_id] = doors

    def api_socket(self, node_id: str) -> str | None:
        """Returns the socket of that manager's API; None where there is no door to it."""
        return self._sockets.path(node_id) if node_id in self._doors else None

    async def stream(self, node_id: str, kind: str, pipe: Pipe) -> None:
        """Errors: `Unavailable`, `Denied`."""
        address = self.addresses.get(node_id, "")
        if not address:
            raise Unavailable(f"it is not known where manager {node_id} is reached")
        host, port = parse_address(address)
        await open_stream(host, port, self._context, node_id, OpenStream(kind, self._address), pipe)

    @property
    def context(self) -> ssl.SSLContext:
        return self._context

    def close(self) -> None:
        for doors in self._doors.values():
            for door in doors:
                door.close()
        self._doors = {}


class _Door:
    """A listening unix socket; each connection to it becomes a stream to the manager behind it."""

    def __init__(self, peers: ManagerLinks, node_id: str, kind: str, sockets: SocketDir, name: str) -> None:
        self._peers = peers
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
        """Ends what goes through; what comes next goes through anew."""
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
            await self._peers.stream(self._node_id, self._kind, far)
        except SkepError as error:
            if isinstance(error, NotAFellow):
                self._peers.refused_by.add(self._node_id)
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
        self._peers.refused_by.discard(self._node_id)
        near.join(far)
