"""A simulated manager: the product's own candidate and leader above the model of etcd, as
`daemon.manager_runner` is above the real one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from skep.daemon.connection_dispatch import ConnectionDispatch
from skep.daemon.waiting_room import WaitingRoom
from skep.manager.candidate import Candidate
from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.manager.manager_identity import ManagerIdentity
from skep.model.cluster import Cluster
from skep.model.node import Node
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.log_streams import PublishLogs, refuse_logs
from skep.runtime.errors import NoLeader, SkepError, Unavailable, Unsupported
from skep.sim.etcd_line import EtcdLine
from skep.sim.loop import EPOCH_S
from skep.sim.sealing import DiskKeys
from skep.store import codec

if TYPE_CHECKING:
    from skep.sim.hosts import Host
    from skep.sim.world import World

CERTIFIED_S = EPOCH_S - 30 * 86400, EPOCH_S + 60 * 86400  # the middle of 90 days
FOLLOW_S = 1.0  # as `daemon.manager_runner`
VOTE_POLL_S = 0.2
KNOCK_S = 3.0  # longer than the product waits for an answer


class SimManager:
    """Runs from `start` to `stop`, on its host."""

    def __init__(self, host: Host, world: World) -> None:
        self._host = host
        self._world = world
        self._store = EtcdLine(world.etcd, host.peer, world.faults)
        self._addresses = dict(host.membership.peers)
        self._members = frozenset(self._addresses)
        self._waiting = WaitingRoom(self._serve, self._find_leader, self._known)
        self._connections: list[Connection] = []
        self._candidate: Candidate | None = None
        self._held: DiskKeys | None = None
        self._works: list[asyncio.Task[None]] = []

    @property
    def leader(self) -> Leader | None:
        return self._candidate.leader if self._candidate is not None else None

    @property
    def leader_id(self) -> str:
        return self._candidate.leader_id if self._candidate is not None else ""

    async def start(self) -> None:
        """Errors: `Unavailable`."""
        self._world.etcd.begin(self._host.peer)
        self._world.network.listen(self._host.ip, self._accept)
        self._world.network.listen_streams(self._host.ip, self._receive)
        self._works = [asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._campaign())]

    async def stop(self) -> None:
        """In good order: the manager is no longer one."""
        await self._end()
        self._world.network.stop_listening(self._host.ip)
        for connection in self._connections:
            connection.close()
        self._host.peer.running = False

    async def crash(self) -> None:
        """SIGKILL: nothing it still does reaches anybody."""
        self._store.crash()
        self._host.peer.running = False
        self._host.place.release()
        await self._end()

    async def _end(self) -> None:
        self._waiting.close()
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        self._candidate = None

    async def wait_voter(self) -> None:
        while True:
            with contextlib.suppress(SkepError):
                if await self._store.is_voter():
                    return
            await asyncio.sleep(VOTE_POLL_S)

    async def demote_self(self) -> None:
        """Errors: as the leader's."""
        leads = self._world.leading(self.leader_id)
        if leads is None or not self._world.network.linked(self._host.ip, leads.ip):
            raise NoLeader("no manager leads at the moment")
        assert leads.manager is not None
        leader = leads.manager.leader
        assert leader is not None
        node = leader.view.nodes[self._host.node_id]
        work = leads.do(leader.nodes.update(node.id, node.version, replace(node.spec, role="worker")))
        await asyncio.shield(work)

    def is_well(self) -> bool:
        return bool(self._works) and self._world.etcd.is_led(self._host.peer)

    def use_data_keys(self) -> None:
        """The data keys on the disk were changed, by the leader's word."""
        if self._held is not None:
            self._held.use()

    # Works

    async def _campaign(self) -> None:
        await self.wait_voter()
        host = self._host
        seals = self._world.seals
        held = self._held = DiskKeys(host, self._store, seals) if seals is not None else None
        self._candidate = Candidate(
            held.store if held is not None else self._store,
            host.clock,
            host.new_id,
            host.new_id,
            EventHub(host.clock),
            [host.address],
            _no_certificates,
            ManagerIdentity(
                host.node_id,
                self._store,
                self._probe,
                data_keys=held,
                seen=self._seen_by,
                doubt=self._doubt,
                overlay_bounds=self._world.overlay_bounds,
            ),
        )
        await self._candidate.run()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(SkepError):
                self._members = frozenset([m.node_id for m in await self._store.members()])
                for node_id in sorted(self._members - set(self._addresses)):
                    for pair in (await self._store.load(codec.node_key(node_id)))[0]:
                        node = codec.decode_object(Node, pair.key, pair.value, pair.revision)
                        self._learn(node_id, node.manager_addr)
                if self.leader_id:
                    await self._store.hold_lead(self.leader_id)
            await asyncio.sleep(FOLLOW_S)

    def _learn(self, node_id: str, address: str) -> None:
        if address:
            self._addresses[node_id] = address
            self._host.remember(replace(self._host.membership, peers=dict(self._addresses)))

    async def _probe(self, node_id: str) -> bool:
        other, network = self._world.host(node_id), self._world.network
        await asyncio.sleep(network.latency_s())
        if other.place.frozen or not network.linked(self._host.ip, other.ip):
            await asyncio.sleep(KNOCK_S)
            return False
        return other.manager is not None and other.manager.is_well()

    async def _seen_by(self, node_id: str) -> list[str]:
        answers = await self._probe(node_id)
        manager = self._world.host(node_id).manager
        if not answers or manager is None:
            raise Unavailable(f"manager {node_id} does not answer")
        return manager._waiting.seen()

    def _doubt(self) -> str:
        return "" if is_in_time(self._host.clock.now()) else "the clock is off (simulated)"

    def _accept(self, connection: Connection) -> Handler | None:
        if not is_in_time(self._host.clock.now()):
            return None  # the node's certificate is of another time, as far as this manager knows
        self._connections.append(connection)
        return self._serve(connection) or self._waiting.enter(connection)

    def _receive(self, connection: Connection) -> Handler:
        """A connection of its own: log lines (sessions come by `_accept`)."""
        return ConnectionDispatch(connection, self._waiting.enter, None, self._logs)

    def _logs(self, link: FrameLink, brought: PublishLogs) -> None:
        if self.leader is None:
            refuse_logs(link, "this manager does not lead")
        else:
            self.leader.logs.accept(link, brought)

    def _serve(self, connection: Connection) -> Handler | None:
        leader = self.leader
        return leader.sessions.open(connection) if leader is not None and leader.is_sure else None

    async def _find_leader(self) -> str:
        address = self._addresses.get(self.leader_id, "")
        return address if address and await self._probe(self.leader_id) else ""

    def _known(self) -> list[str]:
        ids = sorted(self._members, key=lambda node_id: (node_id != self.leader_id, node_id))
        known = {**self._addresses, self._host.node_id: self._host.address}
        return [known[node_id] for node_id in ids if known.get(node_id)]


def is_in_time(now: float) -> bool:
    """True within the life of the simulated certificates. Clocks that jump by hours stay within."""
    return CERTIFIED_S[0] <= now <= CERTIFIED_S[1]


def _no_certificates(cluster: Cluster, node: Node, request_pem: bytes) -> bytes:
    raise Unsupported("the simulated network knows its hosts by name")
