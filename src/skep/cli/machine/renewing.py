"""`skep machine regenerate-certs`: certificates made anew, after an address changed, and by another
authority."""

from __future__ import annotations

import shlex
import time

import click

from skep.cli.machine.changing import provision_each
from skep.cli.machine.maker import in_turn, maker_of
from skep.cli.machine.progress import failed_lines
from skep.cli.machine.user import AT_A_TIME, organization, the_store, work_on, work_on_each
from skep.machine import renewal
from skep.machine.authority import renew_client
from skep.machine.drivers import Say
from skep.machine.exporting import IMPORTED
from skep.machine.names import compact, expand_names
from skep.machine.renewal import Stage
from skep.machine.store import MachineStore
from skep.runtime.errors import Invalid, SkepError


@click.command("regenerate-certs")
@click.argument("names", nargs=-1)
@click.option("--force", "-f", is_flag=True, help="Do not ask.")
@click.option("--client-certs", is_flag=True, help="The client's certificate, too, which all machines share.")
@click.option("--ip", "address", help="The machine's new address, or name, which it is known by from now on.")
@click.option("--ca", is_flag=True, help="Another authority, and all machines' certificates by it.")
@click.option("--leave-behind", is_flag=True, help="With --ca: also where some machines cannot be reached.")
@click.option(
    "--at-a-time",
    type=click.IntRange(1, AT_A_TIME),
    default=1,
    show_default=True,
    help="With --ca: so many machines, whose engines restart.",
)
def regenerate_certs_command(
    names: tuple[str, ...],
    force: bool,
    client_certs: bool,
    address: str | None,
    ca: bool,
    leave_behind: bool,
    at_a_time: int,
) -> None:
    """Makes the machines' certificates anew and restarts their engines with them, those of a cluster's
    managers one after the other."""
    if ca == bool(names):
        raise click.UsageError("Name machines, or --ca for all of them.")
    expanded = expand_names(names)
    if address is not None and len(expanded) != 1:
        raise Invalid("--ip: an address is one machine's")
    store = the_store()
    for name in expanded:
        store.load(name)  # all are there, before anything is made anew
    if not force:
        click.confirm("Regenerate TLS machine certs?  Warning: this is irreversible.", abort=True)
    if ca:
        _renew_authority(store, leave_behind=leave_behind, at_a_time=at_a_time)
        return
    if client_certs:
        renew_client(store, organization(), time.time())
    if address is None:
        provision_each(expanded)
        return
    to = address

    async def move(name: str, say: Say) -> None:
        await maker_of(say).move(name, to)

    work_on_each(expanded, move, lambda failed: "")


def _renew_authority(store: MachineStore, *, leave_behind: bool, at_a_time: int) -> None:
    """Tells all machines twice: to trust both authorities, then the new one alone."""
    names = _whole(store)
    if renewal.begin(store, organization(), time.time()) is Stage.BOTH:
        click.echo("Having all machines trust the new authority beside the old one...")
        left = _provision(store, names, at_a_time)
        if left and not leave_behind:
            click.echo(
                "Nobody is shut out. Go on, once the reasons are gone: skep machine regenerate-certs --ca; or"
                " with --leave-behind: they keep the old certificates until they are provisioned",
                err=True,
            )
            raise click.exceptions.Exit(1)
        renewal.switch(store)
        names = [name for name in _whole(store) if name not in left]  # with those that were made meanwhile
    click.echo("Having them trust the new authority alone...")
    if _provision(store, names, at_a_time) and not leave_behind:
        click.echo("Go on with them: skep machine regenerate-certs --ca", err=True)
        raise click.exceptions.Exit(1)
    renewal.end(store)
    click.echo("All machines' certificates are of the new authority. Who has imported one needs it anew.")


def _provision(store: MachineStore, names: list[str], at_a_time: int) -> list[str]:
    """Returns those that failed, and says why."""
    turns = in_turn(names)

    async def one(name: str, say: Say) -> None:
        async with turns.turn(name, say):
            await maker_of(say).provision(name)

    _, reasons = work_on(names, one, at_a_time)
    if reasons:
        for line in failed_lines(reasons, len(names)):
            click.echo(line, err=True)
        click.echo(f"They are: {shlex.join(compact(list(reasons)))}", err=True)
    return list(reasons)


def _whole(store: MachineStore) -> list[str]:
    """Returns the machines that have certificates; of half-made ones the next try makes them."""
    found = []
    for name in store.names():
        try:
            machine = store.load(name)
            if machine.is_whole and machine.driver != IMPORTED:
                found.append(name)
        except SkepError as error:
            click.echo(f"{name} is left as it is: {error}", err=True)
    return found
