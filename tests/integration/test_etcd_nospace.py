"""An etcd whose file has reached its quota is cured without an operator: alone, and of three, in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from skep.agent.executor.interfaces import Executor
from skep.api.interfaces import InitRequest
from skep.daemon.founding import found_swarm
from skep.daemon.keys import KeyFiles
from skep.daemon.manager_parts import EtcdCopy
from skep.daemon.manager_runner import ManagerRunner
from skep.daemon.state import StateDir
from skep.daemon.this_host import HostSettings, ThisHost
from skep.manager.events import EventHub
from skep.runtime.clock import SystemClock
from skep.runtime.errors import SkepError, Unavailable
from skep.store import codec
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.maintenance import FULL, commit_cured, maintain, turn
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import Put, Txn
from skep.store.seal import KEY_BYTES

from .etcd_members import members_of, until

QUOTA_BYTES = 16 << 20
LOOK_S = 0.2
NODE_ID = "m1"


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


async def test_what_has_to_be_written_to_a_full_etcd_waits_for_its_cure(tmp_path: Path) -> None:
    """A new cluster's incarnation was refused, and the swarm that was to be saved did not come up."""
    txn = Txn((Put("/t/incarnation", b"x"),))
    async with members_of(tmp_path, ["m1"], QUOTA_BYTES) as stores:
        store = stores["m1"]
        with pytest.raises(Unavailable, match="quota"):
            await fill(store)
        with pytest.raises(Unavailable, match="quota"):  # nobody cures it
            await commit_cured(store, store, txn, within_s=0.5, poll_s=LOOK_S)
        async with keeping(maintain(store, 1 << 40, look_s=LOOK_S)):
            await commit_cured(store, store, txn, within_s=30, poll_s=LOOK_S)
        assert [pair.value for pair in (await store.load("/t/incarnation"))[0]] == [b"x"]


async def test_a_new_cluster_is_forced_of_a_full_store(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as start:
        await (await start(False)).wait_leading()
    etcd = EtcdProcess(tmp_path, node_id=NODE_ID, quota_bytes=QUOTA_BYTES)
    etcd.prepare()
    await etcd.start([])
    store = EtcdStore(etcd.target)
    with pytest.raises(Unavailable, match="quota"):
        await fill(store)
    before = (await store.load(codec.INCARNATION_KEY))[0]
    await store.close()
    await etcd.stop()
    async with manager_of(tmp_path) as start:
        manager = await start(True)
        leader = await manager.wait_leading()
        assert leader.view.nodes.keys() == {NODE_ID}
        assert isinstance(manager.etcd, EtcdCopy)
        store = EtcdStore(manager.etcd.target)
        assert (await store.load(codec.INCARNATION_KEY))[0] != before
        await store.close()


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
            await until(lambda: is_small(store))
        assert not (await store.status()).full_members


async def is_small(store: EtcdStore) -> bool:
    await store.commit(Txn((Put("/t/y", b"x"),)))  # etcd counts pages as free when it writes again
    return (await store.status()).db_in_use_bytes < QUOTA_BYTES // 4


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


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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


def no_executor() -> Executor:
    raise AssertionError("no task runs here")


@asynccontextmanager
async def manager_of(path: Path) -> AsyncIterator[Callable[[bool], Awaitable[ManagerRunner]]]:
    """Starts a swarm's only manager, of what is there, or of nothing; it ends with the block."""
    state = StateDir(path)
    key_files, clock = KeyFiles(state), SystemClock()
    parts: list[ManagerRunner] = []

    async def start(force_new_cluster: bool) -> ManagerRunner:
        here = ("127.0.0.1", unused_port())
        ids = iter(("cluster", NODE_ID, "history"))
        membership, keys, first = found_swarm(InitRequest(), "m", here, here, clock.now(), lambda: next(ids))
        if force_new_cluster:
            key_files.open()
            first = ()
        else:
            key_files.take(os.urandom(KEY_BYTES), "")
        key_files.save(keys)
        host = ThisHost(path, HostSettings("m"), clock, random.Random(1), no_executor)
        stands_on = await host.manager_parts(membership, keys, lambda moved: None)
        part = ManagerRunner(host, stands_on, membership, keys, key_files, EventHub(clock))
        parts.append(part)
        await part.start(first, force_new_cluster)
        return part

    try:
        yield start
    finally:
        for part in parts:
            await part.stop()
        state.close()


@asynccontextmanager
async def keeping(*works: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
