"""The manager on this host: etcd, the port, the election, and the leader while we lead."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator

import structlog
from msgspec.structs import replace

from skep.daemon import error_texts
from skep.daemon.addresses import parse_address
from skep.daemon.data_keys import StoreKeys
from skep.daemon.enrolling import Enrolling
from skep.daemon.founding import first_txns
from skep.daemon.keys import KeyFiles
from skep.daemon.leader_events import follow_events
from skep.daemon.manager_directory import ManagerDirectory
from skep.daemon.manager_port import ManagerPort
from skep.daemon.platform import HostPlatform, ManagerParts
from skep.daemon.state import Membership
from skep.manager.backup import take
from skep.manager.ca.authority import new_secret
from skep.manager.ca.issuer import Issuer
from skep.manager.candidate import Candidate
from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.model.cluster import Cluster
from skep.model.node import Node
from skep.rpc.certificates import NodeKeys, is_in_time, new_key_and_request
from skep.runtime.errors import NoLeader, SkepError, Unavailable
from skep.runtime.ids import id_source
from skep.runtime.metrics import Gauge, Metric
from skep.runtime.supervise import in_thread, run_forever
from skep.store import codec
from skep.store.interfaces import ClusterStore, Put, Txn
from skep.store.sealed import SealedStore

log = structlog.get_logger()

LEAD_S = 30.0  # until a new swarm's only manager leads; longer means that etcd is broken
FOLLOW_S = 1.0  # how often a manager looks who the others are: two small reads of its own etcd
VOTE_POLL_S, LEAD_POLL_S = 0.2, 0.05


class ManagerRunner:
    """`parts` is what it stands on. `node_keys` are those of the node when it starts: not on the disk yet
    where it founds a swarm."""

    def __init__(
        self,
        platform: HostPlatform,
        parts: ManagerParts,
        membership: Membership,
        node_keys: NodeKeys,
        key_files: KeyFiles,
        hub: EventHub,
    ) -> None:
        self._platform = platform
        self._node_keys = node_keys
        self._key_files = key_files
        self._node_id = membership.node_id
        self._listen = parse_address(membership.listen)
        self._advertise = membership.advertise
        self._first_told = [membership.advertise]  # what a new leader tells nodes until it knows more
        self._clock = platform.clock
        self._new_id = id_source(platform.rng)
        self._hub = hub
        self.etcd = parts.etcd
        self.peers = parts.links
        self._listener = parts.listener
        self._streams = parts.streams
        self._overlay_bounds = parts.overlay_bounds
        self.leader_line = parts.line_by(self.leader_socket)
        self._issuer = Issuer(platform.clock)
        self.enrolling = Enrolling(
            lambda: self.leader,
            self._known_cluster,
            self.leader_line,
            self.addresses,
            self._issuer,
            self._new_id,
        )
        self._directory = ManagerDirectory(
            membership.node_id, membership.peers, self.peers, self._streams, lambda: self._store
        )
        self.is_led = True  # etcd knows who leads it: it has a quorum
        self._cluster: Cluster | None = None  # as this manager last read it while another led
        self.store_trouble = ""  # why nothing can be written at the moment; for users
        self._store: ClusterStore | None = None
        self._sealed: SealedStore | None = None
        self._port = ManagerPort(self, self._directory.stream, self.enrolling, node_keys, platform.clock.now)
        self._works: list[asyncio.Task[None]] = []
        self._candidate: Candidate | None = None
        self._own_metrics = (
            Gauge(
                "skep_manager_has_quorum",
                "1 while this manager's etcd knows who leads it, as only one of a majority does; else 0.",
                lambda: int(self.is_led),
            ),
            *self._port.metrics,
        )

    @property
    def leader(self) -> Leader | None:
        """The leader, while it is this manager."""
        return self._candidate.leader if self._candidate is not None else None

    @property
    def _led_cluster(self) -> Cluster | None:
        """The swarm, while this manager leads it."""
        return self.leader.view.cluster if self.leader is not None else None

    @property
    def leader_id(self) -> str:
        """Which manager leads, as far as this one knows; an empty text where none does."""
        return self._candidate.leader_id if self._candidate is not None else ""

    @property
    def trouble(self) -> str:
        """Why this manager does not lead though it could; an empty text where nothing keeps it from it."""
        return self._candidate.trouble if self._candidate is not None else ""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What this manager counts, whether it leads or not."""
        candidate = self._candidate.metrics if self._candidate is not None else ()
        return (*self._own_metrics, *self._listener.metrics, *self.etcd.metrics, *candidate)

    @property
    def members(self) -> frozenset[str]:
        """Node ids of all managers, as far as this one knows."""
        return self._directory.members

    def leader_socket(self) -> str | None:
        """Returns the socket of the leader's API; None where it is not known, or this manager itself."""
        return self.peers.api_socket(self.leader_id) if self.leader_id else None

    async def start(
        self, first: tuple[Put, ...] = (), force_new_cluster: bool = False, grace_until: float = 0.0
    ) -> None:
        """Opens the port and the store (writing `first` into an empty one), and begins to campaign. Nodes
        have until `grace_until` (loop time) at least to find this manager.

        Errors: `Invalid`, `Unavailable`, `Corrupt`.
        """
        await self._listener.listen(*self._listen, self._port.handler)
        peers = () if force_new_cluster else tuple(sorted(set(self.peers.addresses) - {self._node_id}))
        await self.peers.open_doors(peers)
        store = self._store = await self.etcd.start(peers, force_new_cluster)
        sealed = self._sealed = SealedStore(store, self._key_files.sealer)
        for txn in first_txns(first):
            await sealed.commit(txn)
        # First: a store that is full takes no write until this has cured it.
        self._works = [asyncio.ensure_future(run_forever("maintain", self._maintain))]
        if force_new_cluster:
            # Before anybody can lead: it may lack what those had that are gone, and they may come back.
            anew = Txn((Put(codec.INCARNATION_KEY, self._new_id().encode()),))
            await self.etcd.commit_cured(sealed, anew)
        self._works += [
            asyncio.ensure_future(run_forever("follow", lambda: self._follow(store, sealed))),
            asyncio.ensure_future(
                run_forever("events", lambda: follow_events(self._hub, self.leader_line, self.leader_socket))
            ),
            asyncio.ensure_future(
                run_forever("campaign", lambda: self._campaign(store, sealed, grace_until))
            ),
        ]

    async def _maintain(self) -> None:
        def say(trouble: str) -> None:
            self.store_trouble = trouble

        await self.etcd.maintain(say)

    async def wait_leading(self, timeout_s: float = LEAD_S) -> Leader:
        """Errors: `Unavailable` where no leadership comes about in time."""
        late = f"this manager could not take the lead within {timeout_s:.0f} s"
        await _until(lambda: self.leader is not None, timeout_s, late)
        assert self.leader is not None
        return self.leader

    async def wait_led(self, timeout_s: float) -> None:
        """Waits until some manager leads. Errors: `Unavailable`."""
        late = f"no manager leads after {timeout_s:.0f} s"
        await _until(lambda: self.leader is not None or self.leader_socket() is not None, timeout_s, late)

    async def wait_voter(self) -> None:
        """Waits until this manager's member has its vote. Errors: `Unavailable` where etcd cannot join with
        the members that it was told of: they are others by now."""
        while True:
            if not self.etcd.has_data and (why := self.etcd.trouble()):
                raise Unavailable(f"this manager's etcd cannot join as it was started: {why}")
            with contextlib.suppress(SkepError):
                if self._store is not None and await self._store.cluster.is_voter():
                    return
            await asyncio.sleep(VOTE_POLL_S)

    async def check_health(self) -> None:
        """Errors: `Unavailable` where this manager's etcd does not answer, or has no quorum."""
        if self._store is None or not await self._store.cluster.is_led():
            raise Unavailable("this manager's etcd has no leader")

    async def stop(self) -> None:
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, *self._directory.close(), return_exceptions=True)
        self._port.close()
        await self._listener.close()
        self._streams.close()
        await self.leader_line.close()
        await self.etcd.stop()
        self.peers.close()

    async def backup(self) -> Iterator[bytes]:
        """Returns a backup of the swarm, which this manager leads. Errors: `Unavailable`, `Corrupt`."""
        cluster = self._led_cluster
        if cluster is None or self._store is None:
            raise NoLeader("the swarm has no leader at the moment; try again")
        keys = self._key_files
        return await take(self._store, cluster.id, self._clock.now(), keys.exported, keys.is_sealed)

    async def move(self, listen: tuple[str, int], advertise: str) -> None:
        """Listens and is reached elsewhere from now on. Errors: `Invalid`, then all is as before."""
        if listen != self._listen:
            await self._listener.listen(*listen, self._port.handler)
        self._listen, self._advertise = listen, advertise
        self._first_told[:] = [advertise]
        self.peers.move(advertise)

    def use_data_keys(self) -> None:
        """The data keys on the disk were changed, by the leader's word."""
        if self._sealed is not None and self._key_files.keys:
            self._sealed.use(self._key_files.sealer)

    # Works

    async def _campaign(self, store: ClusterStore, sealed: SealedStore, grace_until: float) -> None:
        await self.wait_voter()
        await store.cluster.take_name(self._node_id)
        team = ManagerIdentity(
            self._node_id,
            store.cluster,
            self._probe,
            StoreKeys(self._key_files, sealed),
            grace_until=grace_until,
            safe_mode=self._platform.safe_mode,
            seen=self._seen_by,
            doubt=self._doubt,
            overlay_bounds=self._overlay_bounds,
            own_networks=self._platform.own_networks,
            refused_by=self.peers.refused_by,
        )
        context = LeaderContext(
            self._clock,
            self._new_id,
            lambda: new_secret(secrets.token_bytes(16)),
            self._hub,
            self._first_told,
            self._sign,
            team,
            self._apply_unlock_key,
        )
        self._candidate = Candidate(sealed, context)
        await self._candidate.run()

    async def _follow(self, store: ClusterStore, sealed: SealedStore) -> None:
        """Keeps a door to each manager. A learner may not ask who they are: it knows those it was told of."""
        while True:
            try:
                self.is_led = await store.cluster.is_led()
                await self._directory.look(store)
                if self.leader_id:
                    await store.cluster.hold_lead(self.leader_id)
                    await self._keep_keys(sealed)
            except SkepError as error:
                self.is_led = self.is_led and not isinstance(error, Unavailable)
                log.debug("manager.follow", error=str(error))
            await asyncio.sleep(FOLLOW_S)

    async def _keep_keys(self, sealed: SealedStore) -> None:
        """Seals this manager's keys as the swarm now wants. Errors: `Unavailable`, `Corrupt`, `Invalid`."""
        for pair in (await sealed.load(codec.CLUSTER_KEY))[0]:
            cluster = self._cluster = codec.decode_object(Cluster, pair.key, pair.value, pair.revision)
            await self._apply_unlock_key(cluster)

    async def _apply_unlock_key(self, cluster: Cluster) -> None:
        """Errors: `Corrupt`, `Invalid`."""
        if not self._key_files.is_as(cluster):
            await in_thread(self._key_files.apply_unlock_key, cluster)

    async def _probe(self, node_id: str) -> bool:
        path = self.peers.api_socket(node_id)
        return path is not None and await self.leader_line.is_well(path)

    async def _seen_by(self, node_id: str) -> list[str]:
        """Errors: `Unavailable`, `NotFound` of an earlier skep."""
        path = self.peers.api_socket(node_id)
        if path is None:
            raise Unavailable(f"there is no door to manager {node_id} yet")
        return await self.leader_line.seen(path)

    def seen(self) -> list[str]:
        """Returns the nodes that came to this manager lately, looking for a leader."""
        return self._port.seen()

    def _doubt(self) -> str:
        """Returns why this manager cannot judge whether nodes are there; as a rule an empty text."""
        if is_in_time(self._node_keys.certificate_pem, self._clock.now()):
            return ""
        return error_texts.CLOCK

    # Where managers are

    def _known_cluster(self) -> Cluster | None:
        return self._led_cluster or self._cluster

    @property
    def leader_address(self) -> str:
        """Where another manager leads, as far as this one knows; an empty text where none does."""
        return self.peers.addresses.get(self.leader_id, "")

    async def find_leader(self) -> str:
        """Returns where another manager leads; an empty text where the one that did does not answer."""
        leader_id, address = self.leader_id, self.leader_address
        return address if address and await self._probe(leader_id) else ""

    def addresses(self) -> list[str]:
        """Returns where managers are reached, the leader first."""
        return list(self.addresses_by_id().values())

    def addresses_by_id(self) -> dict[str, str]:
        known = {**self.peers.addresses, self._node_id: self._advertise}
        ids = sorted(self.members, key=lambda node_id: (node_id != self.leader_id, node_id))
        return {node_id: known[node_id] for node_id in ids if known.get(node_id)}

    async def demote_self(self) -> None:
        """Asks for this manager to become a worker. Errors: as the leader's."""
        if self.leader is None:
            await self.leader_line.demote(self._node_id)
            return
        node = self.leader.view.nodes[self._node_id]
        await self.leader.nodes.update(node.id, node.version, replace(node.spec, role="worker"))

    # Certificates

    def renewed(self, keys: NodeKeys) -> None:
        """This manager's own certificate or trust is new: so it is for new connections."""
        self._node_keys = keys
        self._port.renewed(keys)
        self.peers.use(keys)
        self._listener.use(keys)

    def renew_own(self) -> NodeKeys:
        """Signs a new certificate for this manager itself; it leads. Errors: `Unavailable`, `Corrupt`."""
        cluster = self._led_cluster
        if cluster is None:
            raise Unavailable("the swarm has no leader at the moment")
        key_pem, request_pem = new_key_and_request()
        certificate = self._issuer.certificate(cluster, self._node_id, "manager", request_pem)
        keys = NodeKeys(key_pem, certificate, cluster.ca_cert_pem)
        self.renewed(keys)
        return keys

    def _sign(self, cluster: Cluster, node: Node, request_pem: bytes) -> bytes:
        role = self.leader.view.role_of(node) if self.leader is not None else "worker"
        return self._issuer.certificate(cluster, node.id, role, request_pem)


async def _until(is_so: Callable[[], bool], timeout_s: float, late: str) -> None:
    """Errors: `Unavailable`, with that text, where it is not so in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                if is_so():
                    return
                await asyncio.sleep(LEAD_POLL_S)
    except TimeoutError as error:
        raise Unavailable(late) from error
