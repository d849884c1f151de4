"""What is said of several machines that are worked at."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import click
import pytest
from rich.console import Console

from skep.cli.machine.progress import DONE, FAILED, WAITS, WORKS, Board, MachineProgress, board_lines
from skep.cli.machine.user import AT_A_TIME, work_on_each
from skep.runtime.errors import Unavailable

Say = Callable[[str], None]


def test_all_machines_have_a_line_where_there_is_room() -> None:
    progress = {
        "mg0": MachineProgress(DONE),
        "w10": MachineProgress(WORKS, "Installing Docker..."),
        "w2": MachineProgress(),
    }
    assert board_lines(progress, 3) == [
        (DONE, "mg0  done"),
        (WORKS, "w10  works   Installing Docker..."),
        (WAITS, "w2   waits"),
    ]


def test_of_more_machines_than_lines_those_at_work_are_shown_and_what_failed() -> None:
    progress = {f"w{number}": MachineProgress(WORKS, "x") for number in range(100)}
    progress |= {"a": MachineProgress(FAILED, "no key"), "b": MachineProgress(DONE), "c": MachineProgress()}
    lines = board_lines(progress, 20)
    assert len(lines) == 20
    assert lines[0] == (FAILED, "a    failed  no key")
    assert lines[-1][1] == "103 machines: 1 waits, 100 works, 1 done, 1 failed"
    assert len(board_lines(progress, 1)) == 1


async def _one(name: str, say: Say) -> str:
    say(f"({name}) No SSH key specified.")
    await asyncio.sleep(0)
    say("Installing Docker...")
    if name in ("w2", "w3", "w4"):
        raise Unavailable("its disk is full")
    return name.upper()


def test_without_a_terminal_each_line_has_its_machines_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit) as ended:
        work_on_each(("w1", "w2", "w3", "w4"), _one, lambda names: f"go on: {' '.join(names)}")
    assert ended.value.exit_code == 1
    shown = capsys.readouterr()
    assert "(w1) No SSH key specified.\n" in shown.out
    assert "(w1) Installing Docker...\n" in shown.out
    assert "(w1) Done\n" in shown.out
    assert "(w2) Error: its disk is full\n" in shown.err
    assert shown.err.endswith(
        "3 of 4 machines failed:\n  w2  its disk is full\n  w3  its disk is full\n  w4  its disk is full\n"
        "go on: w[2:4]\n"
    )


def test_of_one_machine_all_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert work_on_each(("w1",), _one, lambda names: "go on") == {"w1": "W1"}
    assert capsys.readouterr().out == "(w1) No SSH key specified.\nInstalling Docker...\n"
    with pytest.raises(click.exceptions.Exit):
        work_on_each(("w2",), _one, lambda names: "go on")
    assert capsys.readouterr().err == "Error: its disk is full\n"


def test_a_terminal_has_a_line_for_each() -> None:
    written = io.StringIO()
    board = Board(("w1", "w2"), Console(file=written, force_terminal=True, width=40, height=10))
    with board.shown():
        board.saying("w1")("Installing [b]Docker[/b]..." + "x" * 100)
        board.ended("w2", "its disk is full")
    last = written.getvalue().split("w1  works")[-1]
    assert "Installing [b]Docker[/b]" in last, "what hosts say is no markup"
    assert "w2  failed  its disk is full" in last
    assert "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx" not in last, "it is cut where the line ends"


def test_so_many_are_worked_at_at_the_same_time_and_no_more() -> None:
    at_work, most = 0, 0

    async def one(name: str, say: Say) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.01)
        at_work -= 1

    work_on_each([f"w{number}" for number in range(3 * AT_A_TIME)], one, lambda names: "")
    assert most == AT_A_TIME
