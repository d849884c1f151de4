"""`skep explain`: why a task or a service is as it is, as the leader says it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from skep.cli.swarm_options import HOST
from skep.client.api import ApiClient, ApiError, default_host
from skep.runtime.errors import Invalid
from skep.runtime.texts import harmless

_STYLES = {"running": "green", "complete": "green", "failed": "red", "rejected": "red", "pending": "yellow"}


@click.command("explain")
@click.argument("name", metavar="SERVICE|TASK")
@HOST
@click.option("--json", "as_json", is_flag=True, help="Print the answer as it comes.")
def explain_command(name: str, host: str | None, as_json: bool) -> None:
    """Says why a task is where it is or nowhere, filter by filter and node by node, and what a service lacks.

    A task is named by its id, or by its place: web.3; a global service's by its node: agent.worker7.
    """
    kind, said = asyncio.run(ask(host or default_host(), name))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
    else:
        show(Console(highlight=False), kind, said)


async def ask(url: str, name: str) -> tuple[str, Any]:
    """Returns (service or task, what the leader says of it). A service's name comes before a task's.

    Errors: `ApiError`, `Unavailable`, `Invalid` (no name).
    """
    if not name.strip():
        raise Invalid("name a service or a task: skep explain web, skep explain web.3")
    client = ApiClient(url)
    try:
        for kind in ("service", "task"):
            try:
                return kind, await client.json("GET", f"/skep/v1/{kind}s/{quote(name, safe='')}/explain")
            except ApiError as error:
                if error.status != 404:
                    raise
        raise ApiError(f"there is no service and no task {name}", 404)
    finally:
        await client.close()


def show(console: Console, kind: str, said: Any) -> None:
    """Prints an explanation; texts of users and containers do nothing to the terminal, and have no markup."""
    if kind == "task":
        _task(console, said, 0)
        _nodes(console, said["Nodes"], "What each node says to it now:")
        return
    _line(
        console,
        Text.assemble(("service ", "dim"), (said["Name"], "bold"), f" ({said['Mode']}, {said['ID']})"),
    )
    for sentence in said["Sentences"]:
        _line(console, Text(sentence), 2)
    for task in said["Tasks"]:
        _task(console, task, 2)
    _nodes(console, said["Nodes"], "What each node would say to one task more now:")


def _task(console: Console, said: Any, indent: int) -> None:
    state = (said["State"], _STYLES.get(said["State"], ""))
    where = f" on {said['Node']}" if said["Node"] else ""
    wanted = "" if said["DesiredState"] == said["State"] else f", to be {said['DesiredState']}"
    head = Text.assemble(("task ", "dim"), (said["Name"], "bold"), f" ({said['ID']}) ", state, where, wanted)
    _line(console, head, indent)
    for sentence in said["Sentences"]:
        _line(console, Text(sentence), indent + 2)


def _nodes(console: Console, groups: Any, head: str) -> None:
    if not groups:
        return
    _line(console, Text(head), 2)
    for group in groups:
        style = "green" if group["Filter"] == "suits" else ""
        _line(console, Text.assemble((f"{group['Filter']:<13}", "dim"), (group["Text"], style)), 4)


def _line(console: Console, text: Text, indent: int = 0) -> None:
    text = Text(harmless(text.plain), spans=text.spans)  # for each character another one: styles fit
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:  # whole lines, for whoever looks for a word in them
        console.print(Text(" " * indent).append_text(text), soft_wrap=True)
