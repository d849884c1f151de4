"""`skep machine resize`."""

from __future__ import annotations

import shlex

import click

from skep.cli.machine.maker import maker_of
from skep.cli.machine.user import NAMES, the_store, whole, work_on_each
from skep.machine.drivers import Say
from skep.machine.resizing import resize


@click.command("resize")
@NAMES
@click.option("--size", required=True, help="As the driver names them: s-2vcpu-4gb")
@click.option("--power-cycle", is_flag=True, help="Stop it before, and start it after.")
def resize_command(names: tuple[str, ...], size: str, power_cycle: bool) -> None:
    """Gives machines that are off another size. Their disks stay as they are."""
    store = the_store()

    async def one(name: str, say: Say) -> None:
        await resize(maker_of(say), whole(store, name).name, size, power_cycle=power_cycle)
        say(f'Machine "{name}" is {size} now.')

    again = f"skep machine resize --size {shlex.quote(size)}{' --power-cycle' if power_cycle else ''}"
    work_on_each(names, one, lambda failed: f"Try again: {again} {shlex.join(failed)}")
