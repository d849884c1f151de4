"""How a node comes to be in a swarm: what is left where it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skep.api.interfaces import InitRequest
from skep.daemon.founding import found_swarm
from skep.daemon.node_state import Failed, Outside
from skep.runtime.errors import Unavailable
from tests.unit.builders import new_ids
from tests.unit.daemon.runners import FakeManager, Parts

HOST = ("127.0.0.1", 2377)
FAULTS = [OSError("no process left"), Unavailable("no quorum"), asyncio.CancelledError()]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
async def test_a_manager_that_cannot_begin_listens_no_more(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next `swarm init` finds its own port in use."""
    manager, parts = FakeManager(error), Parts(tmp_path)
    parts.fake(monkeypatch)
    parts.managers = [manager, manager]
    membership, node_keys, _ = found_swarm(InitRequest(), "mg0", HOST, HOST, 0.0, new_ids())
    with pytest.raises(type(error)):
        await parts.bootstrap.found(membership, node_keys, (), "")
    assert (manager.is_listening, parts.runner.state) == (False, Outside())
    assert not (tmp_path / "certificates").exists(), "it is forgotten"
    parts.keys.save(node_keys)
    parts.runner.starting(membership)
    with pytest.raises(type(error)):
        await parts.bootstrap.start_alone(membership)
    assert isinstance(parts.runner.state, Failed)
    assert not manager.is_listening
    assert (tmp_path / "certificates").exists(), "nor does it lose anything"
