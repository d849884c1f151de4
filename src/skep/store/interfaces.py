"""What skep needs of a store: ordered keys, and transactions with compares.

Two classes fulfil it: `store.etcd.client.EtcdStore` and `store.memory.MemoryStore` (tests, simulation).
One contract test runs on both (tests/integration/test_store_contract.py). The store knows bytes only;
`store.codec` turns them into objects.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class KeyValue(Struct, frozen=True, gc=False):
    """One stored key. `revision` is the store-wide revision of its last write (etcd: mod_revision). `trouble`
    says why a value cannot be opened, which is empty then."""

    key: str
    value: bytes
    revision: int
    trouble: str = ""


class Put(Struct, frozen=True, gc=False):
    """Write `value` under `key`."""

    key: str
    value: bytes


class Delete(Struct, frozen=True, gc=False):
    """Remove `key`; nothing happens where it does not exist."""

    key: str


class Compare(Struct, frozen=True, gc=False):
    """`key` was last written at `revision`; 0 means that it must not exist."""

    key: str
    revision: int


class Txn(Struct, frozen=True):
    """All of `ops` or none: applied only where every compare holds and `fence` is still the leader's. Without
    `ops` it is the question whether they do, which the quorum answers and nothing is written for."""

    ops: tuple[Put | Delete, ...]
    compares: tuple[Compare, ...] = ()
    fence: Fence | None = None


class Fence(Struct, frozen=True):
    """Proof of leadership: the leadership key and the revision that created it.

    Every write of a leader carries it, so that a deposed leader cannot write.
    """

    key: str
    create_revision: int


OPS_MAX = 1024  # per transaction; larger ones stall etcd (measured: 4,096 stalls it up to 1.3 s)


class Store(Protocol):
    """Errors: `Conflict` a compare failed; `Denied` the fence failed; `Unavailable` nothing was done;
    `OutcomeUnknown` the write may have been done."""

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        """Returns every key below `prefix`, at one revision, and that revision."""
        ...

    async def commit(self, txn: Txn) -> int:
        """Applies `txn` (at most `OPS_MAX` ops) and returns its revision, durable by then."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Member(Struct, frozen=True):
    """A manager's copy of the store. A learner follows and does not vote yet."""

    id: int
    node_id: str
    is_learner: bool
    is_started: bool = True  # it has taken part; it must not come back without its data


class Members(Protocol):
    """Who holds the store. A change is made by the quorum there is, one at a time.

    Errors: `Conflict` where it cannot be made now (the text says why), `Unavailable` without a quorum.
    """

    async def members(self) -> list[Member]:
        """Returns all, in order of their node ids."""
        ...

    async def add_learner(self, node_id: str) -> None:
        """Lets a node follow; one at a time. `Conflict` while another one follows."""
        ...

    async def promote(self, member: Member) -> None:
        """Gives a learner its vote. `Conflict` while it has not caught up."""
        ...

    async def holds_lead(self, member: Member) -> bool:
        """True where the member leads the store's own votes: without it there is a vote first."""
        ...

    async def remove(self, member: Member) -> None:
        """Takes a member out for good. `Conflict` where etcd sees no quorum without it."""
        ...


class OwnMember(Members, Protocol):
    """The same, as a manager sees it from its own copy. Errors: `Unavailable` where that does not answer."""

    async def take_name(self, node_id: str) -> None:
        """Gives this host's own member its address by node id."""

    async def is_voter(self) -> bool:
        """True once the own member has a vote and knows who leads the store."""
        ...

    async def is_learner(self) -> bool:
        """True while the own member has no vote: it may not ask who the members are."""
        ...

    async def is_led(self) -> bool:
        """True when the own member knows who leads the store."""
        ...

    async def hold_lead(self, node_id: str) -> None:
        """Hands the store's own lead to that node's member, where this host's has it."""


class ClusterStore(Store, Protocol):
    """A manager's own copy of the store, as a member of those who hold it."""

    @property
    def cluster(self) -> OwnMember: ...
