"""What is said of machines that are worked at: on a terminal a line for each, which changes; elsewhere
all that is said, with the machine's name where there are several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import click
from msgspec import Struct
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

WAITS, WORKS, DONE, FAILED = "waits", "works", "done", "failed"
_STYLES = {WAITS: "dim", WORKS: "", DONE: "green", FAILED: "red"}
_REFRESHES_PER_S = 4  # of a screen of lines: what is drawn more often costs more than the work


class MachineProgress(Struct, frozen=True):
    """How far it is with a machine, and what was said of it last."""

    state: str = WAITS
    line: str = ""


class Board:
    """The progress of several machines, or of one, whose lines are printed as they come."""

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._progress = dict.fromkeys(names, MachineProgress())

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draws it for as long as the work goes on."""
        if not self._is_drawn:
            yield
            return
        with Live(get_renderable=self._rendered, console=self._console, refresh_per_second=_REFRESHES_PER_S):
            yield

    def saying(self, name: str) -> Callable[[str], None]:
        """Returns what is given each line of what goes on with the machine."""

        def say(line: str) -> None:
            if not self._is_several:
                click.echo(line)
                return
            line = line.removeprefix(f"({name}) ")  # of drivers, which say it themselves
            self._progress[name] = MachineProgress(WORKS, line)
            if not self._is_drawn:
                click.echo(f"({name}) {line}")

        return say

    def ended(self, name: str, reason: str = "") -> None:
        """`reason`: why it failed."""
        if not self._is_several:
            return
        self._progress[name] = MachineProgress(FAILED if reason else DONE, reason)
        if not self._is_drawn:
            click.echo(f"({name}) {f'Error: {reason}' if reason else 'Done'}", err=bool(reason))

    @property
    def _is_several(self) -> bool:
        return len(self._progress) > 1

    @property
    def _is_drawn(self) -> bool:
        return self._is_several and self._console.is_terminal

    def _rendered(self) -> RenderableType:
        lines = board_lines(self._progress, self._console.height - 1)
        return Text("\n", no_wrap=True, overflow="ellipsis").join(
            Text(text, _STYLES[state], no_wrap=True, overflow="ellipsis") for state, text in lines
        )


def board_lines(progress: dict[str, MachineProgress], lines_max: int) -> list[tuple[str, str]]:
    """Returns (state, text) of each line: all machines in their order, or, where the terminal has not
    that many lines, those that failed and are worked at, and how many there are of each. Pure."""
    width = max(map(len, progress), default=0)

    def line(name: str) -> tuple[str, str]:
        state, said = progress[name].state, progress[name].line
        return state, f"{name.ljust(width)}  {state.ljust(6)}  {said}".rstrip()

    if len(progress) <= lines_max:
        return [line(name) for name in progress]
    by_state = {state: [name for name, each in progress.items() if each.state == state] for state in _STYLES}
    shown = [*by_state[FAILED][-lines_max // 3 :], *by_state[WORKS]][: max(lines_max - 1, 0)]
    counts = ", ".join(f"{len(names)} {state}" for state, names in by_state.items() if names)
    return [*map(line, shown), (WORKS, f"{len(progress)} machines: {counts}")]


def failed_lines(reasons: dict[str, str], of: int) -> list[str]:
    """Returns the table of machines that failed, out of `of`. Pure."""
    width = max(map(len, reasons), default=0)
    rows = [f"  {name.ljust(width)}  {reason}" for name, reason in reasons.items()]
    return [f"{len(reasons)} of {of} machines failed:", *rows]
