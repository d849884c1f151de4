"""How a node comes to be in a swarm: what is left where it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from skep.api.interfaces import InitRequest
from skep.daemon.bootstrap import Bootstrap
from skep.daemon.founding import found_swarm
from skep.daemon.keys import KeyFiles
from skep.daemon.node_runner import NodeRunner
from skep.daemon.state import StateDir
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Unavailable
from tests.unit.builders import new_ids

HOST = ("127.0.0.1", 2377)
FAULTS = [OSError("no process left"), Unavailable("no quorum"), asyncio.CancelledError()]


class BrokenManager:
    """Its port is open once it was started; the store does not come up."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self.is_listening = False

    async def start(self, *_: object, **__: object) -> None:
        self.is_listening = True
        raise self._error

    async def stop(self) -> None:
        self.is_listening = False


class FewParts:
    """Only makes its manager."""

    def __init__(self, manager: BrokenManager) -> None:
        self._manager = manager
        self.is_forgotten = False
        self.running_manager: BrokenManager | None = None

    def forget(self) -> None:
        self.is_forgotten = True

    async def make_manager(self, *_: object) -> BrokenManager:
        self.is_forgotten = False
        return self._manager


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
async def test_a_manager_that_cannot_begin_listens_no_more(tmp_path: Path, error: BaseException) -> None:
    """Else the next `swarm init` finds its own port in use."""
    manager = BrokenManager(error)
    parts, state = FewParts(manager), StateDir(tmp_path)
    keys = KeyFiles(state)
    beginning = Bootstrap(cast("NodeRunner", parts), state, keys, SystemClock())
    membership, node_keys, _ = found_swarm(InitRequest(), "mg0", HOST, HOST, 0.0, new_ids())
    with pytest.raises(type(error)):
        await beginning.found(membership, node_keys, (), "")
    assert (manager.is_listening, parts.is_forgotten, parts.running_manager) == (False, True, None)
    keys.save(node_keys)
    with pytest.raises(type(error)):
        await beginning.start_alone(membership)
    assert (manager.is_listening, parts.is_forgotten, parts.running_manager) == (False, False, None)
