"""A node leaves while the engine is still making something for it, or while something fails that nobody thought of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from skep.agent.executor import docker
from skep.agent.executor.docker import DockerExecutor
from skep.daemon import leftovers
from skep.daemon.agent_runner import AgentRunner, Line
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import Outside, Running
from skep.daemon.state import FORMER, Membership
from skep.runtime.clock import LoopClock
from skep.sim.loop import EPOCH_S
from tests.unit.daemon.runners import Parts

NODE = "a" * 25


class Engine:
    """Is slow to make a container, and lists what it has made."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    async def containers(self, *labels: str) -> list[dict[str, Any]]:
        return list(self.made)

    async def remove(self, container: str) -> None:
        self.made.clear()

    async def networks(self, label: str) -> list[dict[str, Any]]:
        return []

    async def create(self, after: asyncio.Event) -> str:
        await after.wait()
        self.made.append({"Id": "late", "Names": ["/web.1"], "Labels": {}})
        return "late"

    async def close(self) -> None:
        pass


async def test_what_comes_after_everybody_has_given_up_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "GIVE_UP_S", 0.1)
    monkeypatch.setattr(docker, "CALL_S", 0.5)
    engine, after = Engine(), asyncio.Event()
    executor = DockerExecutor("/none", "h", LoopClock(EPOCH_S), tmp_path / "tasks")
    monkeypatch.setattr(executor, "_engine", engine)
    monkeypatch.setattr(executor, "_node_id", NODE)
    engines_own = asyncio.ensure_future(engine.create(after))  # goes on, whatever becomes of the call

    async def prepare() -> None:
        await executor._calls.to_the_end(lambda: asyncio.shield(engines_own))

    executor._works["t"] = asyncio.ensure_future(prepare())
    await asyncio.sleep(0.01)
    for _ in range(2):
        (left,) = await executor.clear(NODE, True)
        assert "the engine was still making" in left
    after.set()
    await engines_own
    await asyncio.sleep(0.5)
    assert await executor.clear(NODE, True) == []
    assert engine.made == []
    await executor.close()


class Agent:
    """Meets what nobody thought of."""

    async def clear(self) -> list[str]:
        raise RuntimeError("nobody thought of it")

    async def stop(self) -> None:
        raise RuntimeError("nor of that")


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeRunner:
    monkeypatch.setattr(leftovers, "AGAIN_S", 0.01)
    monkeypatch.setattr(leftovers, "KEPT_S", 0.1)
    parts = Parts(tmp_path)
    made = parts.runner
    membership = Membership(node_id=NODE, cluster_id="c", role="worker", managers=[])
    parts.state.save(membership)
    running = Running(membership, cast("AgentRunner", Agent()), cast("Line", None), 0.0)
    monkeypatch.setattr(made, "_now", running)
    return made


async def test_a_node_leaves_whatever_fails(runner: NodeRunner, tmp_path: Path) -> None:
    assert await runner.leave() == [f"what node {NODE} has here: nobody thought of it"]
    assert runner.state == Outside()
    assert not (tmp_path / "swarm.json").exists()
    assert (tmp_path / FORMER).exists(), "it is looked after"
    await asyncio.sleep(0.3)
    assert not (tmp_path / FORMER).exists()
    await runner.leftovers.close()


async def test_a_node_that_was_removed_is_looked_after_and_may_come_back(
    runner: NodeRunner, tmp_path: Path
) -> None:
    runner.removed("the swarm does not know it")
    await asyncio.sleep(0.05)
    assert NODE.encode() in (tmp_path / FORMER).read_bytes()
    with pytest.raises(RuntimeError, match="nor of that"):  # its agent's end
        await runner.stop()
    assert not (tmp_path / FORMER).exists(), "it is a member still: nothing clears it behind its back"
