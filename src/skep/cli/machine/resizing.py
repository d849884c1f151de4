"""`skep machine resize`."""

from __future__ import annotations

import click

from skep.cli.machine.user import for_each, saying, the_store, whole
from skep.machine.resizing import resize


@click.command("resize")
@click.argument("names", nargs=-1, required=True)
@click.option("--size", required=True, help="As the driver names them: s-2vcpu-4gb")
@click.option("--power-cycle", is_flag=True, help="Stop it before, and start it after.")
def resize_command(names: tuple[str, ...], size: str, power_cycle: bool) -> None:
    """Gives machines that are off another size. Their disks stay as they are."""
    store = the_store()

    async def one(name: str) -> None:
        say = saying(name, len(names) > 1)
        await resize(store, whole(store, name), size, power_cycle=power_cycle, say=say)
        say(f'Machine "{name}" is {size} now.')

    for_each(names, one)
