"""A table in the terminal: once, or as it changes, until a key ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from msgspec.structs import replace
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from skep.cli.top.command import ask
from skep.cli.top.tables import (
    CPU,
    KINDS,
    MEMORY,
    RESTARTS,
    SORTS,
    Selection,
    TopTable,
    is_text,
    missing,
)
from skep.client.api import ApiClient
from skep.runtime.errors import SkepError
from skep.runtime.texts import harmless, printable

AROUND = 5  # lines of a screen that are no rows: the head, the names, the keys, and one that stays free
CELL_MAX_BYTES = 512  # the longest is a service's name and a node's id
KEYS = "n nodes · s services · t tasks · c cpu · m memory · r restarts · q ends"
QUIT = "q"
_KIND_OF = {kind[0]: kind for kind in KINDS}
_SORT_OF = {sort[0]: sort for sort in (CPU, MEMORY, RESTARTS)}


def print_table(table: TopTable) -> None:
    """Prints it whole: a line is a row, however wide the terminal is, where there is none."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=1000)
    console.print(_drawn(table))


async def watch(url: str, selection: Selection, interval_s: float, has_limit: bool) -> None:
    """Shows it until the user ends it. Errors: `ApiError`, `Invalid`, `Unavailable` of the first answer."""
    client = ApiClient(url)
    try:
        await _Screen(client, selection, interval_s, has_limit).run()
    finally:
        await client.close()


class _Screen:
    """What is shown, and what keys have made of it."""

    def __init__(self, client: ApiClient, selection: Selection, interval_s: float, has_limit: bool) -> None:
        self._client = client
        self._selection = selection
        self._interval_s = interval_s
        self._has_limit = has_limit
        self._console = Console(highlight=False)
        self._table: TopTable | None = None
        self._shown = selection  # of which that table is
        self._trouble = ""
        self._end = asyncio.Event()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._table = await ask(self._client, self._limited())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._press, QUIT)
        live = Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop")
        with _keys(self._press), live:
            loop.add_signal_handler(signal.SIGWINCH, lambda: live.update(self._drawn(), refresh=True))
            while not self._end.is_set():
                live.update(self._drawn(), refresh=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval_s):
                        await self._woken.wait()
                self._woken.clear()
                await self._ask_unless_ended()

    async def _ask_unless_ended(self) -> None:
        """A manager that hangs holds up nobody who has seen enough."""
        asking, ending = asyncio.ensure_future(self._ask()), asyncio.ensure_future(self._end.wait())
        await asyncio.wait([asking, ending], return_when=asyncio.FIRST_COMPLETED)
        for each in (asking, ending):
            each.cancel()
        await asyncio.gather(asking, ending, return_exceptions=True)
        if not asking.cancelled():
            asking.result()

    async def _ask(self) -> None:
        """What was seen last stays where nothing is answered now: a leader may be changing."""
        selection = self._limited()
        try:
            self._table, self._shown, self._trouble = await ask(self._client, selection), selection, ""
        except SkepError as error:
            self._trouble = " ".join(harmless(str(error)).split())

    def _limited(self) -> Selection:
        if self._has_limit:
            return self._selection
        return replace(self._selection, limit=max(1, self._console.size.height - AROUND))

    def _press(self, key: str) -> None:
        if key == QUIT:
            self._end.set()
        elif kind := _KIND_OF.get(key):
            sort = self._selection.sort if self._selection.sort in SORTS[kind] else CPU
            self._selection = replace(self._selection, kind=kind, sort=sort)
        elif (sort := _SORT_OF.get(key, "")) in SORTS[self._selection.kind]:
            self._selection = replace(self._selection, sort=sort)
        elif key != " ":
            return
        self._woken.set()

    def _drawn(self) -> Group:
        table = self._table
        assert table is not None
        of = self._shown
        shown = f"{len(table.rows)} of {table.total} {of.kind}, by {of.sort}"
        head = Text.assemble(("skep top", "bold"), f"   {shown}   nodes that answered: {table.answered}")
        if silent := missing(table):
            head.append(f"   {silent}", "yellow")
        foot = Text(self._trouble, "red") if self._trouble else Text(KEYS, "dim")
        return Group(head, _drawn(table, self._console.size.height - AROUND), foot)


def _drawn(table: TopTable, rows_max: int | None = None) -> RichTable:
    drawn = RichTable(box=SIMPLE_HEAD if rows_max is not None else None, pad_edge=False, show_edge=False)
    for name in table.names:
        drawn.add_column(name, justify="left" if is_text(name) else "right", no_wrap=True)
    for row in table.rows[:rows_max]:
        drawn.add_row(
            *(Text(printable(each, CELL_MAX_BYTES)) for each in row.cells),
            style="dim" if row.is_stale else "",
        )
    return drawn


@contextlib.contextmanager
def _keys(press: Callable[[str], None]) -> Iterator[None]:
    """Has `press` hear each key meanwhile, as it is pressed; nothing where there is no keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    file, loop = sys.stdin.fileno(), asyncio.get_running_loop()

    def read() -> None:
        pressed = os.read(file, 64)
        if len(pressed) == 1:  # arrows and the like are several bytes, and mean nothing here
            press(pressed.decode("ascii", errors="replace"))
        elif not pressed:  # the terminal is gone
            press(QUIT)

    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    loop.add_reader(file, read)
    try:
        yield
    finally:
        loop.remove_reader(file)
        termios.tcsetattr(file, termios.TCSADRAIN, before)
