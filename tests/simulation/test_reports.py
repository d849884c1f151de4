"""Statuses that come faster than they are taken in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from skep.manager.dispatcher.reports import TURN_BYTES, WAITING_MAX_BYTES, Reports
from skep.sim.loop import VirtualLoop

FRAME = 1 << 20


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_a_turn_of_the_loop_takes_in_so_many_and_in_their_order() -> None:
    async def scenario() -> None:
        taken: list[str] = []
        reports = Reports(lambda node_id, frame: taken.append(node_id))
        for n in range(100):
            reports.add(f"n{n}", bytes(TURN_BYTES // 10))
        assert not taken
        turns = []
        while len(taken) < 100:
            before = len(taken)
            await asyncio.sleep(0)
            turns.append(len(taken) - before)
        assert [turn for turn in turns if turn] == [10] * 10
        assert taken == [f"n{n}" for n in range(100)]
        reports.add("last", b"1")
        await asyncio.sleep(0)
        assert taken[-1] == "last"

    run(scenario)


def test_too_many_are_taken_in_at_once() -> None:
    async def scenario() -> None:
        taken: list[int] = []
        reports = Reports(lambda node_id, frame: taken.append(len(frame)))
        for _ in range(WAITING_MAX_BYTES // FRAME):
            reports.add("n", bytes(FRAME))
        assert not taken
        reports.add("n", b"1")
        assert sum(taken) == WAITING_MAX_BYTES + 1

    run(scenario)


def test_the_end_forgets_what_waits() -> None:
    async def scenario() -> None:
        taken: list[str] = []
        reports = Reports(lambda node_id, frame: taken.append(node_id))
        reports.add("n", b"1")
        reports.stop()
        await asyncio.sleep(1)
        assert not taken

    run(scenario)
