"""`skep monitor rm`: takes away what `skep monitor deploy` runs, and says what stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from skep.cli.monitor.deploy import NAME, PATIENCE_S
from skep.cli.swarm_options import HOST
from skep.client.api import default_host
from skep.client.hosts import Hosts, check_host
from skep.monitor.stack.compose import VOLUMES
from skep.monitor.stack.docker_stack import remove_stack
from skep.monitor.stack.plan import GRAFANA, StackPlan
from skep.monitor.stack.running import StackState
from skep.runtime.errors import Conflict


@click.command("rm")
@HOST
@NAME
def rm_command(host: str | None, name: str) -> None:
    """Takes away what `skep monitor deploy` runs. What was kept stays, in volumes of nodes."""
    asyncio.run(_remove(host or default_host(), name))


async def _remove(host: str, name: str) -> None:
    await check_host(host)
    hosts = Hosts([host], PATIENCE_S)
    try:
        state = StackState(hosts, name)
        parts = await state.parts()
        if not parts:
            raise Conflict(f"no stack {name} runs in this swarm (docker stack ls shows which there are)")
        password = StackPlan(name, ()).password_name
        if not await state.has_password(password):
            password = ""
        await remove_stack(host, name, click.echo)
    finally:
        await hosts.close()
    click.echo(what_stays(name, parts, password))


def what_stays(name: str, parts: Sequence[str], password: str) -> str:
    """Returns what is said once a stack is gone: of which `parts` it was, `password` the secret, if any."""
    # Where there is Grafana's password, there was a Grafana once.
    kept = [part for part in VOLUMES if part in parts or (part == GRAFANA and password)]
    said = ""
    if kept:
        said = (
            "\nWhat was kept stays on the nodes where it ran, and deploy goes on with it. To remove it there:"
            f"\n  docker volume rm {' '.join(f'{name}_{VOLUMES[part]}' for part in kept)}"
        )
    if password:
        said += (
            "\nGrafana's password stays with its volume; without that it is of no use:\n"
            f"  docker secret rm {password}"
        )
    return said
