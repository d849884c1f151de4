"""Gathers and writes together, in virtual time."""

from __future__ import annotations

import asyncio
import gzip

from skep.monitor.influx.feed import LAST_S, FeedPace, InfluxFeed
from skep.monitor.influx.verdict import WriteAnswer
from skep.monitor.influx.waiting import WriteBuffer
from skep.monitor.points import Gathered, Point
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Unavailable

EPOCH = 1_796_000_003.0  # no multiple of ten
TAKEN = WriteAnswer(204)


class Database:
    """Keeps the times of what it takes; answers `answers` first, each after `takes_s`."""

    def __init__(self, *answers: WriteAnswer, takes_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.takes_s = takes_s
        self.kept: list[int] = []
        self.asked_at: list[float] = []
        self.most_lines = 1000

    async def write(self, body: bytes) -> WriteAnswer:
        loop = asyncio.get_running_loop()
        self.asked_at.append(loop.time())
        await asyncio.sleep(self.takes_s)
        lines = gzip.decompress(body).decode().splitlines()
        if len(lines) > self.most_lines:
            return WriteAnswer(413)
        answer = self.answers.pop(0) if self.answers else TAKEN
        if answer.status == 204:
            self.kept += [int(line.rpartition(" ")[2]) for line in lines]
        return answer


class Case:
    def __init__(self, database: Database, buffer: WriteBuffer | None = None, chance: float = 1.0) -> None:
        self.said: list[str] = []
        self.reads = 0
        self.partly: tuple[int, ...] = ()
        self.away = False
        self.points = 1
        self.database = database
        self.clock = LoopClock(EPOCH - asyncio.get_running_loop().time())
        pace = FeedPace(10.0, self.clock, lambda: chance)
        self.feed = InfluxFeed(self.read, database, buffer or WriteBuffer(), pace, self.say)

    def say(self, level: str, text: str) -> None:
        self.said.append(f"{level}: {text}")

    async def read(self) -> Gathered:
        self.reads += 1
        if self.away:
            raise Unavailable("no manager answers")
        points = [Point("swarm", {"n": str(n)}, {"n_nodes": self.reads}) for n in range(self.points)]
        return Gathered(points, "tasks are left out" if self.reads in self.partly else "")

    async def run(self, seconds: float) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await self.feed.run(stop)


async def test_gathers_are_at_even_times_and_the_first_at_once() -> None:
    case = Case(Database())
    await case.run(31)
    assert case.database.kept == [1_796_000_000, 1_796_000_010, 1_796_000_020, 1_796_000_030]
    assert case.said == ["info: ended: 4 points are written, 0 were dropped, 0 had to wait and are lost"]


async def test_a_database_that_was_away_has_all_of_it_in_the_end() -> None:
    away = WriteAnswer(0, "it cannot be reached")
    case = Case(Database(*[away] * 5))
    await case.run(61)
    assert case.database.kept == list(range(1_796_000_000, 1_796_000_061, 10))
    assert [b - a for a, b in zip(case.database.asked_at, case.database.asked_at[1:6], strict=False)] == [
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
    ]
    assert case.said[:2] == [
        "error: nothing can be written: it cannot be reached; it is tried again",
        "info: the database takes points again (writes that failed: 5)",
    ]


async def test_what_is_refused_for_good_is_dropped_once_and_counted() -> None:
    bad = WriteAnswer(400, "partial write: dropped=1")
    case = Case(Database(bad, bad))
    await case.run(31)
    assert case.database.kept == [1_796_000_020, 1_796_000_030]
    assert case.said == [
        "error: up to 1 points are dropped, for the database says: 400: partial write: dropped=1",
        "info: the database takes points again (writes that failed: 2)",
        "info: ended: 2 points are written, 2 were dropped, 0 had to wait and are lost",
    ]


async def test_more_than_may_wait_is_dropped_and_said_at_both_ends() -> None:
    case = Case(Database(*[WriteAnswer(503)] * 9), WriteBuffer(2000))
    await case.run(400)
    lost = 41 - len(case.database.kept)
    assert 0 < lost < 36
    assert case.database.kept == sorted(case.database.kept)
    assert (
        case.said[1]
        == "warning: more waits to be written than may: the oldest points are dropped from now on"
    )
    assert f"warning: {lost} points, the oldest, were dropped while it did not" in case.said
    assert len([line for line in case.said if "oldest" in line]) == 2


async def test_too_large_a_write_is_halved_until_it_is_taken() -> None:
    case = Case(Database())
    case.points = 100
    case.database.most_lines = 30
    await case.run(5)
    assert len(case.database.kept) == 100
    case.database.most_lines = 0
    await case.run(1)
    assert (
        case.said[-1] == "info: ended: 100 points are written, 100 were dropped, 0 had to wait and are lost"
    )


async def test_a_swarm_that_is_away_is_said_once() -> None:
    case = Case(Database())
    case.away = True
    asyncio.get_running_loop().call_later(35, setattr, case, "away", False)
    await case.run(51)
    assert case.said[:2] == [
        "error: the swarm's numbers cannot be had: no manager answers",
        "info: the swarm's numbers are there again (gathers missed: 4)",
    ]
    assert case.database.kept == [1_796_000_040, 1_796_000_050]


async def test_a_clock_that_is_set_stops_nothing() -> None:
    case = Case(Database())
    loop = asyncio.get_running_loop()
    loop.call_later(15, case.clock.jump, -3600.0)
    loop.call_later(35, case.clock.jump, 7200.0)
    await case.run(55)
    first = 1_796_000_000
    assert case.database.kept[:2] == [first, first + 10]
    assert case.database.kept[2] - (first - 3580) in (0, 10)
    assert case.database.kept[-1] - (first + 3650) in (0, 10)
    assert len(case.database.kept) in (5, 6, 7)


async def test_what_is_left_out_is_said_once() -> None:
    case = Case(Database())
    case.partly = (2, 3, 5)
    await case.run(51)
    assert len(case.database.kept) == 6
    assert case.said[:-1] == ["warning: tasks are left out"] * 2


async def test_a_slow_database_holds_no_gather_up() -> None:
    case = Case(Database(takes_s=25.0))
    await case.run(101)
    assert case.reads == 11
    assert len(case.database.kept) == 4


async def test_what_waits_is_tried_once_more_at_the_end() -> None:
    case = Case(Database(*[WriteAnswer(503)] * 4))
    await case.run(12)  # the next try would be at 15
    assert len(case.database.kept) == 2
    hopeless = Case(Database(*[WriteAnswer(503)] * 40))
    await hopeless.run(12)
    assert hopeless.said[-1] == (
        "warning: ended: 0 points are written, 0 were dropped, 2 had to wait and are lost"
    )
    loop = asyncio.get_running_loop()
    hanging = Case(Database(takes_s=1000.0))
    began = loop.time()
    await hanging.run(12)
    assert loop.time() - began == 12 + LAST_S
