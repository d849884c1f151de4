"""Keeps etcd's file small, and cures one that is full, without an operator.

etcd keeps what was written over until it compacts, and never shrinks its file. A file at its quota makes etcd
raise the alarm NOSPACE and refuse all writes, whose only way out is: compact, defragment each member, take
the alarm back. A member stands still while it is defragmented, so they go one after the other, the one that
leads etcd last; whose turn it is they tell each other by alarms, which can be written when nothing else can:
each raises one of its own and takes it back when it is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from skep.model.bounds import ETCD_QUOTA_BYTES
from skep.runtime.errors import SkepError, Unavailable
from skep.store.etcd.client import EtcdStatus, EtcdStore
from skep.store.interfaces import Store, Txn

log = structlog.get_logger()

LOOK_S = 2.0  # at this host's own member: it costs nothing, and a swarm that is full stands still
PERIOD_S = 300.0
WASTE_MIN_BYTES = 64 << 20  # less is not worth a pause
WASTE_SHARE = 0.5  # of the file
EARLY_SHARE = 0.5  # of the quota: what is compacted from there on leaves room, and there is no alarm
EARLY_S = 30.0  # between two such; the fastest writers fill a tenth of the quota meanwhile
JOIN_S = 3 * LOOK_S  # until all members have seen an alarm and raised their own
TURN_S = 60.0  # of another member, and what its file takes besides: then it is taken to be away
AGAIN_S = 30.0  # a store full of what lives is not defragmented without end
CURED_S = 300.0  # a file of 8 GB takes 230 s, at the speed below
BYTES_PER_S = 50e6  # defragmented at least; a slow disk's

FULL = "etcd's database has reached its quota: it is being compacted and defragmented, writes wait for that"


async def maintain(
    store: EtcdStore,
    quota_bytes: int = ETCD_QUOTA_BYTES,
    say: Callable[[str], None] = lambda text: None,
    look_s: float = LOOK_S,
    saw: Callable[[EtcdStatus], None] = lambda status: None,
) -> None:
    """Defragments whenever half of a large file is unused, compacts one that grows fast, and cures one that
    is full; `say` hears what users should know meanwhile, and an empty text after it, `saw` how it is each
    time that it was looked at. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    early_at = cure_at = 0.0  # loop time: not before
    is_full = False
    period = _period()
    while True:
        await asyncio.sleep(look_s)
        try:
            status = await store.status()
            saw(status)
            if is_full != bool(status.full_members):
                is_full = bool(status.full_members)
                say(FULL if is_full else "")
            now = loop.time()
            if is_full:
                if now > cure_at and not status.is_learner:
                    await Cure(store, look_s).run()
                    cure_at = loop.time() + AGAIN_S
                continue
            if status.db_in_use_bytes > EARLY_SHARE * quota_bytes and status.leads and now > early_at:
                early_at = now + EARLY_S
                log.info("etcd.compact", db_bytes=status.db_bytes, in_use_bytes=status.db_in_use_bytes)
                await store.compact(status.revision)
            if period != _period() and await _is_own_turn(store, status):
                await _shrink(store, status)
            period = _period()
        except SkepError as error:
            log.warning("etcd.maintenance", error=str(error))


async def commit_cured(
    store: EtcdStore, sealed: Store, txn: Txn, within_s: float = CURED_S, poll_s: float = LOOK_S
) -> None:
    """Commits `txn` by `sealed`; where `store`, below it, is full, once `maintain` has cured that. `txn` is
    one that may be done twice. Errors: as `Store`'s; `Unavailable` also where it is not cured in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while True:
        was_full = bool((await store.status()).full_members)
        try:
            await sealed.commit(txn)
            return
        except Unavailable:
            # It may have become full by this write, or have been cured just now.
            is_full = was_full or bool((await store.status()).full_members)
            if not is_full or loop.time() > end:
                raise
        await asyncio.sleep(poll_s)


def _period() -> int:
    """Returns which period it is by the clock of the wall, which managers share more or less."""
    return int(time.time() // PERIOD_S)


async def _is_own_turn(store: EtcdStore, status: EtcdStatus) -> bool:
    """True in one of as many periods as there are members: they are not defragmented at the same time."""
    order = sorted(member.id for member in await store.cluster.members())
    return bool(order) and order[_period() % len(order)] == status.member_id


async def _shrink(store: EtcdStore, status: EtcdStatus) -> None:
    waste = status.db_bytes - status.db_in_use_bytes
    if waste > WASTE_MIN_BYTES and waste > status.db_bytes * WASTE_SHARE:
        log.info("etcd.defragment", db_bytes=status.db_bytes, waste_bytes=waste)
        await store.defragment(_defragment_s(status))


class Cure:
    """One member's part in the cure of a full store."""

    def __init__(self, store: EtcdStore, look_s: float = LOOK_S) -> None:
        self._store = store
        self._look_s = look_s
        self._is_done = False
        self._head = 0  # whose turn it is, and since when (loop time)
        self._since = 0.0

    async def run(self) -> None:
        """Returns when no member has the alarm. Errors: `Unavailable`; begin again."""
        loop = asyncio.get_running_loop()
        status = await self._store.status()
        log.error("etcd.nospace", db_bytes=status.db_bytes, members=len(status.full_members))
        if status.member_id not in status.full_members:
            await self._store.raise_nospace(status.member_id)
        await asyncio.sleep(JOIN_S / LOOK_S * self._look_s)
        while (status := await self._store.status()).full_members:
            first = turn(status.full_members, status.leader_id)
            if first != self._head:
                self._head, self._since = first, loop.time()
            if first == status.member_id:
                await self._take_turn(status)
            elif loop.time() > self._since + TURN_S + _defragment_s(status):
                log.warning("etcd.nospace_absent", member=f"{first:x}")  # it raises its alarm again by itself
                await self._store.disarm(first)
            else:
                await asyncio.sleep(self._look_s)
        log.warning("etcd.nospace_cured", db_bytes=status.db_bytes, in_use_bytes=status.db_in_use_bytes)

    async def _take_turn(self, status: EtcdStatus) -> None:
        if not self._is_done:  # it may be raised again meanwhile: by a client's write, before all are done
            await self._store.compact(status.revision)
            await self._store.defragment(_defragment_s(status))
            self._is_done = True
            after = await self._store.status()
            sizes = {"before_bytes": status.db_bytes, "after_bytes": after.db_bytes}
            log.warning("etcd.defragmented", **sizes)
        await self._store.disarm(status.member_id)


def turn(full_members: Sequence[int], leader_id: int) -> int:
    """Returns which of the members that have the alarm is defragmented now: etcd's leader last. Pure."""
    return min(full_members, key=lambda member_id: (member_id == leader_id, member_id))


def _defragment_s(status: EtcdStatus) -> float:
    return 60.0 + status.db_bytes / BYTES_PER_S
