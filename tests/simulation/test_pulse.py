"""The pulse of an engine by itself, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from skep.agent.pulse import SILENT_BEATS, SILENT_MIN_S, Pulse
from skep.runtime.errors import Unavailable
from skep.sim.loop import Place, VirtualLoop

BEAT_S = 5.0


class Engine:
    """Answers pings at once, refuses them at once, or hangs."""

    def __init__(self) -> None:
        self.is_there = self.answers = True
        self.pings = 0

    async def ping(self, wait_s: float) -> None:
        self.pings += 1
        if not self.answers:
            await asyncio.sleep(wait_s)
        if not (self.answers and self.is_there):
            raise Unavailable("no answer")


def note(said: list[bool], is_silent: bool) -> None:
    """Keeps what is news."""
    if is_silent != (said or [False])[-1]:
        said.append(is_silent)


def run(scenario: Callable[[Engine, list[bool]], Coroutine[Any, Any, None]], beat_s: float = BEAT_S) -> None:
    async def with_pulse() -> None:
        engine, said = Engine(), list[bool]()
        pulse = Pulse(engine.ping, lambda: beat_s, lambda is_silent, is_in_doubt: note(said, is_silent))
        work = asyncio.ensure_future(pulse.run())
        try:
            await scenario(engine, said)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(with_pulse())


@pytest.mark.parametrize("way", ["answers", "is_there"])
def test_a_silent_engine_is_said_once_and_its_answer_soon(way: str) -> None:
    async def scenario(engine: Engine, said: list[bool]) -> None:
        await asyncio.sleep(9.5 * BEAT_S)
        assert (said, engine.pings) == ([], 10), "one in a heartbeat"
        setattr(engine, way, False)
        await asyncio.sleep((SILENT_BEATS - 1) * BEAT_S)
        assert said == []
        await asyncio.sleep(2 * BEAT_S)
        assert said == [True]
        await asyncio.sleep(100 * BEAT_S)
        setattr(engine, way, True)
        await asyncio.sleep(2 * BEAT_S)
        assert said == [True, False]

    run(scenario)


def test_answers_in_between_count() -> None:
    async def scenario(engine: Engine, said: list[bool]) -> None:
        for _ in range(20):
            engine.answers = False
            await asyncio.sleep((SILENT_BEATS - 1) * BEAT_S)
            engine.answers = True
            await asyncio.sleep(2 * BEAT_S)
        assert said == []

    run(scenario)


def test_short_heartbeats_do_not_make_it_hasty() -> None:
    async def scenario(engine: Engine, said: list[bool]) -> None:
        engine.answers = False
        await asyncio.sleep(SILENT_MIN_S - 1)
        assert (said, engine.pings <= SILENT_MIN_S) == ([], True)
        await asyncio.sleep(2)
        assert said == [True]

    run(scenario, beat_s=0.1)


def test_a_process_that_stood_still_does_not_take_its_engine_for_silent() -> None:
    place, said, engine = Place(), list[bool](), Engine()

    async def scenario() -> None:
        pulse = Pulse(engine.ping, lambda: BEAT_S, lambda is_silent, is_in_doubt: note(said, is_silent))
        work = asyncio.get_running_loop().create_task(pulse.run(), context=place.context())
        await asyncio.sleep(BEAT_S / 2)
        place.freeze()
        await asyncio.sleep(100 * BEAT_S)
        place.thaw()
        await asyncio.sleep(2 * BEAT_S)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
    assert said == []
