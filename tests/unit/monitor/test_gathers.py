"""What Telegraf is answered, whatever becomes of a gather."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from skep.monitor.gathers import GatherRequests, answer_gathers
from skep.monitor.points import Gathered, Point
from skep.runtime.errors import Unavailable

pytestmark = pytest.mark.real_time  # a thread waits for a pipe


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    os.close(ends[0])


class Swarm:
    """Says what is put into `fails`, then that all is well."""

    def __init__(self) -> None:
        self.fails: list[str] = []
        self.left_out: list[str] = []
        self.reads = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def read(self) -> Gathered:
        self.reads += 1
        await self.slow.wait()
        if self.fails and (why := self.fails.pop(0)):
            raise Unavailable(why)
        points = [Point("swarm", {}, {"n_nodes": 3}), Point("swarm", {"a": "b"}, {"n_nodes": 4})]
        return Gathered(points, self.left_out.pop(0) if self.left_out else "")


async def asked(swarm: Swarm, pipe: tuple[int, int], gathers: int) -> tuple[list[bytes], list[str]]:
    """Returns what is written and said, when so many gathers are asked for, each after the one before."""
    written: list[bytes] = []
    said: list[str] = []
    done = asyncio.ensure_future(
        answer_gathers(GatherRequests(pipe[0]), swarm.read, lambda: 7, written.append, said.append)
    )
    for number in range(gathers):
        os.write(pipe[1], b"\n")
        while swarm.reads == number:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    os.close(pipe[1])
    await asyncio.wait_for(done, 5)
    return written, said


async def test_all_lines_of_a_gather_have_one_time(pipe: tuple[int, int]) -> None:
    written, said = await asked(Swarm(), pipe, 2)
    assert written == [b"swarm n_nodes=3i 7\nswarm,a=b n_nodes=4i 7\n"] * 2
    assert said == []


async def test_a_trouble_writes_nothing_and_is_said_once(pipe: tuple[int, int]) -> None:
    swarm = Swarm()
    swarm.fails = ["away", "away", "gone", "", "away"]
    written, said = await asked(swarm, pipe, 6)
    assert len(written) == 2
    assert said == [
        "E! the swarm's numbers cannot be had: away",
        "E! the swarm's numbers cannot be had: gone",
        "I! the swarm's numbers are there again (gathers missed: 3)",
        "E! the swarm's numbers cannot be had: away",
        "I! the swarm's numbers are there again (gathers missed: 1)",
    ]


async def test_what_is_left_out_is_said_once(pipe: tuple[int, int]) -> None:
    swarm = Swarm()
    swarm.left_out = ["tasks", "tasks", "", "tasks"]
    written, said = await asked(swarm, pipe, 4)
    assert len(written) == 4
    assert said == ["W! tasks", "W! tasks"]


async def test_gathers_that_are_asked_for_meanwhile_are_one(pipe: tuple[int, int]) -> None:
    swarm = Swarm()
    swarm.slow.clear()
    written: list[bytes] = []
    done = asyncio.ensure_future(
        answer_gathers(GatherRequests(pipe[0]), swarm.read, lambda: 7, written.append, lambda line: None)
    )
    for _ in range(20):
        os.write(pipe[1], b"\n")
        await asyncio.sleep(0.005)
    os.close(pipe[1])
    await asyncio.sleep(0.05)
    swarm.slow.set()
    await asyncio.wait_for(done, 5)
    assert len(written) == 2
