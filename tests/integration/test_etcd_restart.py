"""After the largest writes that are sent, all members of an etcd that are killed come back, with all of it.

Before they were bounded, one of 15 MB ended this: "wal: max entry size limit exceeded", on each member.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from skep.model.bounds import TXN_MAX_BYTES
from skep.runtime.errors import SkepError
from skep.store.etcd.client import EtcdStore
from skep.store.interfaces import Put, Txn

from .etcd_members import members_of, until

IN_FLIGHT, ROUNDS = 8, 4  # as the leader has them: 64 MB
NAMES = ["m1", "m2", "m3"]


async def test_all_members_come_back_after_the_largest_writes(tmp_path: Path) -> None:
    async with members_of(tmp_path, NAMES) as stores:
        for n in range(ROUNDS):
            await asyncio.gather(*(largest(stores["m1"], f"/t/{n}-{m}") for m in range(IN_FLIGHT)))
        for name in NAMES:  # as machines do that lose their power
            os.kill(int((tmp_path / name / "etcd" / "pid").read_text()), signal.SIGKILL)
    async with members_of(tmp_path, NAMES) as stores:
        for store in stores.values():
            await until(lambda store=store: has_all(store))  # type: ignore[misc]
            await largest(store, "/t/after")


async def largest(store: EtcdStore, key: str) -> None:
    await store.commit(Txn((Put(key, os.urandom(TXN_MAX_BYTES - 1000)),)))


async def has_all(store: EtcdStore) -> bool:
    try:
        pairs, _ = await store.load("/t/")
    except SkepError:
        return False
    return len([pair for pair in pairs if pair.key != "/t/after"]) == IN_FLIGHT * ROUNDS
