"""The command `skep`."""

from __future__ import annotations

import importlib

import click

from skep import __version__
from skep.runtime.entry import ProgramGroup
from skep.runtime.importing import importing

# Where each command is. Most of what a command takes to start is imports, and none needs all of them.
COMMANDS = {
    "backup": "skep.cli.recovery:backup",
    "bench": "skep.cli.bench.commands:bench",
    "cluster": "skep.cli.recovery:cluster",
    "explain": "skep.cli.explain:explain_command",
    "machine": "skep.cli.machine.commands:machine",
    "net": "skep.cli.net:net",
    "simulate": "skep.cli.simulate_command:simulate_command",
    "store": "skep.cli.store:store",
}


class LazyGroup(ProgramGroup):
    """Commands of its own, and those of `COMMANDS`, each imported once it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Errors: `ImportError`."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        with importing():
            found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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
