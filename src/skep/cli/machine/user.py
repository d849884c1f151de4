"""What all commands about machines have: the user's store, names, several machines at a time."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from skep.machine.record import Machine
from skep.machine.store import MachineStore, default_path
from skep.runtime.entry import reason_of
from skep.runtime.errors import SkepError, Unavailable

AT_A_TIME = 64  # connections of one command; sshd takes ten that are not logged in, each on a host of its own

Result = TypeVar("Result")


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


def for_each(names: Sequence[str], do: Callable[[str], Awaitable[Result]]) -> dict[str, Result]:
    """Returns what came of each machine, all at the same time. Those that fail are said, each on a line, and
    the command's status is 1 once all have ended."""

    async def all_of_them() -> dict[str, Result | BaseException]:
        turn = asyncio.Semaphore(AT_A_TIME)

        async def one(name: str) -> Result:
            async with turn:
                return await do(name)

        unique = list(dict.fromkeys(names))
        # Whatever happens to one, the others are not left half done.
        answers = await asyncio.gather(*map(one, unique), return_exceptions=True)
        return dict(zip(unique, answers, strict=True))

    found = asyncio.run(all_of_them())
    done = {name: each for name, each in found.items() if not isinstance(each, BaseException)}
    for name, each in found.items():
        if isinstance(each, SkepError):
            click.echo(f"Error: {f'{name}: ' if len(found) > 1 else ''}{reason_of(each)}", err=True)
    for each in found.values():
        if isinstance(each, BaseException) and not isinstance(each, SkepError):
            raise each
    if len(done) < len(found):
        raise click.exceptions.Exit(1)
    return done


def saying(name: str, several: bool) -> Callable[[str], None]:
    """Returns what prints a line of progress, with the machine's name where there are several."""

    def say(line: str) -> None:
        click.echo(f"({name}) {line}" if several else line)

    return say
