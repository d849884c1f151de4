"""Managers of one cluster are worked at one after the other, and the next only while the others lead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skep.machine.clusters import ClusterRecords, MachineCluster
from skep.machine.in_turn import AGAIN_S, ManagersInTurn, clusters_of
from skep.machine.store import MachineStore
from skep.machine.swarm import NodeMembership, Tokens
from skep.runtime.errors import Unavailable

CLUSTERS = {"mg0": "demo", "mg1": "demo", "mg2": "demo", "other0": "other", "other1": "other"}


class Node:
    """A manager, which is away while it is worked at and for `back_s` after, or for good."""

    def __init__(self, back_s: float | None = 2.0) -> None:
        self.back_s = back_s
        self.is_here = True
        self.has_leader = True

    async def membership(self) -> NodeMembership:
        if not self.is_here:
            raise Unavailable("nothing answers")
        return NodeMembership("active", "id", True)

    async def tokens(self) -> Tokens:
        if not self.has_leader:
            raise Unavailable("no leader")
        return Tokens("SWMTKN-w", "SWMTKN-m")

    async def init(self) -> None:
        raise AssertionError

    async def join(self, token: str, managers: tuple[str, ...]) -> None:
        raise AssertionError

    async def node_ids(self) -> frozenset[str]:
        raise AssertionError


class Work:
    """What a command does to each of its machines, all at the same time."""

    def __init__(self, nodes: dict[str, Node], failing: tuple[str, ...] = ()) -> None:
        self.nodes = nodes
        self.failing = failing
        self.done: list[str] = []
        self.away_together = 0
        self.said: list[str] = []
        self._turns = ManagersInTurn(CLUSTERS, lambda name: self.nodes[name])

    async def one(self, name: str) -> None:
        async with self._turns.turn(name, lambda line: self.said.append(f"{name}: {line}")):
            node = self.nodes[name]
            node.is_here = False
            self.away_together = max(
                self.away_together, sum(not each.is_here for each in self.nodes.values())
            )
            await asyncio.sleep(5.0)
            if node.back_s is not None:
                asyncio.get_running_loop().call_later(node.back_s, setattr, node, "is_here", True)
            if name in self.failing:
                raise Unavailable("no room on its disk")
            self.done.append(name)

    async def all(self, *names: str) -> dict[str, str]:
        found = await asyncio.gather(*map(self.one, names), return_exceptions=True)
        await asyncio.sleep(10.0)
        return {name: str(each) for name, each in zip(names, found, strict=True) if each is not None}


async def test_one_manager_at_a_time_is_away() -> None:
    work = Work({name: Node() for name in CLUSTERS})
    assert not await work.all("mg0", "mg1", "mg2")
    assert work.done == ["mg0", "mg1", "mg2"]
    assert work.away_together == 1
    assert work.said[0] == "mg1: Waiting for its turn: managers of demo are worked at one after the other"


async def test_other_clusters_and_workers_do_not_wait() -> None:
    nodes = {name: Node() for name in (*CLUSTERS, "w0", "w1")}
    work = Work(nodes)
    began = asyncio.get_running_loop().time()
    assert not await work.all("mg0", "other0", "w0", "w1")
    assert asyncio.get_running_loop().time() - began < 10 + 5 + 2 + 2
    assert work.away_together == 4


async def test_a_manager_that_does_not_come_back_is_the_last() -> None:
    """One more would be the end of their lead."""
    work = Work({"mg0": Node(), "mg1": Node(back_s=None), "mg2": Node()})
    said = await work.all("mg0", "mg1", "mg2")
    assert work.done == ["mg0", "mg1"]
    assert f"has not managed demo again within {AGAIN_S:.0f} s" in said["mg1"]
    assert said["mg2"] == "not begun, for mg1, another manager of demo, does not manage now"


async def test_one_without_a_leader_does_not_manage() -> None:
    nodes = {"mg0": Node(), "mg1": Node()}
    work = Work(nodes)
    asyncio.get_running_loop().call_later(3.0, setattr, nodes["mg0"], "has_leader", False)
    said = await work.all("mg0", "mg1")
    assert work.done == ["mg0"]
    assert set(said) == {"mg0", "mg1"}


async def test_what_fails_and_manages_still_keeps_no_other() -> None:
    work = Work({"mg0": Node(), "mg1": Node()}, failing=("mg0",))
    assert await work.all("mg0", "mg1") == {"mg0": "no room on its disk"}
    assert work.done == ["mg1"]


async def test_what_fails_and_ends_a_manager_is_the_last() -> None:
    work = Work({"mg0": Node(back_s=None), "mg1": Node()}, failing=("mg0",))
    said = await work.all("mg0", "mg1")
    assert said["mg0"] == "no room on its disk"
    assert said["mg1"].startswith("not begun, for mg0")


async def test_one_that_was_away_before_keeps_no_other() -> None:
    nodes = {"mg0": Node(back_s=None), "mg1": Node()}
    nodes["mg0"].is_here = False
    work = Work(nodes, failing=("mg0",))
    assert await work.all("mg0", "mg1") == {"mg0": "no room on its disk"}
    assert work.done == ["mg1"]


def test_turns_are_of_several_managers_of_one_cluster(tmp_path: Path) -> None:
    store = MachineStore(tmp_path / "machine")
    clusters = ClusterRecords(store)
    clusters.add("demo", MachineCluster(("mg0", "mg1"), ("w0",)))
    clusters.add("other", MachineCluster(("other0", "other1")))
    said: list[str] = []
    assert clusters_of(store, ("mg0", "mg1", "w0", "other1", "x"), said.append) == {
        "mg0": "demo",
        "mg1": "demo",
    }
    assert not said
    (store.path / "clusters" / "demo.json").write_text("{")
    assert clusters_of(store, ("mg0", "mg1"), said.append) == {}
    with_reason, *more = said
    assert "demo.json cannot be read" in with_reason
    assert not more


@pytest.mark.parametrize("names", [(), ("mg0",)])
def test_one_alone_needs_no_turn(tmp_path: Path, names: tuple[str, ...]) -> None:
    store = MachineStore(tmp_path / "machine")
    ClusterRecords(store).add("demo", MachineCluster(("mg0", "mg1")))
    assert clusters_of(store, names, print) == {}
