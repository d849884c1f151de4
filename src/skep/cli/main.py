"""The command `skep`."""

from __future__ import annotations

import asyncio
import random
import sys

import click
import msgspec
import uvloop
from rich.console import Console

from skep import __version__
from skep.agent.executor.simulated import SimulatedSettings
from skep.cli import explain
from skep.cli.bench.commands import bench
from skep.cli.client import default_host
from skep.cli.files import raise_file_limit
from skep.cli.net import net
from skep.cli.recovery import backup, cluster
from skep.cli.simulate import Plan, simulate, simulate_in_processes
from skep.cli.store import store
from skep.model.generic import parse_resource
from skep.runtime.entry import ProgramGroup
from skep.runtime.log import set_up_logging

NODES_PER_PROCESS = 1200  # simulated nodes a process carries well


@click.group(cls=ProgramGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skep")
def main() -> None:
    """A container swarm you can run, grow and trust."""


@main.command("simulate")
@click.option("--nodes", "-n", type=click.IntRange(1, 100_000), required=True, help="How many nodes.")
@click.option(
    "--join",
    required=True,
    multiple=True,
    help="A manager's HOST:PORT; may be given again: nodes take them in turn.",
)
@click.option("--token", required=True, help="A worker's join token.")
@click.option("--procs", type=click.IntRange(1, 64), help="Processes to spread them over.")
@click.option("--first", default=0, help="Number of the first node; names are sim00000 and so on.")
@click.option("--prepare-s", default=0.0, help="Seconds to pull an image and make a container.")
@click.option("--start-s", default=0.0, help="Seconds to start a container.")
@click.option("--stop-s", default=0.0, help="Seconds to stop one.")
@click.option("--fail-rate", default=0.0, help="Share of tasks that fail to start.")
@click.option("--crash-rate", default=0.0, help="Crashes per running task and hour.")
@click.option(
    "--generic-resource",
    multiple=True,
    help="KIND=VALUE that each node has, as dockerd takes it.",
)
@click.option("--label", multiple=True, help="NAME=VALUE that each node's engine has.")
@click.option("--overlay", is_flag=True, help="Nodes take in what managers say of overlay networks, and ask.")
@click.option("--seed", type=int, help="Replays the same latencies and failures.")
@click.option("--log-level", default="warning", show_default=True, help="debug, info, warning or error.")
@click.option("--report", hidden=True, default="", help="On SIGUSR1, write what the nodes run there.")
def simulate_command(
    nodes: int,
    join: tuple[str, ...],
    token: str,
    procs: int | None,
    first: int,
    prepare_s: float,
    start_s: float,
    stop_s: float,
    fail_rate: float,
    crash_rate: float,
    generic_resource: tuple[str, ...],
    label: tuple[str, ...],
    overlay: bool,
    seed: int | None,
    log_level: str,
    report: str,
) -> None:
    """Joins simulated nodes to a swarm: real agents, certificates and sessions, containers that only pretend.

    Needs neither root nor a Docker Engine. Ctrl-C ends them.
    """
    set_up_logging(log_level, "auto")
    raise_file_limit()
    try:
        generic = tuple(parse_resource(each) for each in generic_resource)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--generic-resource") from error
    engine = SimulatedSettings(
        prepare_s=prepare_s,
        start_s=start_s,
        stop_s=stop_s,
        fail_rate=fail_rate,
        crash_rate_per_hour=crash_rate,
        generic=generic,
        labels=tuple((name, value) for name, _, value in (each.partition("=") for each in label)),
    )
    chosen = random.randrange(1 << 30) if seed is None else seed
    plan = Plan(nodes, first, join, token, engine, chosen, report, overlay)
    processes = procs or -(-nodes // NODES_PER_PROCESS)
    if processes == 1:
        uvloop.run(simulate(plan))
    else:
        sys.exit(asyncio.run(simulate_in_processes(plan, processes)))


@main.command("explain")
@click.argument("name", metavar="SERVICE|TASK")
@click.option("--host", "-H", "host", help="A manager's API. [$DOCKER_HOST, or skepd's socket]")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as it comes.")
def explain_command(name: str, host: str | None, as_json: bool) -> None:
    """Says why a task is where it is or nowhere, filter by filter and node by node, and what a service lacks.

    A task is named by its id, or by its place: web.3; a global service's by its node: agent.worker7.
    """
    kind, said = asyncio.run(explain.ask(host or default_host(), name))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
    else:
        explain.show(Console(highlight=False), kind, said)


main.add_command(cluster)
main.add_command(backup)
main.add_command(bench)
main.add_command(store)
main.add_command(net)


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
