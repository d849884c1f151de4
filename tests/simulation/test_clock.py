"""The clock that deciders go by does not jump."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from skep.runtime.clock import SLEW, LoopClock, SteadyClock
from skep.sim.loop import VirtualLoop

EPOCH_S = 1_700_000_000.0


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_it_keeps_the_time() -> None:
    async def scenario() -> None:
        wall = LoopClock(EPOCH_S)
        clock = SteadyClock(wall)
        await asyncio.sleep(100)
        assert abs(clock.now() - wall.now()) < 1e-3

    run(scenario)


def test_a_jump_is_followed_slowly_and_time_never_goes_back() -> None:
    async def scenario() -> None:
        for offset_s in (3600.0, -3600.0):
            wall = LoopClock(EPOCH_S)
            clock = SteadyClock(wall)
            before = clock.now()
            wall.jump(offset_s)
            for _ in range(100):
                await asyncio.sleep(1)
                now = clock.now()
                assert (1 - SLEW) * 0.99 <= now - before <= (1 + SLEW) * 1.01
                before = now
            await asyncio.sleep(3600 / SLEW)
            assert abs(clock.now() - wall.now()) < 1e-2

    run(scenario)


def test_a_clock_that_was_never_set_is_followed_at_once() -> None:
    async def scenario() -> None:
        wall = LoopClock(0.0)
        clock = SteadyClock(wall)
        wall.jump(EPOCH_S)
        await asyncio.sleep(1)
        assert abs(clock.now() - wall.now()) < 1e-3

    run(scenario)
