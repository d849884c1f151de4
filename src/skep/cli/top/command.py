"""The command `skep top`."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from skep.cli.swarm_options import HOST
from skep.cli.top.tables import (
    CPU,
    KINDS,
    MEMORY,
    NODES,
    RESTARTS,
    Selection,
    TopTable,
    make_table,
    missing,
    parse_selection,
)
from skep.client.api import ApiClient, default_host
from skep.runtime.errors import Unavailable

INTERVAL_S = 2.0  # as `docker stats` and `top` do about; the leader asks nodes no more often


@click.command("top")
@click.argument("what", type=click.Choice(KINDS), default=NODES)
@click.option("--sort", "-s", type=click.Choice([CPU, MEMORY, RESTARTS]), default=CPU, show_default=True)
@click.option("--filter", "-f", "filters", multiple=True, metavar="NAME=VALUE", help="node=…, service=…")
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), help="Rows. [what fits the screen, or 100]")
@click.option("--interval", "-d", type=click.FloatRange(1.0, 3600.0), default=INTERVAL_S, help="Seconds. [2]")
@click.option("--once", is_flag=True, help="Print it once, and end.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@HOST
def top_command(
    what: str,
    sort: str,
    filters: tuple[str, ...],
    limit: int | None,
    interval: float,
    once: bool,
    form: str,
    host: str | None,
) -> None:
    """Shows what nodes, services or tasks take of processors and memory, those with most first.

    In a terminal it moves until q is pressed; elsewhere it is printed once. As JSON it is one object a line,
    with numbers as the API has them, again and again unless --once is given.

    100 % of a service or task are one processor, as in `docker stats`, of a node all that it has. Restarts
    are tasks of the same place, and with the same spec, that ended before.
    """
    selection = parse_selection(what, sort, limit or 100, filters)
    url = host or default_host()
    if form == "json":
        asyncio.run(_json(url, selection, None if once else interval))
    elif once or not sys.stdout.isatty():
        asyncio.run(_once(url, selection))
    else:
        from skep.cli.top.screen import watch

        asyncio.run(watch(url, selection, interval, has_limit=limit is not None))


async def ask(client: ApiClient, selection: Selection) -> TopTable:
    """Returns what takes most now. Errors: `ApiError`, `Unavailable`, `Invalid`."""
    said = await client.json("GET", selection.path)
    try:
        return make_table(selection, said)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unavailable(
            f"the answer to {selection.path} cannot be read: is what answers at {client.url} a later skepd?"
        ) from error


async def _once(url: str, selection: Selection) -> None:
    from skep.cli.top.screen import print_table

    client = ApiClient(url)
    try:
        table = await ask(client, selection)
    finally:
        await client.close()
    print_table(table)
    _say_missing(table)


async def _json(url: str, selection: Selection, interval_s: float | None) -> None:
    """Prints objects, line by line; for ever where there is an interval."""
    client = ApiClient(url)
    try:
        while True:
            table = await ask(client, selection)
            for row in table.rows:
                click.echo(msgspec.json.encode(row.said))
            sys.stdout.flush()
            _say_missing(table)
            if interval_s is None:
                return
            await asyncio.sleep(interval_s)
    finally:
        await client.close()


def _say_missing(table: TopTable) -> None:
    if text := missing(table):
        click.echo(text, err=True)
