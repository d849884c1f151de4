"""What all commands about machines have: the user's store, names, several machines at a time."""

from __future__ import annotations

import asyncio
import getpass
import shlex
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from skep.cli.machine.progress import Board, failed_lines
from skep.machine.drivers import Say
from skep.machine.names import compact, expand_names
from skep.machine.record import Machine
from skep.machine.store import MachineStore, default_path
from skep.runtime.entry import reason_of
from skep.runtime.errors import SkepError, Unavailable

AT_A_TIME = 64  # connections of one command; sshd takes ten that are not logged in, each on a host of its own

Result = TypeVar("Result")


def _expanded(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    return expand_names(texts)


# Machines' names on a command line, and ranges of them: w[1:50].
NAMES = click.argument("names", nargs=-1, required=True, callback=_expanded)


def the_store() -> MachineStore:
    return MachineStore(default_path())


def organization() -> str:
    """Returns whose machines they are, for certificates: user.host, as docker-machine says it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = "unknown"
    return f"{user}.{socket.gethostname()}"


def whole(store: MachineStore, name: str) -> Machine:
    """Returns a machine that can be connected to. Errors: `NotFound`, `Unavailable` where it is half made."""
    machine = store.load(name)
    if not machine.is_whole:
        raise Unavailable(
            f'Machine "{name}" is half-made: {machine.why}. Go on with it: skep machine provision {name};'
            f" or remove it: skep machine rm {name}"
        )
    return machine


def for_each(
    names: Sequence[str],
    do: Callable[[str], Awaitable[Result]],
    show: Callable[[str, Result], None] | None = None,
) -> dict[str, Result]:
    """Returns what came of each machine, all at the same time, and shows it in the names' order. Those that
    fail are said, each on a line, and the command's status is 1 once all have ended."""
    found = asyncio.run(_all_of_them(names, do))
    done, reasons = _parted(found)
    if show is not None:
        for name, each in done.items():
            show(name, each)
    for name, reason in reasons.items():
        click.echo(f"Error: {f'{name}: ' if len(found) > 1 else ''}{reason}", err=True)
    if reasons:
        raise click.exceptions.Exit(1)
    return done


def work_on_each(
    names: Sequence[str],
    do: Callable[[str, Say], Awaitable[Result]],
    go_on: Callable[[list[str]], str],
    at_a_time: int = AT_A_TIME,
) -> dict[str, Result]:
    """The same for what takes a while, and says meanwhile how far it is. `go_on`: what its user can do with
    those that failed, by their names."""
    done, reasons = work_on(names, do, at_a_time)
    if reasons:
        if len(done) + len(reasons) > 1:
            lines = [*failed_lines(reasons, len(done) + len(reasons)), go_on(compact(list(reasons)))]
        else:
            lines = [f"Error: {reason}" for reason in reasons.values()]
        for line in filter(None, lines):
            click.echo(line, err=True)
        raise click.exceptions.Exit(1)
    return done


def work_on(
    names: Sequence[str], do: Callable[[str, Say], Awaitable[Result]], at_a_time: int = AT_A_TIME
) -> tuple[dict[str, Result], dict[str, str]]:
    """Returns what came of those that went well, and why the others did not; says how far it is meanwhile."""
    board = Board(names)

    async def one(name: str) -> Result:
        try:
            answer = await do(name, board.saying(name))
        except SkepError as error:
            board.ended(name, reason_of(error))
            raise
        board.ended(name)
        return answer

    with board.shown():
        found = asyncio.run(_all_of_them(names, one, at_a_time))
    return _parted(found)


async def _all_of_them(
    names: Sequence[str], do: Callable[[str], Awaitable[Result]], at_a_time: int = AT_A_TIME
) -> dict[str, Result | BaseException]:
    turn = asyncio.Semaphore(at_a_time)

    async def one(name: str) -> Result:
        async with turn:
            return await do(name)

    unique = list(dict.fromkeys(names))
    # Whatever happens to one, the others are not left half done.
    answers = await asyncio.gather(*map(one, unique), return_exceptions=True)
    return dict(zip(unique, answers, strict=True))


def _parted(found: dict[str, Result | BaseException]) -> tuple[dict[str, Result], dict[str, str]]:
    """Returns what came of those that went well, and why the others did not. What is no error of ours is
    raised."""
    reasons = {name: reason_of(each) for name, each in found.items() if isinstance(each, SkepError)}
    for each in found.values():
        if isinstance(each, BaseException) and not isinstance(each, SkepError):
            raise each
    done = {name: each for name, each in found.items() if not isinstance(each, BaseException)}
    return done, reasons


def provision_again(names: list[str]) -> str:
    """Returns what users can do with machines that were not made, or not provisioned."""
    return f"Go on with them, once the reasons are gone: skep machine provision {shlex.join(names)}"
