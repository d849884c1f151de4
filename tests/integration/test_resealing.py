"""A store is sealed with a new data key however often that is broken off, and the key of before opens nothing."""

from __future__ import annotations

import pytest

from skep.manager.loading import load
from skep.manager.resealing import reseal
from skep.model.service import RemovedService
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.interfaces import Put, Txn
from skep.store.memory import MemoryState, MemoryStore, StoreFaults
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from tests.unit.manager.control.test_unlock_key import cluster

from .test_sealed_store import FENCE_KEY, SECRET_KEY, CrashAt, PowerFails, fence_of

OLD, NEW = b"o" * 32, b"n" * 32
BOTH = Sealer(NEW, older=[OLD])


async def sealed_state() -> MemoryState:
    """A store of 1,202 values that the old key has sealed: three batches."""
    state = MemoryState()
    store = SealedStore(MemoryStore(state), Sealer(OLD))
    removed = codec.encode_object(RemovedService(id="r", name="r", templates=[], removed_at=1.0))
    puts = [Put(codec.removed_key(f"r{n:04d}"), removed) for n in range(1200)]
    first = [
        Put(codec.SCHEMA_KEY, b"2"),
        Put(codec.CLUSTER_KEY, codec.encode_object(cluster(""))),
        Put(FENCE_KEY, b"m"),
    ]
    for part in (first, puts[:600], puts[600:]):
        await store.commit(Txn(tuple(part)))
    return state


def opened_by(state: MemoryState, key: bytes) -> int:
    found = 0
    for name, entry in state.entries.items():
        try:
            found += codec.is_sealed_key(name) and bool(Sealer(key).open(entry.value, name))
        except Corrupt:
            pass
    return found


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("at", range(4))
async def test_it_goes_on_where_it_broke_off(at: int, is_done: bool) -> None:
    state = await sealed_state()
    crashing = SealedStore(MemoryStore(state, CrashAt(at, is_done)), BOTH)
    try:
        await reseal(crashing, fence_of(state))
        assert at >= 3, "there are three commits"
    except PowerFails:
        assert at < 3
    view = await load(SealedStore(MemoryStore(state), BOTH))
    assert view.cluster is not None, "readable in between"
    store = SealedStore(MemoryStore(state), BOTH)
    assert await reseal(store, fence_of(state))
    assert opened_by(state, OLD) == 0
    assert opened_by(state, NEW) == 1201
    before = state.revision
    assert await reseal(store, fence_of(state))
    assert state.revision == before, "once"
    assert (await load(SealedStore(MemoryStore(state), Sealer(NEW)))).cluster is not None


async def test_what_is_new_does_not_open_with_the_key_of_before() -> None:
    state = await sealed_state()
    await SealedStore(MemoryStore(state), BOTH).commit(Txn((Put(SECRET_KEY, b"after"),)))
    with pytest.raises(Corrupt):
        Sealer(OLD).open(state.entries[SECRET_KEY].value, SECRET_KEY)


class Meanwhile(StoreFaults):
    """Somebody else changes a value before the first batch."""

    def __init__(self, state: MemoryState) -> None:
        self._state, self._is_done = state, False

    async def before_commit(self, txn: Txn) -> None:
        if not self._is_done:
            self._is_done = True
            await SealedStore(MemoryStore(self._state), BOTH).commit(
                Txn((Put(codec.removed_key("r0000"), b"changed"),))
            )

    async def after_commit(self, txn: Txn) -> None: ...


async def test_what_is_changed_meanwhile_stays_changed() -> None:
    state = await sealed_state()
    await reseal(SealedStore(MemoryStore(state, Meanwhile(state)), BOTH), fence_of(state))
    assert opened_by(state, OLD) == 0
    key = codec.removed_key("r0000")
    assert Sealer(NEW).open(state.entries[key].value, key) == b"changed"


async def test_what_nobody_opens_is_left_as_it_is() -> None:
    state = await sealed_state()
    entry = state.entries[codec.removed_key("r0007")]
    entry.value = damaged = entry.value[:-1] + bytes([entry.value[-1] ^ 1])
    assert await reseal(SealedStore(MemoryStore(state), BOTH), fence_of(state))
    assert state.entries[codec.removed_key("r0007")].value == damaged
    assert opened_by(state, OLD) == 0
