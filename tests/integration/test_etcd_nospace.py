"""An etcd whose file has reached its quota is cured without an operator: alone, and of three, in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from skep.runtime.errors import SkepError, Unavailable
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.maintenance import FULL, maintain, turn
from skep.store.port import Put, Txn

from .etcd_members import members_of, until

QUOTA_BYTES = 16 << 20
LOOK_S = 0.2


def test_members_have_their_turn_one_after_the_other_and_the_leader_is_last() -> None:
    assert turn([3, 1, 2], leader_id=1) == 2
    assert turn([3, 1], leader_id=1) == 3
    assert turn([1], leader_id=1) == 1


async def test_an_etcd_that_is_full_is_written_to_again(tmp_path: Path) -> None:
    async with members_of(tmp_path, ["m1"], QUOTA_BYTES) as stores:
        said: list[str] = []
        with pytest.raises(Unavailable, match="has reached its quota: it is compacted"):
            await fill(stores["m1"])
        assert (await stores["m1"].status()).full_members
        async with keeping(maintain(stores["m1"], 1 << 40, said.append, LOOK_S)):
            await until(lambda: is_well(stores["m1"]))
            await stores["m1"].commit(Txn((Put("/t/after", b"x"),)))
            await until_true(lambda: said == [FULL, ""])
        assert (await stores["m1"].status()).db_bytes < QUOTA_BYTES // 2


async def test_of_three_each_is_defragmented_in_its_turn(tmp_path: Path) -> None:
    async with members_of(tmp_path, ["m1", "m2", "m3"], QUOTA_BYTES) as stores:
        with pytest.raises(Unavailable, match="quota"):
            await fill(stores["m2"])
        leader = (await stores["m1"].status()).leader_id
        with capture_logs() as logged:
            async with keeping(*(maintain(s, 1 << 40, look_s=LOOK_S) for s in watched(stores))):
                await until(lambda: is_well(stores["m3"]))
        for store in stores.values():
            await store.commit(Txn((Put("/t/after", b"x"),)))
            assert (await store.status()).db_bytes < QUOTA_BYTES // 2
        assert [each["event"] for each in logged].count("etcd.defragmented") == 3
        assert not overlaps(defragmented)
        assert defragmented[-1][0] == leader


async def test_one_that_grows_is_compacted_before_it_is_full(tmp_path: Path) -> None:
    async with members_of(tmp_path, ["m1"], QUOTA_BYTES) as stores:
        store = stores["m1"]
        async with keeping(maintain(store, QUOTA_BYTES // 2, look_s=0.02)):
            for n in range(24):
                await store.commit(Txn((Put("/t/x", bytes([n]) * (1 << 18)),)))
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
        status = await store.status()
        assert status.db_in_use_bytes < QUOTA_BYTES // 4
        assert not status.full_members


defragmented: list[tuple[int, float, float]] = []  # (member id, from, to)


def watched(stores: dict[str, EtcdStore]) -> list[EtcdStore]:
    """The stores, which note when they are defragmented."""
    loop = asyncio.get_running_loop()
    defragmented.clear()

    def watch(store: EtcdStore) -> EtcdStore:
        inner = store.defragment

        async def defragment(timeout_s: float = 60.0) -> None:
            member_id, began = (await store.status()).member_id, loop.time()
            await inner(timeout_s)
            defragmented.append((member_id, began, loop.time()))

        store.defragment = defragment  # type: ignore[method-assign]
        return store

    return [watch(store) for store in stores.values()]


def overlaps(spans: list[tuple[int, float, float]]) -> bool:
    ordered = sorted(spans, key=lambda span: span[1])
    return any(later[1] < earlier[2] for earlier, later in itertools.pairwise(ordered))


async def fill(store: EtcdStore) -> None:
    for n in range(100):
        await store.commit(Txn((Put("/t/x", bytes([n]) * (1 << 20)),)))


async def is_well(store: EtcdStore) -> bool:
    with contextlib.suppress(SkepError):
        if not (await store.status()).full_members:
            await store.commit(Txn((Put("/t/probe", b"x"),)))
            return True
    return False


async def until_true(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def keeping(*works: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
