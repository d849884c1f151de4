"""One contract, two stores: etcd for real, and the one in memory that the simulation uses."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from skep.manager.confirmed_commit import confirm_lead
from skep.model.bounds import ETCD_REQUEST_MAX_BYTES, TXN_MAX_BYTES
from skep.runtime.errors import Conflict, Denied, TooLarge, Unavailable
from skep.store.election import POLL_S, SILENCE_S, Campaign
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.pages import PAGE_BYTES, Pages
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import OPS_MAX, Compare, Delete, Put, Store, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from skep.store.sizes import cut
from tests.leads import win

Connect = Callable[[], Store]


@pytest.fixture(params=["memory", "sealed", "etcd"])
async def connect(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connect]:
    """Gives a function that opens another connection to one and the same store."""
    if request.param == "memory":
        state = MemoryState()
        yield lambda: MemoryStore(state)
        return
    if request.param == "sealed":
        monkeypatch.setattr("skep.store.codec.is_sealed_key", lambda key: True)
        state = MemoryState()
        yield lambda: SealedStore(MemoryStore(state), Sealer(b"k" * 32))
        return
    etcd = EtcdProcess(tmp_path)
    await etcd.start()
    try:
        yield lambda: EtcdStore(etcd.target)
    finally:
        await etcd.stop()


async def test_what_was_put_is_loaded_with_its_revision(connect: Connect) -> None:
    store = connect()
    first = await store.commit(Txn((Put("/t/a", b"1"), Put("/t/b", b"2"))))
    second = await store.commit(Txn((Put("/t/b", b"3"), Put("/u", b"4"))))
    pairs, revision = await store.load("/t/")
    assert [(p.key, p.value, p.revision) for p in pairs] == [("/t/a", b"1", first), ("/t/b", b"3", second)]
    assert revision >= second
    await store.close()


async def test_more_keys_than_a_page_are_loaded_once_each(connect: Connect) -> None:
    store = connect()
    for start in range(0, 21_000, 1000):
        await store.commit(Txn(tuple(Put(f"/t/{n:06d}", b"x") for n in range(start, start + 1000))))
    pairs, _ = await store.load("/t/")
    assert [p.key for p in pairs] == [f"/t/{n:06d}" for n in range(21_000)]
    await store.close()


async def test_a_write_that_is_too_large_is_refused_before_it_is_sent(connect: Connect) -> None:
    store = connect()
    await store.commit(Txn((Put("/t/a", b"x" * (TXN_MAX_BYTES - 200)),)))
    with pytest.raises(TooLarge, match=rf"a write of \d+ bytes is more than .* \({TXN_MAX_BYTES} bytes\)"):
        await store.commit(Txn((Put("/t/b", b"x" * TXN_MAX_BYTES),)))
    with pytest.raises(TooLarge, match=rf"a write of {OPS_MAX + 1} keys is more than"):
        await store.commit(Txn((Delete("/t/b"),) * (OPS_MAX + 1)))
    assert [p.key for p in (await store.load("/t/"))[0]] == ["/t/a"]
    await store.close()


async def test_etcd_itself_takes_no_more_than_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skep.store.etcd.client.check_txn", lambda txn: None)
    etcd = EtcdProcess(tmp_path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    try:
        with pytest.raises(TooLarge, match="more than the store takes at once"):
            await store.commit(Txn((Put("/t/b", b"x" * ETCD_REQUEST_MAX_BYTES),)))
    finally:
        await store.close()
        await etcd.stop()


async def test_values_of_all_sizes_are_loaded_in_pages_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages were of ten thousand keys, whatever their size."""
    sizes: list[int] = []
    came = Pages.came

    def noted(pages: Pages, count: int, size_bytes: int) -> None:
        sizes.append(size_bytes)
        came(pages, count, size_bytes)

    monkeypatch.setattr(Pages, "came", noted)
    etcd = EtcdProcess(tmp_path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    rng = random.Random(1)
    kinds = [
        ("names/service", 20, 5000),
        ("nodes", 2000, 2000),
        ("configs", 900_000, 40),
        ("tasks", 9000, 900),
    ]
    puts = [
        Put(f"/skep/{kind}/{rng.random()}", bytes(rng.randint(size // 2, size)))
        for kind, size, count in kinds
        for _ in range(count)
    ]
    try:
        for part in cut(puts):
            await store.commit(Txn(tuple(part)))
        pairs, _ = await store.load("/skep/")
    finally:
        await store.close()
        await etcd.stop()
    assert {p.key: len(p.value) for p in pairs} == {p.key: len(p.value) for p in puts}
    assert len(pairs) == len(puts)
    assert max(sizes) < 2 * PAGE_BYTES
    assert len(sizes) < 40


async def test_a_compare_that_fails_changes_nothing(connect: Connect) -> None:
    store = connect()
    revision = await store.commit(Txn((Put("/t/a", b"1"),), compares=(Compare("/t/a", 0),)))
    with pytest.raises(Conflict):
        await store.commit(Txn((Put("/t/a", b"2"), Delete("/t/b")), compares=(Compare("/t/a", 0),)))
    await store.commit(Txn((Put("/t/a", b"3"),), compares=(Compare("/t/a", revision),)))
    pairs, _ = await store.load("/t/")
    assert [p.value for p in pairs] == [b"3"]
    await store.close()


def campaign(store: Store, candidate: str) -> Campaign:
    return Campaign(store, "/leader", candidate)


async def test_only_one_leads_and_a_resigned_leader_cannot_write(connect: Connect) -> None:
    first, second = connect(), connect()
    old = await win(campaign(first, "a"))
    rival = campaign(second, "b")
    waiting = asyncio.ensure_future(win(rival))
    await asyncio.sleep(SILENCE_S + 1)
    assert not waiting.done()
    assert rival.holder == "a"
    await first.commit(Txn((Put("/t/a", b"1"),), fence=old.fence))
    await old.resign()
    new = await asyncio.wait_for(waiting, 10)
    await second.commit(Txn((Put("/t/a", b"2"),), fence=new.fence))
    with pytest.raises(Denied):
        await first.commit(Txn((Put("/t/a", b"3"),), fence=old.fence))
    with pytest.raises(Conflict):
        await second.commit(Txn((Put("/t/a", b"4"),), compares=(Compare("/t/a", 1),), fence=new.fence))
    pairs, _ = await second.load("/t/")
    assert [p.value for p in pairs] == [b"2"]
    await new.resign()
    await first.close()
    await second.close()


async def test_a_silent_leader_is_replaced_and_notices(connect: Connect) -> None:
    first, second = connect(), connect()
    old = await win(campaign(first, "a"))
    rival = campaign(second, "b")
    with contextlib.suppress(Unavailable):
        assert await rival.look() is None
    old._keeper.cancel()  # it is paused: no beat is written any more
    began = asyncio.get_running_loop().time()
    assert old.is_sure
    new = await asyncio.wait_for(win(rival), SILENCE_S + 2)
    assert not old.is_sure
    assert asyncio.get_running_loop().time() - began > SILENCE_S - POLL_S
    with pytest.raises(Denied):
        await first.commit(Txn((Put("/t/a", b"3"),), fence=old.fence))
    await new.resign()
    await first.close()
    await second.close()


async def test_a_leader_that_was_deposed_notices_at_its_next_beat(connect: Connect) -> None:
    first, second = connect(), connect()
    old = await win(campaign(first, "a"))
    await second.commit(Txn((Delete("/leader"),)))
    await asyncio.wait_for(old.wait_lost(), 2)
    await first.close()
    await second.close()


async def test_a_manager_that_starts_again_ends_its_own_earlier_leadership(connect: Connect) -> None:
    before, after = connect(), connect()
    old = await win(campaign(before, "a"))
    old._keeper.cancel()
    new = await asyncio.wait_for(win(campaign(after, "a")), 5)
    await after.commit(Txn((Put("/t/a", b"1"),), fence=new.fence))
    with pytest.raises(Denied):
        await before.commit(Txn((Put("/t/a", b"2"),), fence=old.fence))
    await new.resign()
    await before.close()
    await after.close()


async def test_a_transaction_without_operations_asks_who_leads_and_writes_nothing(connect: Connect) -> None:
    first, second = connect(), connect()
    old = await win(campaign(first, "a"))
    await confirm_lead(first, old.fence)
    _, before = await first.load("/t/")
    await confirm_lead(first, old.fence)
    assert (await first.load("/t/"))[1] - before <= 1  # a beat of the leader's may be between
    await old.resign()
    new = await win(campaign(second, "b"))
    with pytest.raises(Denied):
        await confirm_lead(first, old.fence)
    await confirm_lead(second, new.fence)
    await new.resign()
    await first.close()
    await second.close()


async def test_a_full_transaction_fits(connect: Connect) -> None:
    store = connect()
    revision = await store.commit(Txn(tuple(Put(f"/t/{n}", b"x" * 1900) for n in range(1024))))
    pairs, _ = await store.load("/t/")
    assert {p.revision for p in pairs} == {revision}
    await store.close()
