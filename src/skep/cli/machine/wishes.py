"""What users say of machines to make: the options of `create` commands, and machines as they are wanted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from skep.cli.machine.maker import maker_of, wheel_house_option
from skep.cli.machine.user import AT_A_TIME
from skep.machine.drivers import Driver, DriverOption, Values, values_of_each
from skep.machine.drivers.known import driver_named, driver_names
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.runtime.entry import reason_of
from skep.runtime.errors import SkepError

PRE_CHECK_STATUS = 3  # docker-machine's, of a check that failed before anything was made
Command = TypeVar("Command", bound=Callable[..., Any])

_ENGINE = (
    click.option(
        "--driver",
        "-d",
        default="generic",
        show_default=True,
        envvar="MACHINE_DRIVER",
        help="Where machines come from: generic (hosts that are there), local (out of namespaces on this"
        " one), digitalocean, or a package's (docs/drivers.md).",
    ),
    click.option(
        "--engine-opt", multiple=True, metavar="NAME=VALUE", help="An option of dockerd: dns=10.0.0.1"
    ),
    click.option("--engine-label", multiple=True, metavar="NAME=VALUE", help="A label of the engine."),
    click.option(
        "--engine-env", multiple=True, metavar="NAME=VALUE", help="A variable of dockerd's environment."
    ),
    click.option(
        "--engine-install-url",
        default="",
        metavar="URL",
        help="Of a script that installs Docker where it is missing: https://get.docker.com."
        " [the host's packages]",
    ),
    click.option("--tls-san", multiple=True, help="Another name or address by which the engine is reached."),
    wheel_house_option,
)


def wish_options(command: Command) -> Command:
    """Gives a command what all that make machines have, but for the drivers' own."""
    for each in reversed(_ENGINE):
        command = each(command)
    return command


class WishCommand(click.Command):
    """Has the options of all drivers, which it asks for them only where somebody wants to make a machine."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_driver_options()]


def _driver_options() -> list[click.Parameter]:
    found: list[click.Parameter] = []
    for name in driver_names():
        try:
            driver = driver_named(name)
        except SkepError:
            continue  # it is said where this driver is chosen
        found.extend(_click_option(each) for each in driver.options if not each.secret)
    return found


def _click_option(option: DriverOption) -> click.Option:
    more: dict[str, Any] = {"is_flag": True} if option.is_flag else {"multiple": option.repeats}
    if option.default:
        more.update(default=option.default, show_default=True)
    return click.Option(
        [f"--{option.name}", option.name.replace("-", "_")], help=option.help, envvar=option.variable, **more
    )


def wanted(
    names: Sequence[str], said: dict[str, Any], *, skepd: bool, among: Sequence[str] | None = None
) -> dict[str, Machine]:
    """Returns machines as they are to be made, by their names, once each can be. Leaves with docker-machine's
    status where one cannot. `among`: all that options were said for, where others of them are there."""
    wish = EngineWish(
        options=said["engine_opt"],
        labels=said["engine_label"],
        environment=said["engine_env"],
        tls_sans=said["tls_san"],
        install_url=said["engine_install_url"],
    )
    machines = [
        Machine(name=name, driver=said["driver"], ssh=SshPlace(), engine=wish, skepd=skepd)
        for name in among or names
    ]
    click.echo("Running pre-create checks...")
    try:
        return asyncio.run(_checked(machines, frozenset(names), said))
    except SkepError as error:
        click.echo(f"Error with pre-create check: {reason_of(error)}", err=True)
        raise click.exceptions.Exit(PRE_CHECK_STATUS) from error


async def _checked(
    machines: list[Machine], names: frozenset[str], said: dict[str, Any]
) -> dict[str, Machine]:
    """Errors: as of `Maker.check`."""
    driver = driver_named(machines[0].driver)
    values = values_of_each(driver.options, _values(driver, said), len(machines))
    asked = [
        driver.wanted(machine, own)
        for machine, own in zip(machines, values, strict=True)
        if machine.name in names
    ]
    turn = asyncio.Semaphore(AT_A_TIME)

    async def check(machine: Machine) -> None:
        async with turn:
            await maker_of(click.echo, said["wheel_house"]).check(driver, machine)

    await asyncio.gather(*map(check, asked))
    return {machine.name: machine for machine in asked}


def _values(driver: Driver, said: dict[str, Any]) -> Values:
    """Returns what was said of the driver's options; what is said of others' is passed over, as
    docker-machine does: it may come from the environment."""
    return {each.name: _value(each, said) for each in driver.options}


def _value(option: DriverOption, said: dict[str, Any]) -> str:
    if option.secret:
        return os.environ.get(option.variable, "")
    value = said[option.name.replace("-", "_")]
    if option.is_flag:
        return "true" if value else ""
    return "\n".join(value) if option.repeats else (value or "")
