"""When garbage is collected in a daemon, under virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from skep.runtime.garbage import FULL_MAX_S, FULL_S, LOOK_S, SetAside
from skep.sim.loop import VirtualLoop


class Knot:
    """Refers to itself: only a collection frees it."""

    def __init__(self) -> None:
        self.self = self


def collected_after_s(cores: float, is_old: bool) -> float:
    """Returns how long a knot is still there, in a process that uses so much."""

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        aside = SetAside(lambda: loop.time() * cores)
        knot = Knot()
        gone = weakref.ref(knot)
        if is_old:
            aside.start()
            del knot
        else:
            del knot
            aside.start()
        began = loop.time()
        try:
            while gone() is not None:
                await asyncio.sleep(LOOK_S / 2)
            return loop.time() - began
        finally:
            aside.stop()

    gc.disable()
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(scenario())
    finally:
        gc.enable()


def test_the_start_leaves_no_garbage() -> None:
    assert collected_after_s(0.5, is_old=False) == 0


@pytest.mark.parametrize(("cores", "most_s"), [(0.01, FULL_S), (0.5, FULL_MAX_S)])
def test_what_was_set_aside_is_looked_through_at_a_quiet_moment(cores: float, most_s: float) -> None:
    """In a process that is never quiet, later."""
    assert most_s <= collected_after_s(cores, is_old=True) <= most_s + 2 * LOOK_S


def test_nothing_stays_set_aside_at_the_end() -> None:
    collected_after_s(0.5, is_old=False)
    assert gc.get_freeze_count() == 0
