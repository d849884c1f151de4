"""A backup of an earlier skep may hold values that no store takes any more: the rest is restored."""

from __future__ import annotations

import asyncio

from skep.daemon.founding import first_txns
from skep.model.bounds import BUCKET_MAX_BYTES, MIB, TXN_MAX_BYTES
from skep.store import codec
from skep.store.fitting import ALONE_MAX_BYTES, fitting
from skep.store.interfaces import Put
from skep.store.memory import MemoryState, MemoryStore
from skep.store.sizes import op_bytes
from tests.unit.model.test_bounds import ended_task

LARGE = bytes(3 * MIB)


def backed_up() -> tuple[Put, ...]:
    tasks = [ended_task(n, "E" * 4000) for n in range(700)]
    return (
        Put(codec.SCHEMA_KEY, b"2"),
        Put(codec.CLUSTER_KEY, b"c"),
        Put(codec.service_key("large"), LARGE),
        Put(codec.service_name_key("web"), b"large"),
        Put(codec.bucket_key("n", "large"), b"t"),
        Put(codec.service_key("s"), b"s"),
        Put(codec.service_name_key("db"), b"s"),
        Put(codec.bucket_key("n", "s"), codec.encode_bucket(tasks)),
        Put(codec.bucket_key("m", "s"), LARGE),  # which cannot be read either
    )


def test_what_fits_is_restored_and_what_does_not_is_left_out_with_its_own() -> None:
    kept, left_out = fitting(backed_up())
    assert {put.key for put in left_out} == {
        codec.service_key("large"),
        codec.service_name_key("web"),
        codec.bucket_key("n", "large"),
        codec.bucket_key("m", "s"),
    }
    stored = {put.key: put.value for put in kept}
    assert stored.keys() | {put.key for put in left_out} == {put.key for put in backed_up()}
    thinned = stored[codec.bucket_key("n", "s")]
    assert len(thinned) <= BUCKET_MAX_BYTES
    assert len(codec.decode_bucket(codec.bucket_key("n", "s"), thinned, 0)) == 700


def test_the_store_takes_all_that_is_kept() -> None:
    async def scenario() -> None:
        key = codec.service_key("s" * 25)
        most = Put(key, bytes(ALONE_MAX_BYTES - op_bytes(Put(key, b""))))
        kept, _ = fitting((*backed_up(), most))
        assert most in kept
        assert op_bytes(most) < TXN_MAX_BYTES
        state = MemoryState()
        for txn in first_txns(kept):
            await MemoryStore(state).commit(txn)
        assert len((await MemoryStore(state).load("/"))[0]) == len(kept)

    asyncio.run(scenario())


def test_a_backup_that_fits_is_as_it_was_and_the_swarm_itself_is_never_left_out() -> None:
    few = tuple(put for put in backed_up() if len(put.value) < MIB)
    assert fitting(few) == (few, ())
    assert fitting([Put(codec.CLUSTER_KEY, LARGE)])[1] == ()
