"""`store.interfaces.Store` on etcd's protocol (grpc.aio over the stubs that aetcd carries).

The stubs, not aetcd's client class: eight transactions of a thousand operations must be in flight at once
and messages of megabytes pass.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc
from msgspec import Struct

from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, TooLarge, Unavailable
from skep.store.etcd.members import EtcdMembers
from skep.store.etcd.pages import MESSAGE_MAX_BYTES, Pages
from skep.store.interfaces import Compare, Delete, Fence, KeyValue, Put, Txn
from skep.store.sizes import check_txn

COMPACT_S = 60.0  # as long as it takes to go through 8 GB
CALL_S = 10.0  # etcd answers in milliseconds, within an election in 2 s; longer means that it is gone

_NOSPACE = re.compile(r"memberID:(\d+) .*NOSPACE")  # as etcd's status says it
_REFUSED = ("failed to connect", "connections to all backends failing", "Connection refused")
T = TypeVar("T")


class EtcdStatus(Struct, frozen=True):
    """What this host's member says: bytes on disk, bytes in use, present revision; who it is, who leads etcd,
    and which members have the alarm NOSPACE: nothing can be written while one has."""

    db_bytes: int
    db_in_use_bytes: int
    revision: int
    member_id: int
    leader_id: int
    is_learner: bool = False
    full_members: tuple[int, ...] = ()

    @property
    def leads(self) -> bool:
        return self.member_id == self.leader_id


class EtcdStore:
    """`target` is gRPC's address of etcd, such as `unix:/path`; `trouble` says why it may not answer."""

    def __init__(self, target: str, trouble: Callable[[], str] = str) -> None:
        self._trouble = trouble
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
                ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 3000),  # how long one attempt may take
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._kv = rpc_pb2_grpc.KVStub(self._channel)
        self._maintenance = rpc_pb2_grpc.MaintenanceStub(self._channel)
        self.cluster = EtcdMembers(self._channel)

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        start, end = prefix.encode(), _after_prefix(prefix.encode())
        found: list[KeyValue] = []
        revision = 0
        pages = Pages()
        while True:
            until = pages.until(start, end)
            request = rpc_pb2.RangeRequest(key=start, range_end=until, limit=pages.keys, revision=revision)
            try:
                page = await self._kv.Range(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                if pages.shrink() and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    continue  # more than a message may be
                raise Unavailable(self._unreachable(error)) from error
            revision = revision or page.header.revision
            found.extend(KeyValue(kv.key.decode(), kv.value, kv.mod_revision) for kv in page.kvs)
            if page.more:
                start = page.kvs[-1].key + b"\0"
                pages.came(len(page.kvs), page.ByteSize())
            elif until != end:
                start = until
            else:
                return found, revision

    async def commit(self, txn: Txn) -> int:
        check_txn(txn)
        compares = [_compare_revision(c) for c in txn.compares]
        failure = []
        if txn.fence is not None:
            compares.append(_compare_fence(txn.fence))
            key = txn.fence.key.encode()
            # Also what keeps a transaction without operations from being answered by a member that is
            # behind: etcd asks its quorum where one of them is a read that is not said to be "serializable".
            failure.append(rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key)))
        request = rpc_pb2.TxnRequest(compare=compares, success=[_op(op) for op in txn.ops], failure=failure)
        answer = await self._write(self._kv.Txn(request, timeout=CALL_S))
        if answer.succeeded:
            return int(answer.header.revision)
        if txn.fence is not None:
            held = answer.responses[0].response_range.kvs
            if not held or held[0].create_revision != txn.fence.create_revision:
                raise Deposed()
        raise Conflict("the object was changed by somebody else meanwhile")

    async def status(self) -> EtcdStatus:
        """Errors: `Unavailable`."""
        answer = await self._read(self._maintenance.Status(rpc_pb2.StatusRequest(), timeout=CALL_S))
        header = answer.header
        full = tuple(int(found[1]) for found in map(_NOSPACE.search, answer.errors) if found)
        return EtcdStatus(
            answer.dbSize,
            answer.dbSizeInUse,
            header.revision,
            header.member_id,
            answer.leader,
            answer.isLearner,
            full,
        )

    async def defragment(self, timeout_s: float = 60.0) -> None:
        """Gives unused pages of this host's member back to the disk; it stands still meanwhile (about 1 s per
        500 MB). Errors: `Unavailable`."""
        await self._read(self._maintenance.Defragment(rpc_pb2.DefragmentRequest(), timeout=timeout_s))

    async def compact(self, revision: int) -> None:
        """Forgets, on all members, what was written over before `revision`. Errors: `Unavailable`."""
        request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        try:
            await self._kv.Compact(request, timeout=COMPACT_S)
        except grpc.aio.AioRpcError as error:
            if "compacted" not in (error.details() or ""):  # another member has done it
                raise Unavailable(self._unreachable(error)) from error

    async def raise_nospace(self, member_id: int) -> None:
        """Raises the alarm NOSPACE for a member. Errors: `Unavailable`."""
        await self._alarm(rpc_pb2.AlarmRequest.ACTIVATE, member_id)

    async def disarm(self, member_id: int) -> None:
        """Takes a member's alarm NOSPACE back. Errors: `Unavailable`."""
        await self._alarm(rpc_pb2.AlarmRequest.DEACTIVATE, member_id)

    async def _alarm(self, action: Any, member_id: int) -> None:
        request = rpc_pb2.AlarmRequest(action=action, memberID=member_id, alarm=rpc_pb2.NOSPACE)
        await self._read(self._maintenance.Alarm(request, timeout=CALL_S))

    async def close(self) -> None:
        await self._channel.close()

    async def _read(self, call: Awaitable[T]) -> T:
        """Errors: `Unavailable`; reading changes nothing, so an unknown outcome is none."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise Unavailable(self._unreachable(error)) from error

    async def _write(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if "space exceeded" in details:
                raise Unavailable(
                    "etcd's database has reached its quota: it is compacted and defragmented now; try again"
                    " in a minute"
                ) from error
            if error.code() == grpc.StatusCode.UNAVAILABLE and any(text in details for text in _REFUSED):
                raise Unavailable(self._unreachable(error)) from error
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
                if "too large" in details or "larger than max" in details:
                    raise TooLarge(f"this is more than the store takes at once ({details})") from error
                raise Unavailable(f"etcd refused the write: {details}") from error
            raise OutcomeUnknown(
                f"the change may or may not have been made: etcd's answer was lost ({details})."
                " Look at what is there, then try again"
            ) from error

    def _unreachable(self, error: grpc.aio.AioRpcError) -> str:
        trouble = self._trouble()
        if trouble:
            return f"etcd ended, and is started again until it stays: {trouble}"
        return f"etcd cannot be reached: {error.details()}"


def _op(op: Put | Delete) -> Any:
    if isinstance(op, Put):
        return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=op.key.encode(), value=op.value))
    return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=op.key.encode()))


def _compare_revision(compare: Compare) -> Any:
    equal, mod = rpc_pb2.Compare.EQUAL, rpc_pb2.Compare.MOD
    return rpc_pb2.Compare(result=equal, target=mod, key=compare.key.encode(), mod_revision=compare.revision)


def _compare_fence(fence: Fence) -> Any:
    return rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL,
        target=rpc_pb2.Compare.CREATE,
        key=fence.key.encode(),
        create_revision=fence.create_revision,
    )


def _after_prefix(prefix: bytes) -> bytes:
    """Returns the first key after all keys that begin with `prefix`, which ends in no 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
