"""`skep machine ls`, `ip`, `url`, `status`, `version`, `inspect` and `active`: what is known of machines,
and how they are."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from datetime import UTC, datetime
from typing import NamedTuple

import click

import skep
from skep.cli.machine.user import NAMES, for_each, the_store, whole
from skep.machine.authority import authority_ends, certificates_end
from skep.machine.certs import EARLY_S
from skep.machine.condition import look, look_at_all
from skep.machine.engine import CALL_S, ERROR, RUNNING, Condition, version_of
from skep.machine.filters import is_state_wanted, is_wanted, parse_filters
from skep.machine.names import compact, expand_names
from skep.machine.record import Machine
from skep.machine.store import MachineStore
from skep.machine.table import columns, row
from skep.machine.templates import shown
from skep.runtime.errors import NotFound, SkepError, Unavailable


@click.command("ls")
@click.argument("names", nargs=-1)
@click.option("--quiet", "-q", is_flag=True, help="Names only; nobody is asked but for their states.")
@click.option(
    "--timeout",
    "-t",
    "timeout_s",
    default=CALL_S,
    show_default=True,
    help="Seconds for each machine; three tenths of it to connect.",
)
@click.option(
    "--filter", "texts", multiple=True, metavar="KEY=VALUE", help="driver, state, name (a pattern), label."
)
@click.option("--format", "-f", "form", help="json: a line each. A Go template: of the same members.")
def ls_command(
    names: tuple[str, ...], quiet: bool, timeout_s: float, texts: tuple[str, ...], form: str | None
) -> None:
    """Lists machines and asks all of them at the same time how they are."""
    store = the_store()
    filters = parse_filters(texts)
    machines, reasons = _machines(store, expand_names(names))
    wanted = [each for each in machines if is_wanted(each, filters)]
    if quiet and "state" not in filters:
        for each in wanted:
            click.echo(each.name if isinstance(each, Machine) else each)
        return
    active = os.environ.get("DOCKER_HOST", "")
    seen = asyncio.run(_seen(store, wanted, reasons, timeout_s))
    ends = {each.machine.name: each.ends for each in seen if isinstance(each.machine, Machine) and each.ends}
    rows = [
        {**row(each.machine, each.condition, active), "CertificatesEnd": _date(each.ends)}
        for each in seen
        if is_state_wanted(each.condition.state, filters)
    ]
    if quiet:
        form = "{{.Name}}"
    if form is None:
        for line in columns(rows):
            click.echo(line)
        _say_ends(store, ends, time.time())
        return
    for values in rows:
        click.echo(shown(values, form))


def _date(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _say_ends(store: MachineStore, ends: dict[str, float], now: float) -> None:
    """Says which certificates end within a month, while what makes them anew works still."""
    ca_ends = authority_ends(store)
    if ca_ends is not None and ca_ends < now + EARLY_S:
        click.echo(f"The machines' CA ends on {_date(ca_ends)}: skep machine regenerate-certs --ca", err=True)
        return
    soon = [name for name, at in ends.items() if at < now + EARLY_S]
    if soon:
        names = shlex.join(compact(soon))
        first = _date(min(ends[name] for name in soon))
        click.echo(f"Certificates end, the first on {first}: skep machine regenerate-certs {names}", err=True)


def _machines(store: MachineStore, names: tuple[str, ...]) -> tuple[list[Machine | str], dict[str, str]]:
    """Returns those of these names, or all; and why the config of some cannot be read, which are their names
    among the first. Errors: `NotFound`."""
    found: list[Machine | str] = []
    reasons: dict[str, str] = {}
    for name in names or store.names():
        try:
            found.append(store.load(name))
        except NotFound:
            if names:
                raise  # else it was removed meanwhile
        except SkepError as error:
            found.append(name)
            reasons[name] = str(error)
    return found, reasons


class _Seen(NamedTuple):
    """A machine, or the name of one whose config cannot be read; how it is; when its certificates end."""

    machine: Machine | str
    condition: Condition
    ends: float | None = None


async def _seen(
    store: MachineStore, machines: list[Machine | str], reasons: dict[str, str], timeout_s: float
) -> list[_Seen]:
    async def one(machine: Machine | str) -> _Seen:
        if not isinstance(machine, Machine):
            return _Seen(machine, Condition(ERROR, error=reasons[machine]))
        condition = await look(machine, store.directory(machine.name), timeout_s)
        # Its files are read while others are waited for.
        return _Seen(machine, condition, certificates_end(store, machine.name))

    return await look_at_all(machines, one)


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
@click.option("--format", "form", help="json: a line each. A Go template: {{.Name}} {{.State}} {{.Error}}")
def status_command(names: tuple[str, ...], form: str | None) -> None:
    """Prints how machines are: Running, Stopped, Timeout, Error, Half-made."""
    store = the_store()

    async def one(name: str) -> Condition:
        return await look(store.load(name), store.directory(name))

    def show(name: str, found: Condition) -> None:
        if form is not None:
            click.echo(shown({"Name": name, "State": found.state, "Error": found.error}, form))
        else:
            click.echo(f"{name}: {found.state}" if len(names) > 1 else found.state)

    for_each(names, one, show)


@click.command("version")
@click.argument("names", nargs=-1)
@click.option("--format", "form", help="json: a line each. A Go template: {{.Name}} {{.Version}}")
def version_command(names: tuple[str, ...], form: str | None) -> None:
    """Prints the versions of machines' engines, or, without names, skep's."""
    if not names:
        click.echo(f"skep {skep.__version__}")
        return
    store = the_store()
    expanded = expand_names(names)

    async def one(name: str) -> str:
        return await version_of(whole(store, name), store.directory(name))

    def show(name: str, version: str) -> None:
        if form is not None:
            click.echo(shown({"Name": name, "Version": version}, form))
        else:
            click.echo(f"{name}: {version}" if len(expanded) > 1 else version)

    for_each(expanded, one, show)


@click.command("inspect")
@NAMES
@click.option(
    "--format",
    "-f",
    "form",
    help="json: a line each. A Go template: {{.Driver.IPAddress}}, {{json .HostOptions}}",
)
def inspect_command(names: tuple[str, ...], form: str | None) -> None:
    """Prints what is kept of machines, as docker-machine does."""

    async def one(name: str) -> str:
        config = the_store().config(name)
        return shown(config, form or "{{prettyjson .}}")

    for_each(names, one, lambda _, text: click.echo(text))


@click.command("active")
@click.option(
    "--timeout", "-t", "timeout_s", default=CALL_S, show_default=True, help="Seconds for the machine."
)
def active_command(timeout_s: float) -> None:
    """Prints which machine the environment leads to, once its engine has answered."""
    store = the_store()
    host = os.environ.get("DOCKER_HOST", "")
    active = [name for name in store.names() if host and _url(store, name) == host]
    if not active:
        raise NotFound('No active host found: eval "$(skep machine env NAME)" makes a machine that')
    for name in active:
        condition = asyncio.run(look(store.load(name), store.directory(name), timeout_s))
        if condition.state != RUNNING:
            raise Unavailable(f'Machine "{name}" is {condition.state}: {condition.error}')
        click.echo(name)


def _url(store: MachineStore, name: str) -> str:
    try:
        return store.load(name).url
    except SkepError:
        return ""  # of one whose config cannot be read
