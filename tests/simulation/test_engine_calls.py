"""Engine calls that are stuck beside others that are not, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from skep.agent.executor.calls import CHANGES_MAX, SLOW_S, SLOW_STOP_S, STOPS_MAX, EngineCalls
from skep.agent.executor.engine import CALL_S
from skep.runtime.errors import Unavailable
from skep.sim.loop import VirtualLoop

Act = Callable[[], Coroutine[Any, Any, float]]


async def stuck() -> float:
    """A volume that hangs: the client's own deadline ends the call, and it is tried again."""
    await asyncio.sleep(CALL_S)
    raise Unavailable("the Docker Engine does not answer")


async def quick() -> float:
    await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time()


def waited(others: int, make: Callable[[EngineCalls, Act], Awaitable[float]], after_s: float = 0.0) -> float:
    """Returns how long a quick call of that kind waits behind as many stuck changes."""

    async def scenario() -> float:
        calls = EngineCalls()
        hold = [asyncio.ensure_future(calls.call(stuck)) for _ in range(others)]
        await asyncio.sleep(after_s or 0.01)
        began = asyncio.get_running_loop().time()
        try:
            return await make(calls, quick) - began
        finally:
            for work in hold:
                work.cancel()
            await asyncio.gather(*hold, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())


def test_questions_do_not_wait_for_changes() -> None:
    assert waited(CHANGES_MAX, lambda calls, act: calls.look(act)) < 1


@pytest.mark.parametrize("after_s", [0.0, CALL_S + 1, 3 * CALL_S + 5])
def test_a_change_waits_no_longer_than_a_stuck_one_has_its_slot(after_s: float) -> None:
    assert waited(CHANGES_MAX, lambda calls, act: calls.call(act), after_s) <= SLOW_S + 1


def test_no_slot_is_given_back_twice() -> None:
    async def scenario() -> int:
        calls = EngineCalls()
        await asyncio.gather(*(calls.call(lambda: asyncio.sleep(SLOW_S * 3)) for _ in range(CHANGES_MAX)))
        at_once = most = 0

        async def counted() -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(1)
            at_once -= 1

        await asyncio.gather(*(calls.call(counted) for _ in range(5 * CHANGES_MAX)))
        return most

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == CHANGES_MAX


def test_stops_have_their_grace() -> None:
    """A container that ends within a minute keeps its slot: as many end at once as are meant to."""

    async def scenario() -> float:
        calls = EngineCalls()
        waits = [
            calls.call(lambda: asyncio.sleep(SLOW_STOP_S - 1), calls.stops) for _ in range(STOPS_MAX + 1)
        ]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*waits)
        return asyncio.get_running_loop().time() - began

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == pytest.approx(2 * (SLOW_STOP_S - 1))
