"""`skep telegraf`: the swarm's numbers for Telegraf, as an input plugin that runs beside it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import click

from skep.cli.swarm_options import gathers
from skep.client.api import default_host
from skep.monitor.gathers import GatherRequests, answer_gathers
from skep.monitor.line_protocol import lines_of
from skep.monitor.swarm_reader import SwarmReader
from skep.monitor.telegraf_config import converted, section_of
from skep.runtime.errors import Invalid
from skep.runtime.texts import harmless

IN_A_TERMINAL = (
    "Each line that comes in, here Enter, is a gather, as Telegraf asks for it; Ctrl-D ends it. Or: --once"
)
CONFIG_MAX_BYTES = 16 << 20  # Telegraf's own sample of all plugins has half a megabyte


@click.command("telegraf")
@gathers
@click.option("--once", is_flag=True, help="Gather once and end, for inputs.exec.")
@click.option("--config", "shows_config", is_flag=True, help="Print the section for telegraf.conf.")
@click.option(
    "--convert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Print the section in the place of a telegraf.conf's [[inputs.swarm]].",
)
def telegraf_command(
    hosts: tuple[str, ...], timeout: float, usage: bool, once: bool, shows_config: bool, convert: Path | None
) -> None:
    """Gives Telegraf the swarm's numbers, in InfluxDB's line protocol.

    Telegraf runs it (inputs.execd) and writes a line to it for each gather; `skep telegraf --config` prints
    what to put into telegraf.conf. It ends with its input.
    """
    if sum((once, shows_config, convert is not None)) > 1:
        raise click.UsageError("--once, --config and --convert are three things: choose one")
    if convert is not None:
        _convert(convert)
    elif shows_config:
        given = click.get_current_context().get_parameter_source("timeout")
        is_own = given is not click.core.ParameterSource.DEFAULT
        click.echo(section_of(hosts, f"{timeout:g}s" if is_own else "", with_usage=usage), nl=False)
    else:
        if not once and sys.stdin.isatty():
            click.echo(IN_A_TERMINAL, err=True)
        asyncio.run(_run(hosts or (default_host(),), timeout, usage, once))


def _convert(file: Path) -> None:
    if file.stat().st_size > CONFIG_MAX_BYTES:
        raise Invalid(f"{file} is larger than a telegraf.conf is ({CONFIG_MAX_BYTES >> 20} MiB)")
    try:
        found = converted(file.read_text())
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is no text") from error
    except Invalid as error:
        raise Invalid(f"{file}: {error}") from error
    for each in found:
        click.echo(each.section, nl=False)
        for note in each.notes:
            click.echo(f"Note: {note}", err=True)


async def _run(hosts: tuple[str, ...], timeout_s: float, with_usage: bool, is_once: bool) -> None:
    reader = SwarmReader(hosts, timeout_s, with_usage)
    try:
        if is_once:
            at = time.time_ns()
            _write(b"".join(line + b"\n" for line in lines_of((await reader.read()).points, at)))
        else:
            asked = GatherRequests(sys.stdin.fileno())
            await answer_gathers(
                asked, reader.read, time.time_ns, _write, lambda line: click.echo(harmless(line), err=True)
            )
    finally:
        await reader.close()


def _write(content: bytes) -> None:
    """Who reads too slowly stops us: Telegraf is then no better off with more."""
    while content:
        content = content[os.write(sys.stdout.fileno(), content) :]
