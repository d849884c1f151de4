"""What reaches the store is sealed, and a store of an earlier skep is brought there however often it crashes."""

from __future__ import annotations

import msgspec
import pytest

from skep.manager.loading import load
from skep.manager.upgrade import upgrade
from skep.model.service import RemovedService
from skep.runtime.errors import Corrupt, Unavailable
from skep.store import codec
from skep.store.interfaces import Compare, Fence, Put, Txn
from skep.store.memory import MemoryState, MemoryStore, StoreFaults
from skep.store.seal import Sealer, is_sealed
from skep.store.sealed import SealedStore
from tests.unit.manager.control.test_unlock_key import cluster

SECRETS = (b"the-ca-key", b"the-worker-secret", b"the-manager-secret", b"SWMKEY-1-xyz")
FENCE_KEY = codec.LEADER_KEY
SECRET_KEY = codec.PREFIX + "secrets/x"


def old_state() -> MemoryState:
    """A store as the skep before sealing left it."""
    kept = msgspec.msgpack.decode(codec.encode_object(cluster("")))
    del kept["unlock_key"]  # it did not know that
    removed = codec.encode_object(RemovedService(id="r", name="r", templates=[], removed_at=1.0))
    state = MemoryState()
    state.write(
        [
            Put(codec.SCHEMA_KEY, b"1"),
            Put(codec.CLUSTER_KEY, msgspec.msgpack.encode(kept)),
            *(Put(codec.removed_key(f"r{n:04d}"), removed) for n in range(1200)),
            Put(FENCE_KEY, b"m"),
        ]
    )
    return state


def fence_of(state: MemoryState) -> Fence:
    return Fence(FENCE_KEY, state.entries[FENCE_KEY].created)


def schema_of(state: MemoryState) -> bytes:
    return state.entries[codec.SCHEMA_KEY].value


class PowerFails(Exception):
    """Nothing after this is done."""


class CrashAt(StoreFaults):
    """The `n`th commit is not done, or done and nobody hears of it."""

    def __init__(self, n: int, is_done: bool) -> None:
        self._left = n
        self._is_done = is_done

    async def before_commit(self, txn: Txn) -> None:
        self._left -= 1
        if self._left < 0 and not self._is_done:
            raise PowerFails

    async def after_commit(self, txn: Txn) -> None:
        if self._left < 0:
            raise PowerFails


async def test_everything_that_may_hold_a_secret_is_sealed() -> None:
    state = MemoryState()
    store = SealedStore(MemoryStore(state), Sealer(b"k" * 32))
    value = codec.encode_object(cluster("SWMKEY-1-xyz"))
    assert all(secret in value for secret in SECRETS)
    revision = await store.commit(
        Txn(
            (
                Put(codec.SCHEMA_KEY, b"2"),
                Put(codec.CLUSTER_KEY, value),
                Put(SECRET_KEY, SECRETS[0]),
                Put(codec.node_key("n"), b"node"),
            )
        )
    )
    kept = b"".join(entry.value for entry in state.entries.values())
    assert not any(secret in kept for secret in SECRETS)
    assert state.entries[codec.node_key("n")].value == b"node"
    pairs, _ = await store.load(codec.PREFIX)
    assert {pair.key: pair.value for pair in pairs}[codec.CLUSTER_KEY] == value
    assert {pair.key: pair.value for pair in pairs}[SECRET_KEY] == SECRETS[0]
    await store.commit(Txn((Put(SECRET_KEY, b"2"),), compares=(Compare(SECRET_KEY, revision),)))
    assert (await store.load(SECRET_KEY))[0][0].value == b"2"


async def test_values_that_changed_places_or_keys_are_refused() -> None:
    state = MemoryState()
    store = SealedStore(MemoryStore(state), Sealer(b"k" * 32))
    await store.commit(Txn((Put(codec.SCHEMA_KEY, b"2"), Put(SECRET_KEY, b"1"), Put(SECRET_KEY + "y", b"2"))))
    state.entries[SECRET_KEY].value = state.entries[SECRET_KEY + "y"].value
    found = {pair.key: pair for pair in (await store.load(codec.PREFIX))[0]}
    assert found[SECRET_KEY].value == b""
    assert "keys/data-key in the state directory" in found[SECRET_KEY].trouble
    assert (found[SECRET_KEY + "y"].value, found[SECRET_KEY + "y"].trouble) == (b"2", ""), "nobody else's"
    other = SealedStore(MemoryStore(state), Sealer(b"K" * 32))
    for pair in (await other.load(SECRET_KEY))[0]:
        assert "another key than this manager's" in pair.trouble


async def test_an_unsealed_value_in_a_sealed_store_is_refused() -> None:
    """Who can write etcd's files cannot slip in a CA of his own."""
    state = MemoryState()
    state.write([Put(codec.SCHEMA_KEY, b"2"), Put(codec.CLUSTER_KEY, codec.encode_object(cluster("")))])
    store = SealedStore(MemoryStore(state), Sealer(b"k" * 32))
    found = {pair.key: pair for pair in (await store.load(codec.PREFIX))[0]}
    assert found[codec.CLUSTER_KEY].value == b""
    with pytest.raises(Corrupt, match="/skep/cluster is not sealed"):
        await load(store)


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("at", range(5))
async def test_an_old_store_is_sealed_however_often_it_crashes(at: int, is_done: bool) -> None:
    state = old_state()
    crashing = SealedStore(MemoryStore(state, CrashAt(at, is_done)), Sealer(b"k" * 32))
    try:
        await upgrade(crashing, fence_of(state))
        assert at >= 4, "there are four commits"
    except PowerFails:
        assert at < 4
        view = await load(SealedStore(MemoryStore(state), Sealer(b"k" * 32)))
        assert view.cluster is not None, "readable in between"
    store = SealedStore(MemoryStore(state), Sealer(b"k" * 32))
    await upgrade(store, fence_of(state))
    assert schema_of(state) == b"2"
    assert all(is_sealed(e.value) for key, e in state.entries.items() if codec.is_sealed_key(key))
    kept = b"".join(entry.value for entry in state.entries.values())
    assert not any(secret in kept for secret in SECRETS)
    view = await load(store)
    assert view.cluster is not None
    assert view.cluster.ca_key_pem == b"the-ca-key"
    assert view.cluster.unlock_key == ""
    before = state.revision
    await upgrade(store, fence_of(state))
    assert state.revision == before, "once"


async def test_the_number_is_written_last() -> None:
    state = old_state()
    with pytest.raises(PowerFails):
        await upgrade(SealedStore(MemoryStore(state, CrashAt(3, False)), Sealer(b"k" * 32)), fence_of(state))
    assert schema_of(state) == b"1"
    assert all(is_sealed(e.value) for key, e in state.entries.items() if codec.is_sealed_key(key))


async def test_a_newer_store_is_refused_and_left_alone() -> None:
    state = MemoryState()
    state.write([Put(codec.SCHEMA_KEY, b"3"), Put(codec.CLUSTER_KEY, b"\xc1S\x09of the future")])
    before = state.revision
    for store in (MemoryStore(state), SealedStore(MemoryStore(state), Sealer(b"k" * 32))):
        for call in (upgrade(store, Fence(FENCE_KEY, 1)), load(store)):
            with pytest.raises(Corrupt, match="has schema version 3; this skepd knows versions up to 2"):
                await call
    assert state.revision == before


async def test_a_store_that_is_away_is_said_to_be_away() -> None:
    inner = MemoryStore(MemoryState())
    inner.isolate()
    with pytest.raises(Unavailable):
        await SealedStore(inner, Sealer(b"k" * 32)).load(codec.PREFIX)
