"""Members of etcd's cluster: who holds the store (fulfils `store.interfaces.Members`).

A member's peer address is the name of a unix socket that only its node's id is in: where a manager is
reached is skepd's to know (`rpc.streams`), so a manager that moves stays the same member.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from skep.runtime.errors import Conflict, Unavailable
from skep.store.interfaces import Member

CALL_S = 5.0
T = TypeVar("T")


def peer_url(node_id: str) -> str:
    """Returns the peer address of a node's member, as etcd has it."""
    return f"unix://{peer_socket(node_id)}"


def peer_socket(node_id: str) -> str:
    """Returns the name of the socket that is meant, in etcd's working directory. etcd wants a port."""
    return f"{node_id}:0"


class EtcdMembers:
    """`channel` is a store's connection to its etcd."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._cluster = rpc_pb2_grpc.ClusterStub(channel)
        self._maintenance = rpc_pb2_grpc.MaintenanceStub(channel)

    async def members(self) -> list[Member]:
        answer = await _called(self._cluster.MemberList(rpc_pb2.MemberListRequest(), timeout=CALL_S))
        found = [
            Member(m.ID, _node_of(m.peerURLs[0] if m.peerURLs else "") or m.name, m.isLearner, bool(m.name))
            for m in answer.members
        ]
        return sorted(found, key=lambda member: member.node_id)

    async def add_learner(self, node_id: str) -> None:
        request = rpc_pb2.MemberAddRequest(peerURLs=[peer_url(node_id)], isLearner=True)
        await _called(self._cluster.MemberAdd(request, timeout=CALL_S))

    async def promote(self, member: Member) -> None:
        await _called(self._cluster.MemberPromote(rpc_pb2.MemberPromoteRequest(ID=member.id), timeout=CALL_S))

    async def remove(self, member: Member) -> None:
        await _called(self._cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=member.id), timeout=CALL_S))

    async def holds_lead(self, member: Member) -> bool:
        return bool((await self._own()).leader == member.id)

    async def take_name(self, node_id: str) -> None:
        """Gives this host's own member its address by node id: stores of one manager had another."""
        own = (await self._own()).header.member_id
        for member in (await _called(self._cluster.MemberList(rpc_pb2.MemberListRequest()))).members:
            if own == member.ID and list(member.peerURLs) != [peer_url(node_id)]:
                request = rpc_pb2.MemberUpdateRequest(ID=own, peerURLs=[peer_url(node_id)])
                await _called(self._cluster.MemberUpdate(request, timeout=CALL_S))

    async def is_voter(self) -> bool:
        """True once this host's own member has a vote and knows who leads etcd. Errors: `Unavailable`."""
        status = await self._own()
        return bool(status.leader) and not status.isLearner

    async def is_learner(self) -> bool:
        """True while this host's own member has no vote: it may not ask who the members are."""
        return bool((await self._own()).isLearner)

    async def is_led(self) -> bool:
        """True when this host's own member knows who leads etcd. Errors: `Unavailable`."""
        return bool((await self._own()).leader)

    async def hold_lead(self, node_id: str) -> None:
        """Hands etcd's own lead to that node's member, where this host's has it: a write of a leader that
        is next to etcd's leader takes one way less. Does nothing elsewhere."""
        status = await self._own()
        if status.leader != status.header.member_id:
            return
        for member in await self.members():
            if member.node_id == node_id and member.id != status.leader and not member.is_learner:
                await _called(
                    self._maintenance.MoveLeader(
                        rpc_pb2.MoveLeaderRequest(targetID=member.id), timeout=CALL_S
                    )
                )

    async def _own(self) -> rpc_pb2.StatusResponse:
        return await _called(self._maintenance.Status(rpc_pb2.StatusRequest(), timeout=CALL_S))


def _node_of(url: str) -> str:
    """Returns the node id in a peer address of ours."""
    return url.removeprefix("unix://").removesuffix(":0") if url.startswith("unix://") else ""


async def _called(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        details = error.details() or str(error.code())
        if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
            raise Conflict(details) from error
        raise Unavailable(f"etcd's members cannot be read or changed: {details}") from error
