"""What a leader gives up of nodes that it holds, and when, second by second."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from skep.manager.eviction import EVICT_EVERY_S, HOLD_S
from skep.manager.evictor import Evictor, Muster, Seen
from skep.manager.manager_identity import says_nothing
from skep.runtime.errors import NotFound
from skep.sim.loop import VirtualLoop

pytestmark = pytest.mark.usefixtures("quiet")

HERE = [f"here-{n}" for n in range(20)]
GONE = [f"gone-{n}" for n in range(40)]


class Loss:
    """A leader that hears nothing of `GONE` any more. `downs`: node -> s until it was given up."""

    def __init__(self, seen: Seen = says_nothing, others: Collection[str] = ()) -> None:
        self.evictor = Evictor(seen, lambda: others, lambda: "", lambda: None)
        self.downs: dict[str, float] = {}
        self.heard, self.absent = list(HERE), list(GONE)

    async def lasts(self, for_s: float) -> None:
        began = asyncio.get_running_loop().time()
        until = began + for_s
        while (now := asyncio.get_running_loop().time()) < until:
            muster = Muster(self.heard, 0, frozenset(self.absent), 5.0)
            for node_id in self.evictor.allowed(list(self.absent), muster):
                self.absent.remove(node_id)
                self.downs[node_id] = now
            await asyncio.sleep(0.5)

    def dies(self, node_id: str) -> None:
        self.heard.remove(node_id)
        self.absent.append(node_id)


def played(loss: Loss, dies_at_s: float, for_s: float = 200.0) -> dict[str, float]:
    """`HERE[0]` dies as well."""

    async def scenario() -> None:
        await loss.lasts(dies_at_s)
        loss.dies(HERE[0])
        await loss.lasts(for_s - dies_at_s)
        loss.evictor.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        began = runner.get_loop().time()
        runner.run(scenario())
    return {node_id: at - began for node_id, at in loss.downs.items()}


async def sees_none(node_id: str) -> Collection[str]:
    return []


def test_one_more_that_dies_goes_before_those_that_are_held() -> None:
    died_at_s = HOLD_S + 12
    downs = played(Loss(), died_at_s)
    assert len(downs) == len(GONE) + 1
    assert downs[HERE[0]] <= died_at_s + EVICT_EVERY_S
    assert max(downs.values()) <= HOLD_S + 5.5 * EVICT_EVERY_S


@pytest.mark.parametrize("seen", [says_nothing, sees_none])
def test_one_that_dies_after_all_were_given_up_goes_at_once(seen: Seen) -> None:
    died_at_s = HOLD_S + 6 * EVICT_EVERY_S
    downs = played(Loss(seen, ["m2"]), died_at_s)
    assert downs[HERE[0]] <= died_at_s + 1


def test_all_go_together_where_another_manager_sees_none() -> None:
    downs = played(Loss(sees_none, ["m2", "m3"]), dies_at_s=100)
    times = [downs[node_id] for node_id in GONE]
    assert HOLD_S <= min(times) <= max(times) <= HOLD_S + 1


def test_a_manager_that_does_not_say_is_no_witness() -> None:
    """An earlier skep's answers that it has no such page."""

    async def does_not_know(node_id: str) -> Collection[str]:
        raise NotFound("page not found")

    downs = played(Loss(does_not_know, ["m2"]), dies_at_s=150)
    assert sum(at <= HOLD_S + 1 for at in downs.values()) == 1


def test_nodes_that_another_manager_sees_stay() -> None:
    """Too few of them for it to lead: with some seen elsewhere it may still be the leader that is cut off."""

    async def sees_two(node_id: str) -> Collection[str]:
        return GONE[:2] if node_id == "m2" else ["a node that was removed"]

    downs = played(Loss(sees_two, ["m2", "m3"]), dies_at_s=150)
    assert not downs.keys() & set(GONE[:2])
    assert sum(at <= HOLD_S + 1 for at in downs.values()) == 1
