"""`skep telegraf` as Telegraf's `execd` runs it: a line comes in for each gather, its points go out."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

from skep.monitor.line_protocol import lines_of
from skep.monitor.points import Gathered
from skep.monitor.saying import Trouble
from skep.runtime.errors import SkepError

READ_BYTES = 4096  # of what Telegraf writes: one byte per gather

Read = Callable[[], Awaitable[Gathered]]


class GatherRequests:
    """What comes in from Telegraf. Gathers that are asked for while one is under way are one: their numbers
    would be the same. Made within a running loop; a thread waits for the file, whatever kind it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_asked = self._is_over = False
        threading.Thread(target=self._wait, daemon=True).start()

    async def next(self) -> bool:
        """Waits until a gather is asked for; False: nobody will ask any more."""
        await self._news.wait()
        was_asked, self._is_asked = self._is_asked, False
        if not self._is_over:
            self._news.clear()
        return was_asked

    def _wait(self) -> None:
        is_over = False
        while not is_over:
            try:
                is_over = not os.read(self._descriptor, READ_BYTES)
            except OSError:
                is_over = True
            try:
                self._loop.call_soon_threadsafe(self._hear, is_over)
            except RuntimeError:  # the loop is closed: the program ends
                return

    def _hear(self, is_over: bool) -> None:
        """The last gather that was asked for is owed also where nobody asks for more."""
        self._is_over = is_over
        self._is_asked = self._is_asked or not is_over
        self._news.set()


async def answer_gathers(
    asked: GatherRequests,
    read: Read,
    now_ns: Callable[[], int],
    write: Callable[[bytes], None],
    say: Callable[[str], None],
) -> None:
    """Writes the lines of a gather whenever one is asked for, until nobody will. One that cannot be had
    writes nothing, and is said (`say`: a line as Telegraf's log has it) when its reason changes. What `write`
    raises goes through: nobody reads."""
    trouble, left_out = Trouble(), Trouble()
    while await asked.next():
        at = now_ns()
        try:
            gathered = await read()
        except SkepError as error:
            if trouble.is_news(str(error)):
                say(f"E! the swarm's numbers cannot be had: {error}")
            continue
        write(b"".join(line + b"\n" for line in lines_of(gathered.points, at)))
        if gathered.left_out and left_out.is_news(gathered.left_out):
            say(f"W! {gathered.left_out}")
        elif not gathered.left_out:
            left_out.over()
        if missed := trouble.over():
            say(f"I! the swarm's numbers are there again (gathers missed: {missed})")
