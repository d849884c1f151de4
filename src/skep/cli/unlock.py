"""The unlock key of a swarm that locks: given by an option or the environment, or asked for."""

from __future__ import annotations

import sys

import click

from skep.runtime.errors import Invalid

unlock_key_option = click.option(
    "--unlock-key",
    envvar="SKEP_UNLOCK_KEY",
    show_envvar=True,
    default="",
    help="Of a swarm that locks; asked for.",
)


def ask_unlock_key() -> str:
    """Errors: `Invalid` where nobody is there to be asked."""
    if not sys.stdin.isatty():
        raise Invalid("this swarm locks: give its unlock key with --unlock-key or SKEP_UNLOCK_KEY")
    return str(click.prompt("The swarm's unlock key", hide_input=True, err=True))
