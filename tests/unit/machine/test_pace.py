"""Requests that are counted by who is asked."""

from __future__ import annotations

import asyncio

from skep.machine.drivers.digitalocean_http import BURST, RATE
from skep.machine.drivers.pace import Pace


async def _times(pace: Pace, count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one() -> float:
        await pace.turn()
        return loop.time() - began

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


async def test_a_minute_has_no_more_requests_than_are_allowed() -> None:
    times = await _times(Pace(RATE, BURST), 600)
    assert times[BURST - 1] == 0
    assert times[BURST] > 0
    for first in range(len(times)):
        within = sum(times[first] <= each < times[first] + 60 for each in times)
        assert within <= 250 - 25, "the documented bound, less what others of the account need"


async def test_who_was_held_up_makes_no_burst_after_it() -> None:
    pace = Pace(RATE, BURST)
    await pace.turn()
    pace.hold(30.0)
    times = await _times(pace, 4)
    assert [round(each, 3) for each in times] == [30.0, 30.333, 30.667, 31.0]


async def test_who_was_idle_has_its_burst_again() -> None:
    pace = Pace(RATE, BURST)
    await _times(pace, BURST)
    await asyncio.sleep(60)
    assert (await _times(pace, BURST))[-1] == 0
