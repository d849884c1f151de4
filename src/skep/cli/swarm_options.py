"""Options of commands that ask a swarm: one manager, or any of several, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from skep.cli.durations import Duration

Command = TypeVar("Command", bound=Callable[..., object])

HOST = click.option("--host", "-H", "host", help="A manager's API. [$DOCKER_HOST, or skepd's socket]")
_HOSTS = click.option(
    "--host",
    "-H",
    "hosts",
    multiple=True,
    help="A manager's API; may be given again: where one cannot answer, the next is asked."
    " [$DOCKER_HOST, or skepd's socket]",
)
_TIMEOUT = click.option(
    "--timeout", type=Duration(), default="5s", show_default=True, help="How long a manager may take."
)
_USAGE = click.option("--usage/--no-usage", default=True, help="Ask nodes what they use.  [default: usage]")


def gathers(command: Command) -> Command:
    """Gives a command `hosts`, `timeout` (seconds) and `usage`."""
    return _HOSTS(_TIMEOUT(_USAGE(command)))
