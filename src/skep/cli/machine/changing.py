"""`skep machine provision`, `upgrade`, `rm` and `forget-host-key`: what changes a
machine that there is."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from skep.cli.machine.maker import in_turn, maker_of, wheel_house_option
from skep.cli.machine.user import (
    NAMES,
    for_each,
    provision_again,
    the_store,
    whole,
    work_on_each,
)
from skep.machine.drivers import Say
from skep.runtime.errors import SkepError, Unavailable


def provision_each(names: tuple[str, ...], wheel_house: Path | None = None, *, skepd: bool = False) -> None:
    turns = in_turn(names)

    async def one(name: str, say: Say) -> None:
        async with turns.turn(name, say):
            await maker_of(say, wheel_house).provision(name, skepd=skepd)

    work_on_each(names, one, provision_again)


@click.command("provision")
@NAMES
@click.option("--skepd", is_flag=True, help="Have skepd run there, also where there was an engine alone.")
@wheel_house_option
def provision_command(names: tuple[str, ...], skepd: bool, wheel_house: Path | None) -> None:
    """Does all that makes a host a machine once more; goes on with machines that are half-made; brings this
    skep to those that run another. Managers of one cluster take turns."""
    provision_each(names, wheel_house, skepd=skepd)


@click.command("rm")
@NAMES
@click.option("--force", "-f", is_flag=True, help="Forget it, whatever fails; do not ask.")
@click.option("-y", "yes", is_flag=True, help="Do not ask.")
def rm_command(names: tuple[str, ...], force: bool, yes: bool) -> None:
    """Removes machines: what is kept of them here, and their docker contexts."""
    if not force and not yes:
        click.confirm(f"About to remove {', '.join(names)}. Are you sure?", abort=True)

    async def one(name: str) -> None:
        maker = maker_of(lambda line: click.echo(f"({name}) {line}"))
        left = await maker.remove(name, force=force)
        click.echo(f"Successfully removed {name}{f': {left}' if left else ''}")

    for_each(names, one)


@click.command("forget-host-key")
@NAMES
def forget_host_key_command(names: tuple[str, ...]) -> None:
    """Has the SSH key that a machine's host shows next be the one that counts: for hosts that were installed
    anew."""

    async def one(name: str) -> None:
        the_store().forget_host_key(name)

    for_each(names, one)


@click.command("upgrade")
@NAMES
def upgrade_command(names: tuple[str, ...]) -> None:
    """Upgrades machines' engines by their hosts' packages, one machine after the other: an engine that
    restarts ends its containers. With the first that fails it ends."""
    failed: list[str] = []
    turns = in_turn(names)

    async def one(name: str, say: Say) -> None:
        if failed:
            raise Unavailable(f"not begun, for {failed[0]} failed")
        maker = maker_of(say)
        try:
            async with turns.turn(name, say):
                changes = await maker.upgrade(whole(maker.store, name).name)
        except SkepError:
            failed.append(name)
            raise
        for each in changes:
            say(f"{each.name}: {each.before} before, {each.after} now")
        if not changes:
            say("Its packages are the newest already")

    work_on_each(
        names, one, lambda left: f"Go on with them: skep machine upgrade {shlex.join(left)}", at_a_time=1
    )
