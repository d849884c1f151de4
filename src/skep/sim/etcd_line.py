"""One manager's connection to its own etcd: store and members, with what goes wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from skep.runtime.errors import OutcomeUnknown, Unavailable
from skep.sim.etcd import Etcd, Peer, check_may_change
from skep.store.interfaces import KeyValue, Member, Txn
from skep.store.memory import MemoryStore, StoreFaults

T = TypeVar("T")


class EtcdLine(MemoryStore):
    """Fulfils `Store` and `OwnMember` of `store.interfaces`."""

    def __init__(self, etcd: Etcd, peer: Peer, faults: StoreFaults) -> None:
        super().__init__(etcd.state)
        self._etcd = etcd
        self._peer = peer
        self._stumbles = faults

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        state = self._etcd.state
        return await self._read(lambda: (state.prefix(prefix), state.revision))

    async def commit(self, txn: Txn) -> int:
        self.check()
        await self._stumbles.before_commit(txn)
        self.check()
        revision = await self._asked(lambda: self._write(txn))
        await self._stumbles.after_commit(txn)
        return revision

    def check(self) -> None:
        """Errors: `Unavailable`."""
        super().check()
        if not self._peer.running:
            raise Unavailable("etcd cannot be reached: connection refused")

    async def take_name(self, node_id: str) -> None:
        """It is named so."""

    # store.interfaces.Members

    async def members(self) -> list[Member]:
        members = self._etcd.members
        return await self._read(lambda: sorted(members.values(), key=lambda m: m.node_id))

    async def add_learner(self, node_id: str) -> None:
        def add() -> None:
            check_may_change(self._etcd, self._peer, None, "add")
            self._etcd.new_member(node_id, is_learner=True)

        await self._asked(add, False)

    async def promote(self, member: Member) -> None:
        def promote() -> None:
            check_may_change(self._etcd, self._peer, member, "promote")
            self._etcd.members[member.id] = Member(member.id, member.node_id, False)
            self._etcd.check_quorum_is_left(f"the promotion of {member.node_id}")

        await self._asked(promote, False)

    async def holds_lead(self, member: Member) -> bool:
        self.check()
        return self._etcd.leads == member.node_id

    async def remove(self, member: Member) -> None:
        def remove() -> None:
            check_may_change(self._etcd, self._peer, member, "remove")
            del self._etcd.members[member.id]
            self._etcd.check_quorum_is_left(f"the removal of {member.node_id}")

        await self._asked(remove, False)

    # store.interfaces.OwnMember

    async def is_learner(self) -> bool:
        self.check()
        member = self._etcd.member_of(self._peer)
        return member is not None and member.is_learner

    async def is_voter(self) -> bool:
        self.check()
        member = self._etcd.member_of(self._peer)
        return member is not None and not member.is_learner and self._etcd.is_led(self._peer)

    async def is_led(self) -> bool:
        self.check()
        return self._etcd.is_led(self._peer)

    async def hold_lead(self, node_id: str) -> None:
        target = self._etcd.peers.get(node_id)
        if self._etcd.leads == self._peer.node_id and target is not None:
            self._etcd.move_lead(target)

    # Inside

    def _write(self, txn: Txn) -> int:
        revision = self._apply(txn)
        for watch in self._etcd.watchers if txn.ops else ():
            watch(self._peer, txn)
        return revision

    def _check_voter(self) -> None:
        self.check()
        member = self._etcd.member_of(self._peer)
        if member is not None and member.is_learner:
            raise Unavailable("etcdserver: rpc not supported for learner")

    async def _read(self, read: Callable[[], T]) -> T:
        self._check_voter()
        result = await asyncio.shield(self._etcd.read(self._peer, read))
        self.check()
        return result

    async def _asked(self, change: Callable[[], T], is_write: bool = True) -> T:
        """Errors: `change`'s, `Unavailable`; `OutcomeUnknown` also where this process is gone meanwhile."""
        self._check_voter()
        result = await asyncio.shield(self._etcd.ask(self._peer, change, is_write))
        if self._crashed:
            raise OutcomeUnknown("the connection to etcd was lost")
        return result
