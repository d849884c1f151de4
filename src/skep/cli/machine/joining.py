"""`skep machine join`: machines become nodes of a swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import click

from skep.cli.machine.user import the_store
from skep.machine.join_plan import JoinResult, Outcome, result_lines
from skep.machine.joining import Joining
from skep.machine.names import compact, expand
from skep.machine.store import MachineStore
from skep.machine.swarm import MachineMember, SwarmMember, check_advertise, check_skepd
from skep.runtime.errors import Conflict, NotFound

ATTEMPTS = 3


def expanded(texts: Sequence[str]) -> list[str]:
    """Returns the names that an option's values stand for: ranges, several with commas. Errors:
    `Invalid`."""
    words = [word for text in texts for word in text.split(",") if word]
    return list(dict.fromkeys(name for word in words for name in expand(word)))


def members_of(store: MachineStore, advertise: str = "") -> Callable[[str], SwarmMember]:
    """Returns what gives a machine's node by its name. It raises as of `check_skepd`, and `NotFound`."""
    return lambda name: MachineMember(check_skepd(store.load(name)), store.directory(name), advertise)


advertise_option = click.option(
    "--advertise-addr",
    "advertise",
    default="",
    metavar="ADDRESS|INTERFACE|auto",
    help="How the swarm's other nodes reach those that join: of machines behind NAT an interface there, like"
    " eth0; auto: each host chooses. [the address that the machine is reached at]",
)


def show_results(results: list[JoinResult], go_on: Callable[[list[str]], str]) -> None:
    """Prints the table; where some failed, how to go on, and leaves with 1."""
    for line in result_lines(results):
        click.echo(line)
    failed = [each.name for each in results if each.outcome is Outcome.FAILED]
    if failed:
        click.echo(f"{len(failed)} of {len(results)} failed. {go_on(compact(failed))}", err=True)
        raise click.exceptions.Exit(1)


@click.command("join")
@click.option("--managers", multiple=True, metavar="NAMES", help="Machines to be managers, like mg[1:2].")
@click.option("--workers", multiple=True, metavar="NAMES", help="Machines to be workers, like w[1:50].")
@click.option("--to", "first", required=True, metavar="NAME", help="A machine that is a manager already.")
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=ATTEMPTS, show_default=True, help="For each machine."
)
@advertise_option
def join_command(
    managers: tuple[str, ...], workers: tuple[str, ...], first: str, attempts: int, advertise: str
) -> None:
    """Has machines join a swarm, all workers at the same time. Those that are in it are left as they are, so
    that the same command, run again, tries those that failed."""
    store = the_store()
    wanted = expanded(managers), expanded(workers)
    if not any(wanted):
        raise click.UsageError("Name machines: --managers, --workers.")
    if both := sorted(set(wanted[0]) & set(wanted[1])):
        raise Conflict(f"{', '.join(both)}: to be a manager and a worker at once")
    if missing := [name for name in (first, *wanted[0], *wanted[1]) if not store.has(name)]:
        raise NotFound(
            f"no such machines: {' '.join(compact(missing))}. skep machine ls lists those there are"
        )
    check_advertise(advertise, len(wanted[0] + wanted[1]))
    member = members_of(store, advertise)
    joining = Joining(member, attempts, lambda name, line: click.echo(f"({name}) {line}", err=True))
    results = asyncio.run(joining.join(first, *wanted))
    show_results(results, lambda failed: f"Once the reasons are gone, run it again: {' '.join(failed)}")
