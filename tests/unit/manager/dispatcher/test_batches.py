"""When what has changed is told."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from skep.manager.dispatcher.batches import BATCH_S, BYTES_PER_S, MESSAGES_PER_S, Batches
from skep.sim.loop import VirtualLoop


def test_what_is_left_is_told_once_the_rest_is_on_its_way() -> None:
    async def run() -> list[float]:
        loop, told_at = asyncio.get_running_loop(), list[float]()

        def tell() -> None:
            told_at.append(loop.time())
            if len(told_at) < 3:
                batches.soon()  # there is more
                batches.sent(BYTES_PER_S)

        batches = Batches("test", tell)
        batches.soon()
        await asyncio.sleep(10.0)
        return [at - told_at[0] for at in told_at]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        first, second, third = runner.run(run())
    assert first == 0.0
    assert 1.0 <= second <= 1.0 + BATCH_S
    assert 2.0 <= third <= 2.0 + 2 * BATCH_S


def test_what_comes_meanwhile_does_not_wait_for_what_is_to_be_told_later() -> None:
    async def run() -> list[float]:
        loop, told_at = asyncio.get_running_loop(), list[float]()
        began = loop.time()

        def tell() -> None:
            told_at.append(loop.time() - began)
            if told_at[-1] < 5.0:
                batches.within(5.0 - told_at[-1])

        batches = Batches("test", tell)
        batches.within(5.0)
        await asyncio.sleep(1.0)
        batches.soon()
        await asyncio.sleep(9.0)
        return told_at

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(run()) == pytest.approx([1.0 + BATCH_S, 5.0])


def test_many_short_messages_take_their_time_too() -> None:
    async def run() -> list[float]:
        loop, told_at = asyncio.get_running_loop(), list[float]()

        def tell() -> None:
            told_at.append(loop.time())
            if len(told_at) < 3:
                batches.sent(100, MESSAGES_PER_S if len(told_at) == 1 else 0)
                batches.soon()

        batches = Batches("test", tell)
        batches.soon()
        await asyncio.sleep(10.0)
        return [at - told_at[0] for at in told_at]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        _, second, third = runner.run(run())
    assert 1.0 <= second <= 1.0 + 2 * BATCH_S
    assert third - second <= 2 * BATCH_S, "a message to all alike is counted by its bytes"


def test_a_time_that_has_passed_is_no_trouble_for_what_comes_after() -> None:
    """uvloop, which skepd runs on, gives a handle for it that does not say its time."""

    async def run() -> list[int]:
        told = list[int]()
        batches = Batches("test", lambda: told.append(1))
        batches.within(-1.0)
        batches.soon()
        batches.within(-1.0)
        await asyncio.sleep(3 * BATCH_S)
        return told

    assert uvloop.run(run()) == [1]
