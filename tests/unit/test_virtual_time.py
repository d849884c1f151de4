"""The unit tests' own loop: time passes for who waits, and for nobody else."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from skep.sim.loop import Stuck
from tests.unit.left_behind import left_behind
from tests.unit.virtual_time import UnitLoop, spend, wait_in_thread


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_hour_takes_no_time_and_is_exact() -> None:
    began, really = now(), time.process_time()
    await asyncio.sleep(3600)
    assert now() - began == pytest.approx(3600, abs=1e-5)
    assert time.process_time() - really < 1


async def test_what_a_thread_does_takes_no_time_however_long_it_takes() -> None:
    began, loops = now(), threading.get_ident()
    waiting = asyncio.ensure_future(asyncio.sleep(0.001))

    def work() -> int:
        time.sleep(0.02)  # another thread's turn, which no virtual time must end
        return threading.get_ident()

    assert await asyncio.to_thread(work) != loops
    assert now() == began
    assert not waiting.done()
    await waiting


async def test_time_that_a_thread_spends_passes_for_all() -> None:
    began, came = now(), []

    async def tick() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            came.append(now() - began)

    ticking = asyncio.ensure_future(tick())
    await asyncio.to_thread(spend, 2.5)
    assert now() - began == pytest.approx(2.5, abs=1e-5)
    assert came == pytest.approx([1, 2], abs=1e-5)
    await ticking


async def test_time_that_the_loop_spends_holds_it_up() -> None:
    began, late = now(), asyncio.ensure_future(asyncio.sleep(1))
    await asyncio.sleep(0)
    spend(5)
    await late
    assert now() - began == pytest.approx(5, abs=1e-5)


async def test_a_thread_waits_as_long_as_it_may() -> None:
    event, began = threading.Event(), now()
    assert not await asyncio.to_thread(wait_in_thread, event, 2.0)
    assert now() - began == pytest.approx(2, abs=0.02)
    asyncio.get_running_loop().call_later(1.0, event.set)
    assert await asyncio.to_thread(wait_in_thread, event, 5.0)
    assert now() - began == pytest.approx(3, abs=0.02)


async def test_a_failure_in_a_thread_is_its_callers() -> None:
    def fails() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        await asyncio.to_thread(fails)


def test_what_never_comes_is_said_at_once() -> None:
    with asyncio.Runner(loop_factory=UnitLoop) as runner, pytest.raises(Stuck):
        runner.run(asyncio.Event().wait())


def test_a_thread_that_waits_holds_up_no_end() -> None:
    async def leaves() -> None:
        asyncio.get_running_loop().run_in_executor(None, spend, 3600.0)
        await asyncio.sleep(1)

    with asyncio.Runner(loop_factory=UnitLoop) as runner:
        runner.run(leaves())


@pytest.mark.real_time
async def test_who_needs_real_time_has_it() -> None:
    assert not isinstance(asyncio.get_running_loop(), UnitLoop)


async def test_a_task_that_goes_on_is_named_and_one_that_was_cancelled_is_not() -> None:
    async def goes_on() -> None:
        await asyncio.sleep(3600)

    async def ends_slowly() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)

    going, ending = asyncio.ensure_future(goes_on()), asyncio.ensure_future(ends_slowly())
    await asyncio.sleep(0)
    ending.cancel()
    (named,) = await left_behind()
    assert "goes_on" in named
    assert __file__ in named
    going.cancel()
    assert await left_behind() == []
