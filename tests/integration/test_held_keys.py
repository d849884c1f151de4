"""A manager's data keys on its real files: what it opens with after a change, and what a full disk costs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skep.daemon.data_keys import DataKeyKeeper, StoreKeys
from skep.daemon.keys import KeyFiles, sealer_of
from skep.daemon.state import StateDir
from skep.manager import data_key
from skep.manager.candidate import Candidate
from skep.manager.events import EventHub
from skep.manager.leader_context import LeaderContext
from skep.manager.loading import load
from skep.manager.manager_identity import ManagerIdentity
from skep.manager.resealing import go_by_record, settle
from skep.model.cluster import Cluster
from skep.model.node import Node
from skep.rpc.certificates import NodeKeys
from skep.rpc.messages import DATA_KEYS, DataKeys, HasDataKeys, encode
from skep.rpc.messages.data_keys import digests_of
from skep.runtime.clock import LoopClock
from skep.store import codec
from skep.store.interfaces import Put, Txn
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from tests.simulation.test_data_key import UNLOCK, Line, Stage, told
from tests.unit.daemon.test_key_files import node_keys  # noqa: F401 # a fixture
from tests.unit.manager.control.test_unlock_key import cluster

from .test_resealing import NEW, OLD, opened_by, sealed_state
from .test_sealed_store import SECRET_KEY, fence_of


@pytest.fixture
def files(tmp_path: Path, node_keys: NodeKeys) -> Iterator[KeyFiles]:  # noqa: F811
    """A manager's, of a swarm whose data key is the old one."""
    state = StateDir(tmp_path)
    made = KeyFiles(state)
    made.take(OLD, "")
    made.save(node_keys)
    yield made
    state.close()


def held_on(files: KeyFiles, state: MemoryState) -> StoreKeys:
    return StoreKeys(files, SealedStore(MemoryStore(state), files.sealer))


async def test_a_copy_of_before_the_change_opens_with_what_its_manager_has(files: KeyFiles) -> None:
    """It was away while the key was changed, was told the new one, and the others are lost: it is alone
    with its own copy of the store (`--force-new-cluster`), all of which the older key has sealed."""
    state = await sealed_state()
    assert files.take_told([NEW], "")
    held = held_on(files, state)
    first = await go_by_record(held)
    assert first == OLD
    assert (await load(held.store)).cluster is not None
    await settle(held, first, fence_of(state))
    assert held.keys == (OLD,), "what the record says"
    assert opened_by(state, OLD) == 1201


def full(directory: Path, name: str) -> Path:
    """Has the disk be full for this file, until the directory that is returned goes."""
    blocked = directory / (name + ".new")
    blocked.mkdir()
    return blocked


