"""`skep monitor influx`: gathers at even times, and writes what it has, two loops over one buffer."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from skep.monitor.influx.verdict import Dropped, RetryAt, TooMuch, WriteAnswer, Written, decide
from skep.monitor.influx.waiting import Batch, WriteBuffer, batches_of, halves
from skep.monitor.line_protocol import lines_of
from skep.monitor.points import Gathered
from skep.monitor.saying import Trouble
from skep.runtime.clock import Clock
from skep.runtime.errors import SkepError

LAST_S = 5.0  # what waits when it is told to end is tried for so long: Docker gives 10 s
EARLY_S = 0.1  # a timer may ring so much before its time, by the wall clock
ERROR, WARNING, INFO = "error", "warning", "info"

Say = Callable[[str, str], None]  # a level, a sentence


class PointSink(Protocol):
    """Who writes."""

    async def write(self, body: bytes) -> WriteAnswer: ...


class FeedPace(Struct, frozen=True):
    """When it gathers (every `interval_s`, at multiples of it), by which clock; `chance` gives 0 to 1."""

    interval_s: float
    clock: Clock
    chance: Callable[[], float]


class InfluxFeed:
    """`read` asks the swarm. `say` is told of each trouble once, and of its end."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Gathered]],
        sink: PointSink,
        buffer: WriteBuffer,
        pace: FeedPace,
        say: Say,
    ) -> None:
        self._read = read
        self._sink = sink
        self._buffer = buffer
        self._pace = pace
        self._say = say
        self._news = asyncio.Event()  # something waits to be written
        self._reading = Trouble()
        self._leaving_out = Trouble()
        self._writing = Trouble()
        self._failures = 0  # of the write that is tried
        self._lost = 0  # points, since it was last said
        self.written = self.dropped = 0  # points

    async def run(self, stop: asyncio.Event) -> None:
        """Gathers and writes until `stop` is set, and then, for a moment, what is left."""
        loops = [asyncio.ensure_future(self._gather()), asyncio.ensure_future(self._write())]
        ended = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((*loops, ended), return_when=asyncio.FIRST_COMPLETED)
            for loop in loops:
                if loop.done():
                    loop.result()  # raises: neither ends by itself
        finally:
            for each in (*loops, ended):
                each.cancel()
            await asyncio.gather(*loops, ended, return_exceptions=True)
        await self._write_last()
        left = self._buffer.points
        self._say(
            WARNING if left else INFO,
            f"ended: {self.written} points are written, {self.dropped} were dropped,"
            f" {left} had to wait and are lost",
        )

    async def _write_last(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                while batch := self._buffer.take():
                    if await self._try(batch) is not None:
                        return

    async def _gather(self) -> None:
        interval_s, clock = self._pace.interval_s, self._pace.clock
        while True:
            tick = math.floor((clock.now() + EARLY_S) / interval_s)
            await self._gather_once(int(tick * interval_s))
            # What a slow answer has missed is left out. A clock that is set back is not waited for.
            until_next_s = (tick + 1) * interval_s - clock.now()
            await asyncio.sleep(min(max(0.0, until_next_s), interval_s))

    async def _gather_once(self, at_s: int) -> None:
        try:
            gathered = await self._read()
        except SkepError as error:
            if self._reading.is_news(str(error)):
                self._say(ERROR, f"the swarm's numbers cannot be had: {error}")
            return
        if missed := self._reading.over():
            self._say(INFO, f"the swarm's numbers are there again (gathers missed: {missed})")
        if gathered.left_out and self._leaving_out.is_news(gathered.left_out):
            self._say(WARNING, gathered.left_out)
        elif not gathered.left_out:
            self._leaving_out.over()
        gone = self._buffer.add(batches_of(lines_of(gathered.points, at_s)))
        self._lose(gone)
        self._news.set()

    async def _write(self) -> None:
        while True:
            batch = self._buffer.take()
            if batch is None:
                self._news.clear()
                await self._news.wait()
                continue
            again_s = await self._try(batch)
            if again_s is not None:
                await asyncio.sleep(again_s)

    async def _try(self, batch: Batch) -> float | None:
        """Writes the batch that was taken. Returns how long to wait until it is tried again; None: it is
        settled, one way or the other."""
        answer, now_s = await self._sink.write(batch.body), self._pace.clock.now()
        verdict = decide(answer, self._failures, now_s, self._pace.chance())
        if isinstance(verdict, RetryAt):
            self._failures += 1
            if self._writing.is_news(verdict.why):
                self._say(ERROR, f"nothing can be written: {verdict.why}; it is tried again")
            return verdict.at_s - now_s
        self._failures = 0
        match verdict:
            case Written():
                self._settled(batch)
            case TooMuch(why):
                self._split(batch, why)
            case Dropped(why):
                self._drop(batch, f"up to {batch.points} points are dropped, for the database says: {why}")
        return None

    def _settled(self, batch: Batch) -> None:
        self.written += batch.points
        self._buffer.settle()
        if failed := self._writing.over():
            self._say(INFO, f"the database takes points again (writes that failed: {failed})")
        if self._lost:
            self._say(WARNING, f"{self._lost} points, the oldest, were dropped while it did not")
            self._lost = 0

    def _split(self, batch: Batch, why: str) -> None:
        parts = halves(batch)
        if parts:
            self._lose(self._buffer.settle(*parts))
        else:
            self._drop(batch, f"a point is dropped, for the database says: {why}")

    def _drop(self, batch: Batch, why: str) -> None:
        self.dropped += batch.points
        self._buffer.settle()
        if self._writing.is_news(why):
            self._say(ERROR, why)

    def _lose(self, points: int) -> None:
        """Says it when it begins; how many there were in the end when it is over."""
        if points and not self._lost:
            self._say(WARNING, "more waits to be written than may: the oldest points are dropped from now on")
        self._lost += points
        self.dropped += points
