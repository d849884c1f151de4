"""What a node is to its swarm, one value: what leads from one kind to another, and what is said of each."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.api.interfaces import InitRequest, LocalNode
from skep.daemon import error_texts
from skep.daemon.founding import found_swarm
from skep.daemon.node import SkepNode
from skep.daemon.node_state import (
    Failed,
    Locked,
    NodeState,
    Outside,
    Running,
    Starting,
    other_managers,
    why_no_manager,
)
from skep.daemon.state import Membership
from skep.manager.control.autolock import unlock_key
from skep.runtime.clock import LoopClock
from skep.runtime.errors import NoAddress, Unavailable
from skep.sim.loop import EPOCH_S
from tests.unit.builders import new_ids
from tests.unit.daemon.runners import FakeManager, Parts

HOST = ("127.0.0.1", 2377)
UNLOCK = unlock_key(b"1" * 32)
EXPIRY_S = 90 * 86400


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """A manager's, which is off."""
    made = Parts(tmp_path, executor)
    made.fake(monkeypatch)
    membership, keys, _ = found_swarm(InitRequest(), "h", HOST, HOST, EPOCH_S, new_ids())
    made.keys.take(b"k" * 32, "")
    made.keys.save(keys)
    made.state.save(membership)
    return made


def executor() -> SimulatedExecutor:
    return SimulatedExecutor("h", SimulatedSettings(), random.Random(1), LoopClock(EPOCH_S))


def of_several(parts: Parts) -> None:
    membership = parts.state.load()
    assert membership is not None
    parts.state.save(replace(membership, peers={membership.node_id: "h:2377", "other": "o:2377"}))


def said(parts: Parts) -> LocalNode:
    """Returns what the API says of the node."""
    node = cast("Any", SkepNode.__new__(SkepNode))
    node._runner, node._platform = parts.runner, parts.runner.platform
    return cast("SkepNode", node).local()


async def kind_after_start(parts: Parts) -> type[NodeState]:
    await parts.bootstrap.start()
    return type(parts.runner.state)


async def test_a_node_without_a_swarm_stays_outside(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    assert await kind_after_start(parts) is Outside
    assert said(parts) == LocalNode("inactive")
    assert why_no_manager(parts.runner.state) == error_texts.NOT_IN_SWARM


async def test_a_manager_of_before_runs_again(parts: Parts) -> None:
    parts.managers = [FakeManager()]
    assert await kind_after_start(parts) is Running
    assert (said(parts).state, said(parts).error, said(parts).etcd_pid) == ("active", "", 1)
    assert why_no_manager(parts.runner.state) == ""
    await parts.runner.stop()
    assert isinstance(parts.runner.state, Failed), "nothing runs, and the swarm is not forgotten"
    await parts.runner.leave()
    assert (parts.runner.state, parts.state.load()) == (Outside(), None)


async def test_a_manager_whose_unlocking_fails_is_locked_again(parts: Parts) -> None:
    parts.keys.keep((b"k" * 32,), UNLOCK)
    parts.keys.close()
    assert await kind_after_start(parts) is Locked
    assert said(parts) == LocalNode("locked", error=error_texts.LOCKED)
    parts.managers = [FakeManager(Unavailable("no process left")), FakeManager()]
    with pytest.raises(Unavailable, match="no process left"):
        await parts.bootstrap.unlock(UNLOCK)
    assert isinstance(parts.runner.state, Locked)
    assert not parts.keys.keys, "its keys are closed again"
    await parts.bootstrap.unlock(UNLOCK)
    assert isinstance(parts.runner.state, Running)
    await parts.runner.stop()


async def test_one_of_several_whose_certificate_has_expired_runs_nothing(parts: Parts) -> None:
    of_several(parts)
    cast("Any", parts.clock).jump(2 * EXPIRY_S)
    assert await kind_after_start(parts) is Failed
    assert (said(parts).state, said(parts).error) == ("error", error_texts.EXPIRED)
    assert why_no_manager(parts.runner.state) == error_texts.EXPIRED
    assert other_managers(parts.runner.state) == {"other"}
    await parts.runner.stop()
    assert said(parts).error == error_texts.EXPIRED, "what is wrong is not forgotten"


async def test_one_of_several_that_cannot_listen_works_on_as_a_node(parts: Parts) -> None:
    of_several(parts)
    parts.managers = [FakeManager(NoAddress("10.0.0.9 is not here")), FakeManager(), FakeManager()]
    assert await kind_after_start(parts) is Running
    assert parts.runner.is_misplaced
    assert said(parts).error.startswith("10.0.0.9 is not here")
    parts.managers[0].renewed = lambda keys: None  # type: ignore[attr-defined]
    await parts.runner.begin_manager()
    assert (parts.runner.is_misplaced, said(parts).error) == (False, "")
    await parts.runner.stop()


async def test_a_manager_that_does_not_come_up_as_the_only_one_says_so(parts: Parts) -> None:
    """It had said that it was active, and ran nothing."""
    parts.managers = [FakeManager(), FakeManager(Unavailable("no majority")), FakeManager()]
    await parts.bootstrap.start()
    membership = parts.runner.membership
    await parts.runner.stop()
    with pytest.raises(Unavailable):
        await parts.bootstrap.start_alone(membership)
    assert said(parts).state == "error"
    assert "no majority" in said(parts).error
    assert "force-new-cluster" in why_no_manager(parts.runner.state)
    await parts.bootstrap.start_alone(membership)
    assert (said(parts).state, said(parts).error) == ("active", "")
    await parts.runner.stop()


async def test_a_removed_node_says_so_and_what_is_learned_meanwhile_is_kept(parts: Parts) -> None:
    parts.managers = [FakeManager()]
    await parts.bootstrap.start()
    parts.runner.managers_changed(["new:2377"])
    parts.runner.removed("the swarm does not know it")
    state = parts.runner.state
    assert isinstance(state, Running)
    assert state.removed.startswith("the swarm does not know it")
    assert state.membership.managers == ["new:2377"]
    assert parts.state.load() == state.membership
    await parts.runner.stop()
    await parts.runner.leftovers.close()


def test_a_node_that_starts_is_pending(parts: Parts) -> None:
    parts.runner.starting(Membership(node_id="n", cluster_id="c", role="manager", managers=["m:1"]))
    assert isinstance(parts.runner.state, Starting)
    assert (said(parts).state, said(parts).managers) == ("pending", (("", "m:1"),))
    assert why_no_manager(parts.runner.state) == "", "who asks waits for a leader"
