"""A node with nothing around it, for tests: its parts are real, its manager and its agent are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skep.daemon.agent_runner import AgentRunner
from skep.daemon.bootstrap import Bootstrap
from skep.daemon.keys import KeyFiles
from skep.daemon.node_runner import NodeRunner
from skep.daemon.state import StateDir
from skep.daemon.this_host import HostSettings, ThisHost
from skep.manager.events import EventHub
from skep.runtime.clock import Clock, LoopClock
from skep.sim.loop import EPOCH_S


class NoExecutor:
    """There is nothing to clear."""

    async def clear(self, node_id: str, sweeps: bool) -> list[str]:
        return []

    async def close(self) -> None:
        pass


class FakeManager:
    """Its port is open while it runs; `error` is why it does not come up."""

    etcd = type("Etcd", (), {"has_data": True, "pid": 1})()

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.is_listening = False
        self.members: frozenset[str] = frozenset()
        self.store_trouble = ""
        self.is_led = True

    async def start(self, *_: object, **__: object) -> None:
        self.is_listening = True
        if self.error is not None:
            raise self.error

    async def wait_leading(self) -> None: ...

    async def stop(self) -> None:
        self.is_listening = False

    def addresses_by_id(self) -> dict[str, str]:
        return {}


class Parts:
    """A node in `directory`, whose managers are `managers`, one after the other."""

    def __init__(self, directory: Path, executor: Callable[[], Any] = NoExecutor) -> None:
        self.state = StateDir(directory)
        self.keys = KeyFiles(self.state)
        self.clock: Clock = LoopClock(EPOCH_S)
        host = ThisHost(directory, HostSettings("h"), self.clock, random.Random(1), executor)
        self.runner = NodeRunner(host, self.state, self.keys, EventHub(self.clock))
        self.bootstrap = Bootstrap(self.runner, self.state, self.keys)
        self.managers: list[FakeManager] = []

    def fake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on its managers and its agent are not real."""

        async def make_manager(*_: object) -> FakeManager:
            return self.managers.pop(0)

        monkeypatch.setattr(self.runner, "make_manager", make_manager)
        for name in ("start", "renew"):
            monkeypatch.setattr(AgentRunner, name, lambda *_: None)
