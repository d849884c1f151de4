"""Options of commands that ask a swarm: one manager, or any of several, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from skep.cli.durations import Duration
from skep.client.host_url import check_host_url
from skep.runtime.errors import Invalid

Command = TypeVar("Command", bound=Callable[..., object])


class HostUrl(click.ParamType[str]):
    """Where a daemon's API is: unix://PATH or tcp://HOST:PORT. What is neither is said before anything is
    begun, or written down."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            check_host_url(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)
        return value


HOST = click.option(
    "--host", "-H", "host", type=HostUrl(), help="A manager's API. [$DOCKER_HOST, or skepd's socket]"
)
_HOSTS = click.option(
    "--host",
    "-H",
    "hosts",
    type=HostUrl(),
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
