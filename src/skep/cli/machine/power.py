"""`skep machine start`, `stop`, `restart` and `kill`."""

from __future__ import annotations

import shlex

import click

from skep.cli.machine.maker import in_turn, maker_of
from skep.cli.machine.user import NAMES, work_on_each
from skep.machine.drivers import PowerChange, Say


def _power(names: tuple[str, ...], change: PowerChange) -> None:
    # Who stops machines has them off; who restarts some wants them, and their swarm, to be there again.
    turns = in_turn(names if change is PowerChange.RESTART else ())

    async def one(name: str, say: Say) -> None:
        async with turns.turn(name, say):
            await maker_of(say).power(name, change)

    work_on_each(names, one, lambda failed: f"Try again: skep machine {change} {shlex.join(failed)}")


@click.command("start")
@NAMES
def start_command(names: tuple[str, ...]) -> None:
    """Switches machines on, and waits for their engines."""
    _power(names, PowerChange.START)


@click.command("stop")
@NAMES
def stop_command(names: tuple[str, ...]) -> None:
    """Shuts machines down."""
    _power(names, PowerChange.STOP)


@click.command("restart")
@NAMES
def restart_command(names: tuple[str, ...]) -> None:
    """Shuts machines down and boots them, and waits for their engines. Managers of one cluster take turns."""
    _power(names, PowerChange.RESTART)


@click.command("kill")
@NAMES
def kill_command(names: tuple[str, ...]) -> None:
    """Pulls machines' plugs: nothing on them is told of it."""
    _power(names, PowerChange.KILL)
