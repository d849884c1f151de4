"""The commands that look after a running swarm: `skep cluster`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from skep.cli.client import default_host
from skep.cli.hosts import Hosts
from skep.cli.upgrade import Upgrade
from skep.runtime.errors import SkepError

T = TypeVar("T")

_managers = click.option(
    "--host",
    "-H",
    "hosts",
    multiple=True,
    help="A manager's API: unix://PATH or tcp://HOST:PORT; may be given again."
    " [$DOCKER_HOST, or skepd's socket]",
)


@click.group()
def cluster() -> None:
    """Looks after a running swarm."""


@cluster.command("upgrade-managers")
@click.option("--run", "command", required=True, metavar="COMMAND", help="What upgrades one: 'ssh {name} …'.")
@click.option(
    "--timeout", default=120.0, show_default=True, help="Seconds for a node to be Ready, Reachable."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, do nothing.")
@_managers
def upgrade_managers(command: str, timeout: float, dry_run: bool, hosts: tuple[str, ...]) -> None:
    """Upgrades all managers while the swarm runs, one after the other, the leader last.

    COMMAND is run by a shell, once for each manager, with {name}, {id} and {addr} filled in. It must install
    the new skep there and restart skepd, and must bear to be run again. What stops can be run again, from any
    machine: it goes on where it stopped.
    """

    async def run() -> None:
        reached = Hosts(hosts or (default_host(),))
        try:
            await Upgrade(reached, command, timeout, _say).run(dry_run)
        finally:
            await reached.close()

    _run(run())


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except SkepError as error:
        raise click.ClickException(str(error)) from error


def _say(line: str) -> None:
    click.echo(line)  # flushes: who reads it in a file or a pipe is not late