KEY_FILE, TLS_FILE = "keys/data-key", "certificates/swarm-node.key.next"


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", [KEY_FILE, TLS_FILE])
async def test_a_full_disk_of_the_leader_holds_a_change_up_and_no_longer(
    files: KeyFiles, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another order comes while a new key is handed out, and the file of the key, or of the TLS key, that the
    leader writes for it fails."""
    for each in ("REST_S", "LOOK_S"):
        monkeypatch.setattr(data_key, each, 0.02)
    stage = Stage("ab")
    stage.held = held = StoreKeys(files, stage.store)
    stage.to_make = [NEW, b"1" * 32, b"2" * 32]
    running = await stage.begin()
    line = Line("b")
    handler = stage.register(line, [DATA_KEYS])
    await until(lambda: held.keys == (OLD, NEW))
    blocked = full(tmp_path, name)
    stage.view.put_cluster(stage.cluster.wanting_data_key())
    await until(lambda: "cannot be stored" in stage.change.why_late)
    blocked.rmdir()

    said: list[list[bytes]] = []

    def has_what_it_was_told() -> bool:
        keys = list(told(line)[-1].keys)
        if keys not in said[-1:]:  # once: a session that says it without end is closed
            said.append(keys)
            handler.frame(encode(HasDataKeys(digests_of(keys))))
        return running.done()

    await until(has_what_it_was_told)
    await running
    assert stage.opened_by(held.keys[-1])
    assert not stage.opened_by(OLD)
    stage.sessions.stop()


async def put_in_force(state: MemoryState) -> None:
    """The record is sealed with the new key, as when the lead before ended."""
    store = SealedStore(MemoryStore(state), Sealer(NEW))
    await store.commit(Txn((Put(codec.CLUSTER_KEY, codec.encode_object(cluster(""))),)))


@pytest.mark.parametrize("name", [KEY_FILE, TLS_FILE, ""])
async def test_a_full_disk_or_a_damaged_file_does_not_cost_the_lead_of_who_has_both_keys(
    files: KeyFiles, tmp_path: Path, name: str
) -> None:
    state = await sealed_state()
    await put_in_force(state)
    files.keep([OLD, NEW])
    if name:
        full(tmp_path, name)
    else:
        (tmp_path / "certificates/swarm-node.key").write_bytes(b"-----BEGIN SKEP SEALED KEY-----\n-\n")
    held = held_on(files, state)
    first = await go_by_record(held)
    await held.store.commit(Txn((Put(SECRET_KEY, b"new"),)))
    assert Sealer(NEW).open(state.entries[SECRET_KEY].value, SECRET_KEY) == b"new"
    await settle(held, first, fence_of(state))
    assert opened_by(state, NEW) == 1202
    assert set(held.keys) == {OLD, NEW}, "as long as the files cannot be written"
    assert (await load(held.store)).cluster is not None


async def test_a_manager_without_the_key_takes_no_lead_and_says_what_to_do(files: KeyFiles) -> None:
    state = await sealed_state()
    await put_in_force(state)
    held = held_on(files, state)

    async def probe(node_id: str) -> bool:
        return True

    team = ManagerIdentity("a", MemoryMembers(MemoryStore(state), state), probe, data_keys=held)
    hub = EventHub(LoopClock(0))
    make_id = iter(map(str, range(1000))).__next__
    context = LeaderContext(LoopClock(0), make_id, make_id, hub, [], no_certificates, team)
    candidate = Candidate(held.store, context)
    del state.entries[codec.LEADER_KEY]
    running = asyncio.ensure_future(candidate.run())
    await until(lambda: bool(candidate.trouble))
    assert "has not got the swarm's data key yet: start the managers that were there" in candidate.trouble
    assert candidate.leader is None
    assert (await load(SealedStore(MemoryStore(state), Sealer(NEW, older=[OLD])))).cluster is not None
    running.cancel()


def no_certificates(cluster: Cluster, node: Node, request_pem: bytes) -> bytes:
    raise AssertionError("nobody leads")


async def test_the_store_has_what_was_told_after_a_write_that_failed_halfway(
    files: KeyFiles, tmp_path: Path
) -> None:
    """The files are as they were told already when the next word comes: the store that runs must be, too."""
    store = SealedStore(MemoryStore(MemoryState()), files.sealer)
    said = list[HasDataKeys]()
    keeper = DataKeyKeeper(files, lambda: store.use(files.sealer), said.append)
    blocked = full(tmp_path, TLS_FILE)
    keeper.told(DataKeys([NEW, OLD]))
    await until(lambda: files.keys == (NEW, OLD))
    keeper.told(DataKeys([NEW, OLD]))
    await until(lambda: bool(said))
    blocked.rmdir()
    await store.commit(Txn((Put(SECRET_KEY, b"x"), Put(codec.SCHEMA_KEY, b"2"))))
    assert await store.sealed_by(SECRET_KEY, [OLD, NEW]) == NEW
    await keeper.stop()


async def test_a_keeper_that_was_stopped_writes_nothing(files: KeyFiles) -> None:
    """Else a word that comes while the node leaves brings the key back behind the back of what clears it."""
    keeper = DataKeyKeeper(files, lambda: None, lambda has: None)
    await keeper.stop()
    keeper.told(DataKeys([OLD, NEW]))
    await asyncio.sleep(0.1)
    assert files.keys == (OLD,)
    keeper.begin()
    keeper.told(DataKeys([OLD, NEW]))
    await until(lambda: files.keys == (OLD, NEW))
    await keeper.stop()


async def test_a_leader_writes_a_new_key_as_the_swarm_wants_it_sealed(
    files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autolock was turned on just now, and its files have not followed."""
    monkeypatch.setattr(data_key, "REST_S", 0.02)
    stage = Stage("ab")
    stage.held = held = StoreKeys(files, stage.store)
    running = await stage.begin()
    stage.register(Line("b"), [DATA_KEYS])
    await until(lambda: NEW in held.keys)
    assert base64.b64encode(NEW) not in (tmp_path / KEY_FILE).read_bytes()
    assert sealer_of(files.exported(), UNLOCK)
    running.cancel()
    stage.sessions.stop()
