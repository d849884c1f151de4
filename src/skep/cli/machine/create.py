"""`skep machine create`."""

from __future__ import annotations

from typing import Any

import click

from skep.cli.machine.maker import maker_of
from skep.cli.machine.user import NAMES, provision_again, work_on_each
from skep.cli.machine.wishes import WishCommand, wanted, wish_options
from skep.machine.drivers import Say


@click.command("create", cls=WishCommand)
@NAMES
@wish_options
@click.option(
    "--engine-only",
    is_flag=True,
    help="No skepd: a plain Docker Engine with mutual TLS, as docker-machine made it.",
)
def create_command(names: tuple[str, ...], engine_only: bool, **said: Any) -> None:
    """Makes hosts machines: docker $(skep machine config NAME) info.

    Several are made at the same time: skep machine create --generic-ip-address '10.0.0.[5:9]' 'w[0:4]'
    """
    machines = wanted(names, said, skepd=not engine_only)

    async def one(name: str, say: Say) -> None:
        await maker_of(say, said["wheel_house"]).create(machines[name])

    work_on_each(names, one, provision_again)
    click.echo("Docker is up and running!")
    which = names[0] if len(names) == 1 else "NAME"
    click.echo(
        "To see how to connect your Docker Client to the Docker Engine running on this machine, run:"
        f" skep machine env {which}"
    )
