"""A manager takes nodes in: here where it leads, else through the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from skep.daemon.leader_client import EnrolFor
from skep.daemon.platform import LeaderLine
from skep.manager.ca.authority import role_of_token
from skep.manager.ca.issuer import Issuer
from skep.manager.leader import Leader
from skep.model.cluster import Cluster
from skep.rpc.certificates import parse_join_token
from skep.rpc.checking import check_enrolment
from skep.rpc.enrolment_messages import Enrol, Enrolled, encode
from skep.rpc.messages import UNREADABLE
from skep.rpc.trimming import trimmed
from skep.runtime.errors import Denied, Deposed, Invalid, NoLeader, Unavailable
from skep.runtime.ids import NewId, is_id

ENROL_S = 15.0  # how long a node that joins waits for a leader; its own patience is 20 s
ENROL_RETRY_S = 0.2


class Enrolling:
    """`leader` gives the leader while it is this manager, `cluster` the swarm's as this manager knows it,
    `addresses` where managers are reached."""

    def __init__(
        self,
        leader: Callable[[], Leader | None],
        cluster: Callable[[], Cluster | None],
        leader_line: LeaderLine,
        addresses: Callable[[], list[str]],
        issuer: Issuer,
        new_id: NewId,
    ) -> None:
        self._leader = leader
        self._cluster = cluster
        self._leader_line = leader_line
        self._addresses = addresses
        self._issuer = issuer
        self._new_id = new_id

    def knows(self, token: str) -> bool:
        """True for a token of this swarm. Only the leader is sure of what is none: another manager learns
        within seconds of a token that is new. Errors: `Invalid`, `Denied`."""
        parse_join_token(token)
        leader, cluster = self._leader(), self._cluster()
        if cluster is None:
            return False
        try:
            _role(token, cluster)
        except Denied:
            if leader is not None and leader.is_sure:
                raise
            return False
        return True

    async def enrol(self, request: Enrol, remote_host: str) -> Enrolled:
        """Takes a node in, here or through the leader; waits for one. Errors: `Denied`, `Invalid`,
        `Unavailable`."""
        asked = EnrolFor(request, remote_host, self._new_id())
        deadline = asyncio.get_running_loop().time() + ENROL_S
        while True:
            try:
                if self._leader() is not None:
                    return await self._enrol_here(asked)
                return await self._leader_line.enrol(asked)
            except (Unavailable, Deposed):
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(ENROL_RETRY_S)

    async def enrol_for(self, body: bytes) -> bytes:
        """Takes a node in that joins through another manager: `EnrolFor` to `Enrolled`, both msgpack."""
        try:
            asked = msgspec.msgpack.decode(body, type=EnrolFor)
        except UNREADABLE as error:
            raise Invalid(f"not a message of enrolment: {error}") from error
        return encode(await self._enrol_here(asked))

    async def _enrol_here(self, asked: EnrolFor) -> Enrolled:
        """Takes a node in; asked for twice, to the same effect. Errors: as `enrol`, `NoLeader`."""
        leader, request = self._leader(), asked.request
        cluster = leader.view.cluster if leader is not None else None
        if leader is None or cluster is None or not leader.is_sure:
            raise NoLeader("the swarm has no leader at the moment; try again")
        role = _role(request.token, cluster)
        description, _ = trimmed(request.description)  # what is left out, its first session says
        request = replace(request, description=description)
        check_enrolment(request)
        if not is_id(asked.node_id):
            raise Invalid("the manager that the node came to gives it an id that is none")
        certificate = self._issuer.certificate(cluster, asked.node_id, role, request.request_pem)
        if asked.node_id not in leader.view.nodes:
            availability = request.availability or "active"
            await leader.nodes.add(asked.node_id, role, availability, request.description, asked.remote_host)
        return Enrolled(asked.node_id, certificate, cluster.id, self._addresses())


def _role(token: str, cluster: Cluster) -> str:
    """Errors: `Denied`, `Invalid`."""
    return role_of_token(
        token, cluster.ca_cert_pem, cluster.worker_token_secret, cluster.manager_token_secret
    )
