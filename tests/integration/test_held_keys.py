"""A manager's data keys on its real files: what it opens with after a change, and what a full disk costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.daemon.data_keys import StoreKeys
from skep.daemon.keys import KeyFiles
from skep.daemon.state import StateDir
from skep.manager.loading import load
from skep.manager.resealing import go_by_record, settle
from skep.rpc.certificates import NodeKeys
from skep.store.memory import MemoryState, MemoryStore
from skep.store.sealed import SealedStore
from tests.unit.test_key_files import node_keys  # noqa: F401 # a fixture

from .test_resealing import NEW, OLD, opened_by, sealed_state
from .test_sealed_store import fence_of


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
    assert (await load(held.store)).cluster is not None
    await settle(held, fence_of(state))
    assert first
    assert held.keys == (OLD,), "what the record says"
    assert opened_by(state, OLD) == 1201
