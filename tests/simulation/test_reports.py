"""Statuses that come faster than they are taken in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from skep.manager.dispatcher.reports import TURN, WAITING_MAX, Reports, Statuses
from skep.model.states import RUNNING
from skep.model.task import TaskStatus
from skep.sim.loop import VirtualLoop


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def statuses(count: int) -> Statuses:
    return [("t", TaskStatus(RUNNING, 0.0))] * count


def test_a_turn_of_the_loop_takes_in_so_many_and_in_their_order() -> None:
    async def scenario() -> None:
        taken: list[str] = []
        reports = Reports(lambda node_id, items: taken.append(node_id))
        for n in range(100):
            reports.add(f"n{n}", statuses(TURN // 10))
        assert not taken
        turns = []
        while len(taken) < 100:
            before = len(taken)
            await asyncio.sleep(0)
            turns.append(len(taken) - before)
        assert [turn for turn in turns if turn] == [10] * 10
        assert taken == [f"n{n}" for n in range(100)]
        reports.add("last", statuses(1))
        await asyncio.sleep(0)
        assert taken[-1] == "last"

    run(scenario)


def test_too_many_are_taken_in_at_once() -> None:
    async def scenario() -> None:
        taken: list[int] = []
        reports = Reports(lambda node_id, items: taken.append(len(items)))
        for _ in range(WAITING_MAX // TURN):
            reports.add("n", statuses(TURN))
        assert not taken
        reports.add("n", statuses(1))
        assert sum(taken) == WAITING_MAX + 1

    run(scenario)


def test_the_end_forgets_what_waits() -> None:
    async def scenario() -> None:
        taken: list[str] = []
        reports = Reports(lambda node_id, items: taken.append(node_id))
        reports.add("n", statuses(1))
        reports.stop()
        await asyncio.sleep(1)
        assert not taken

    run(scenario)
