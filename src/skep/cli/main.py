"""The command `skep`."""

from __future__ import annotations

import click

from skep import __version__
from skep.cli.lazy import LazyGroup
from skep.runtime.entry import ProgramGroup

COMMANDS = {
    "backup": "skep.cli.recovery:backup",
    "bench": "skep.cli.bench.commands:bench",
    "cluster": "skep.cli.recovery:cluster",
    "inventory": "skep.cli.machine.inventory:inventory_command",
    "dashboard": "skep.cli.dashboard:dashboard_command",
    "explain": "skep.cli.explain:explain_command",
    "machine": "skep.cli.machine.commands:machine",
    "monitor": "skep.cli.monitor.commands:monitor",
    "net": "skep.cli.net:net",
    "simulate": "skep.cli.simulate_command:simulate_command",
    "store": "skep.cli.store:store",
    "top": "skep.cli.top.command:top_command",
    "telegraf": "skep.cli.telegraf:telegraf_command",
}


class _Program(LazyGroup, ProgramGroup):
    """The group that is a program."""


@click.group(cls=_Program, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skep")
def main() -> None:
    """A container swarm you can run, grow and trust."""


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--program", type=click.Choice(["skep", "skepd"]), default="skep", show_default=True)
def completion(shell: str, program: str) -> None:
    """Prints the shell's completion script: eval "$(skep completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    if program == "skepd":
        from skep.daemon.main import main as daemon

        command: click.Command = daemon
    else:
        command = main
    click.echo(kind(command, {}, program, f"_{program.upper()}_COMPLETE").source())


if __name__ == "__main__":
    main()
