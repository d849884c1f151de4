"""The manager on this host: etcd, the port, the election, and the leader while we lead."""

from __future__ import annotations

import asyncio
import random
import secrets

from skep.daemon.state import StateDir
from skep.manager.ca.authority import Authority, new_secret, role_of_token
from skep.manager.candidate import Candidate
from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.model.cluster import Cluster
from skep.model.node import Node
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.rpc.enrol import EnrolHandler
from skep.rpc.enrolment_messages import Enrol, Enrolled
from skep.rpc.link import LinkServer
from skep.rpc.messages import Goodbye, encode
from skep.rpc.port import Connection, Handler
from skep.rpc.tls import load_chain, server_context
from skep.runtime.clock import Clock
from skep.runtime.errors import Unavailable, Unsupported
from skep.runtime.ids import id_source
from skep.store import codec
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.maintenance import maintain
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.port import Compare, Put, Txn

LEAD_S = 30.0  # until a new swarm's only manager leads; longer means that etcd is broken


class ManagerPart:
    """`listen` and `advertise` are (host, port)."""

    def __init__(
        self,
        state: StateDir,
        keys: NodeKeys,
        node_id: str,
        listen: tuple[str, int],
        advertise: str,
        etcd_binary: str,
        clock: Clock,
        rng: random.Random,
        hub: EventHub,
    ) -> None:
        self._keys = keys
        self._context = server_context(keys)
        self._node_id = node_id
        self._listen = listen
        self._advertise = advertise
        self._clock = clock
        self._new_id = id_source(rng)
        self._hub = hub
        self.etcd = EtcdProcess(state.path, etcd_binary)
        self._store: EtcdStore | None = None
        self._server = LinkServer()
        self._works: list[asyncio.Task[None]] = []
        self._candidate: Candidate | None = None
        self._authority: Authority | None = None

    @property
    def leader(self) -> Leader | None:
        """The leader, while it is this manager."""
        return self._candidate.leader if self._candidate is not None else None

    async def start(self, first: tuple[Put, ...] = ()) -> None:
        """Opens the store (writing `first` into an empty one) and the port, and begins to campaign.

        Errors: `Invalid`, `Unavailable`, `Corrupt`.
        """
        await self.etcd.start()
        self._store = EtcdStore(self.etcd.target, self.etcd.trouble)
        if first:
            empty = (Compare(codec.SCHEMA_KEY, 0),)
            await self._store.commit(Txn(first, compares=empty))
        await self._server.listen(*self._listen, self._context, self._handler)
        self._candidate = Candidate(
            self._store,
            self._node_id,
            self._clock,
            self._new_id,
            lambda: new_secret(secrets.token_bytes(16)),
            self._hub,
            [self._advertise],
            self._sign,
        )
        self._works = [
            asyncio.ensure_future(self._candidate.run()),
            asyncio.ensure_future(maintain(self._store)),
        ]

    async def wait_leading(self, timeout_s: float = LEAD_S) -> Leader:
        """Errors: `Unavailable` where no leadership comes about in time."""
        assert self._candidate is not None
        try:
            await asyncio.wait_for(self._candidate.leads.wait(), timeout_s)
        except TimeoutError as error:
            raise Unavailable(f"this manager could not take the lead within {timeout_s:.0f} s") from error
        assert self.leader is not None
        return self.leader

    async def stop(self) -> None:
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        await self._server.close()
        if self._store is not None:
            await self._store.close()
        await self.etcd.stop()

    def _handler(self, connection: Connection) -> Handler | None:
        if connection.identity is None:
            return EnrolHandler(connection, self._keys.ca_pem, self._issue)
        if self.leader is None:
            return _NotLeading(connection, [self._advertise])
        return self.leader.dispatcher.open(connection)

    async def _issue(self, request: Enrol, remote_host: str) -> Enrolled:
        """Takes a node in. Errors: `Denied`, `Invalid`, `Unavailable`, `Unsupported`."""
        leader = self.leader
        cluster = leader.view.cluster if leader is not None else None
        if leader is None or cluster is None:
            raise Unavailable("the swarm has no leader at the moment; try again")
        role = role_of_token(
            request.token, cluster.ca_cert_pem, cluster.worker_token_secret, cluster.manager_token_secret
        )
        if role == "manager":
            raise Unsupported("joining as a manager is not supported by this version of skep yet")
        node_id = self._new_id()
        certificate = self._certificate(cluster, node_id, role, request.request_pem)
        availability = request.availability or "active"
        await leader.nodes.add(node_id, role, availability, request.description, remote_host)
        return Enrolled(node_id, certificate, cluster.id, [self._advertise])

    def renewed(self, keys: NodeKeys) -> None:
        """This manager's own certificate was renewed: new connections are shown it."""
        self._keys = keys
        load_chain(self._context, keys)

    def renew_own(self) -> NodeKeys:
        """Signs a new certificate for this manager itself; it leads. Errors: `Unavailable`, `Corrupt`."""
        cluster = self.leader.view.cluster if self.leader is not None else None
        if cluster is None:
            raise Unavailable("the swarm has no leader at the moment")
        key_pem, request_pem = new_key_and_request()
        certificate = self._certificate(cluster, self._node_id, "manager", request_pem)
        keys = NodeKeys(key_pem, certificate, cluster.ca_cert_pem)
        self.renewed(keys)
        return keys

    def _sign(self, cluster: Cluster, node: Node, request_pem: bytes) -> bytes:
        return self._certificate(cluster, node.id, node.spec.role, request_pem)

    def _certificate(self, cluster: Cluster, node_id: str, role: str, request_pem: bytes) -> bytes:
        now, expiry_s = self._clock.now(), cluster.spec.node_cert_expiry_s
        return self._authority_of(cluster).sign(request_pem, node_id, role, cluster.id, now, expiry_s)

    def _authority_of(self, cluster: Cluster) -> Authority:
        """Parsing the CA's key takes as long as signing: it is done once."""
        if self._authority is None or self._authority.ca_pem != cluster.ca_cert_pem:
            self._authority = Authority(cluster.ca_cert_pem, cluster.ca_key_pem)
        return self._authority


class _NotLeading:
    """A session came to a manager that does not lead (yet): it is told to try again."""

    def __init__(self, connection: Connection, managers: list[str]) -> None:
        self._connection = connection
        self._managers = managers

    def connected(self, connection: Connection) -> None:
        goodbye = Goodbye("not-leader", "this manager does not lead", self._managers)
        connection.send(encode(goodbye))
        connection.close()

    def frame(self, data: bytes) -> None:
        """What it says does not matter."""

    def closed(self, reason: str) -> None:
        """Nothing is kept of it."""
