"""`skep machine create`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from skep.cli.machine.user import organization, saying, the_store
from skep.machine.drivers.generic import Generic
from skep.machine.making import Maker
from skep.machine.record import ENGINE_PORT, SSH_PORT, EngineWish, SshPlace
from skep.runtime.entry import reason_of
from skep.runtime.errors import SkepError, Unsupported

PRE_CHECK_STATUS = 3  # docker-machine's, of a check that failed before anything was made
_PORT = click.IntRange(1, 65535)


@click.command("create")
@click.argument("name")
@click.option(
    "--driver",
    "-d",
    type=click.Choice(["generic"]),
    default="generic",
    show_default=True,
    envvar="MACHINE_DRIVER",
    help="Where the machine comes from. generic: a host that is there.",
)
@click.option("--generic-ip-address", envvar="GENERIC_IP_ADDRESS", help="The host's address, or its name.")
@click.option("--generic-ssh-user", envvar="GENERIC_SSH_USER", default="root", show_default=True)
@click.option(
    "--generic-ssh-key", envvar="GENERIC_SSH_KEY", default="", help="A file. [your own keys, and ssh-agent's]"
)
@click.option(
    "--generic-ssh-port", envvar="GENERIC_SSH_PORT", type=_PORT, default=SSH_PORT, show_default=True
)
@click.option(
    "--generic-engine-port", envvar="GENERIC_ENGINE_PORT", type=_PORT, default=ENGINE_PORT, show_default=True
)
@click.option("--engine-opt", multiple=True, metavar="NAME=VALUE", help="An option of dockerd: dns=10.0.0.1")
@click.option("--engine-label", multiple=True, metavar="NAME=VALUE", help="A label of the engine.")
@click.option(
    "--engine-env", multiple=True, metavar="NAME=VALUE", help="A variable of dockerd's environment."
)
@click.option("--tls-san", multiple=True, help="Another name or address by which the engine is reached.")
@click.option(
    "--engine-only", is_flag=True, help="A plain Docker Engine with mutual TLS, as docker-machine made it."
)
def create_command(
    name: str,
    driver: str,
    generic_ip_address: str | None,
    generic_ssh_user: str,
    generic_ssh_key: str,
    generic_ssh_port: int,
    generic_engine_port: int,
    engine_opt: tuple[str, ...],
    engine_label: tuple[str, ...],
    engine_env: tuple[str, ...],
    tls_san: tuple[str, ...],
    engine_only: bool,
) -> None:
    """Makes a host that you reach over SSH a machine: docker $(skep machine config NAME) info."""
    if generic_ip_address is None:
        raise click.UsageError("generic driver requires the --generic-ip-address option")
    place = SshPlace(
        address=generic_ip_address,
        user=generic_ssh_user,
        port=generic_ssh_port,
        key=_absolute(generic_ssh_key),
    )
    wish = EngineWish(
        port=generic_engine_port,
        options=engine_opt,
        labels=engine_label,
        environment=engine_env,
        tls_sans=tls_san,
    )
    maker = Maker(the_store(), organization(), time.time(), saying(name, several=False))
    asyncio.run(_create(maker, name, wish, place, engine_only))
    click.echo("Docker is up and running!")
    click.echo(
        "To see how to connect your Docker Client to the Docker Engine running on this machine, run:"
        f" skep machine env {name}"
    )


async def _create(maker: Maker, name: str, wish: EngineWish, place: SshPlace, engine_only: bool) -> None:
    driver = Generic(place)
    maker.say("Running pre-create checks...")
    try:
        if not engine_only:
            raise Unsupported(
                "skepd is not installed on machines yet: with --engine-only the machine has a plain Docker"
                " Engine"
            )
        await maker.check(driver, name, wish)
    except SkepError as error:
        click.echo(f"Error with pre-create check: {reason_of(error)}", err=True)
        raise click.exceptions.Exit(PRE_CHECK_STATUS) from error
    await maker.create(driver, name, wish, place)


def _absolute(path: str) -> str:
    """Returns the path as commands in other directories find it."""
    return str(Path(path).expanduser().absolute()) if path else ""
