"""`skep machine ls`, `ip`, `url`, `status` and `inspect`: what is known of machines, and how they are."""

from __future__ import annotations

import asyncio
import os

import click
import msgspec

from skep.cli.machine.user import AT_A_TIME, NAMES, for_each, the_store
from skep.machine.condition import look
from skep.machine.engine import CALL_S, ERROR, Condition
from skep.machine.record import Machine
from skep.machine.store import MachineStore
from skep.machine.table import columns, row
from skep.machine.templates import filled
from skep.runtime.errors import SkepError


@click.command("ls")
@click.option("--quiet", "-q", is_flag=True, help="Names only; nobody is asked.")
@click.option(
    "--timeout", "-t", "timeout_s", default=CALL_S, show_default=True, help="Seconds for each machine."
)
@click.option("--format", "form", help="json: a line each. A Go template: of the same members.")
def ls_command(quiet: bool, timeout_s: float, form: str | None) -> None:
    """Lists machines and asks all of them at the same time how they are."""
    store = the_store()
    if quiet:
        for name in store.names():
            click.echo(name)
        return
    active = os.environ.get("DOCKER_HOST", "")
    rows = [row(each, condition, active) for each, condition in asyncio.run(_conditions(store, timeout_s))]
    if form is None:
        for line in columns(rows):
            click.echo(line)
        return
    for each in rows:
        click.echo(msgspec.json.encode(each).decode() if form == "json" else filled(form, each))


async def _conditions(store: MachineStore, timeout_s: float) -> list[tuple[Machine | str, Condition]]:
    turn = asyncio.Semaphore(AT_A_TIME * 4)  # no more than one TLS connection each

    async def one(name: str) -> tuple[Machine | str, Condition]:
        try:
            machine = store.load(name)
        except SkepError as error:
            return name, Condition(ERROR, error=str(error))
        async with turn:
            return machine, await look(machine, store.directory(name), timeout_s)

    return await asyncio.gather(*map(one, store.names()))


@click.command("ip")
@NAMES
def ip_command(names: tuple[str, ...]) -> None:
    """Prints machines' addresses."""

    async def one(name: str) -> str:
        return the_store().load(name).ssh.address

    for_each(names, one, lambda _, address: click.echo(address))


@click.command("url")
@NAMES
def url_command(names: tuple[str, ...]) -> None:
    """Prints where machines' engines listen."""

    async def one(name: str) -> str:
        return the_store().load(name).url

    for_each(names, one, lambda _, url: click.echo(url))


@click.command("status")
@NAMES
def status_command(names: tuple[str, ...]) -> None:
    """Prints how machines are: Running, Stopped, Timeout, Error, Half-made."""
    store = the_store()

    async def one(name: str) -> str:
        return (await look(store.load(name), store.directory(name))).state

    for_each(names, one, lambda name, state: click.echo(f"{name}: {state}" if len(names) > 1 else state))


@click.command("inspect")
@NAMES
@click.option("--format", "-f", "form", help="A Go template: {{.Driver.IPAddress}}, {{json .HostOptions}}")
def inspect_command(names: tuple[str, ...], form: str | None) -> None:
    """Prints what is kept of machines, as docker-machine does."""

    async def one(name: str) -> None:
        config = the_store().config(name)
        if form is not None:
            click.echo(filled(form, config))
        else:
            click.echo(msgspec.json.format(msgspec.json.encode(config), indent=4).decode())

    for_each(names, one)
