"""The command `skep`."""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from pathlib import Path

import click
import uvloop

from skep import __version__
from skep.agent.executor.simulated import SimulatedSettings
from skep.cli.recovery import backup, cluster
from skep.cli.simulate import Plan, simulate, simulate_in_processes
from skep.runtime.errors import SkepError
from skep.runtime.log import set_up_logging

NODES_PER_PROCESS = 1200  # simulated nodes a process carries well
FILES_WANTED = 65536  # one connection per node


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    seed: int | None,
    log_level: str,
    report: str,
) -> None:
    """Joins simulated nodes to a swarm: real agents, certificates and sessions, containers that only pretend.

    Needs neither root nor a Docker Engine. Ctrl-C ends them.
    """
    set_up_logging(log_level, "auto")
    _raise_file_limit()
    engine = SimulatedSettings(
        prepare_s=prepare_s,
        start_s=start_s,
        stop_s=stop_s,
        fail_rate=fail_rate,
        crash_rate_per_hour=crash_rate,
    )
    chosen = random.randrange(1 << 30) if seed is None else seed
    plan = Plan(nodes, first, join, token, engine, chosen, report)
    processes = procs or -(-nodes // NODES_PER_PROCESS)
    try:
        if processes == 1:
            uvloop.run(simulate(plan))
        else:
            sys.exit(asyncio.run(simulate_in_processes(plan, processes)))
    except SkepError as error:
        raise click.ClickException(str(error)) from error


@main.group()
def bench() -> None:
    """Measures a swarm on this machine."""


@bench.command("swarm2k")
@click.option("--nodes", default=2300, type=click.IntRange(1, 20_000), show_default=True)
@click.option("--replicas", default=100_000, type=click.IntRange(1, 1_000_000), show_default=True)
@click.option("--managers", default="1", type=click.Choice(["1", "3", "5"]), show_default=True)
@click.option(
    "--kill-leader/--no-kill-leader",
    default=True,
    help="With several managers: kill the leader in the middle of a second scale-up.",
)
@click.option("--lost", default=100, help="Nodes to lose in the middle.", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw running tasks over time.")
@click.option("--etcd", default="etcd", help="The etcd to use.")
def swarm2k_command(
    nodes: int,
    replicas: int,
    managers: str,
    kill_leader: bool,
    lost: int,
    json_file: Path | None,
    plot_file: Path | None,
    etcd: str,
) -> None:
    """Swarm2k on this machine: simulated nodes on real managers with real etcd and mutual TLS."""
    from skep.cli.bench import report, swarm2k  # plots and tables are not every command's

    _raise_file_limit()
    count = int(managers)
    wanted = report.Wanted(
        nodes=nodes,
        replicas=replicas,
        lost=min(lost, nodes // 2),
        etcd=etcd,
        managers=count,
        kills_leader=kill_leader and count > 1,
    )
    try:
        figures = asyncio.run(swarm2k.run(wanted))
    except SkepError as error:
        raise click.ClickException(str(error)) from error
    report.show(figures, wanted)
    if json_file is not None:
        json_file.write_bytes(report.as_json(figures))
    if plot_file is not None:
        report.plot(figures, wanted, plot_file)


main.add_command(cluster)
main.add_command(backup)


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


def _raise_file_limit() -> None:
    """Thousands of connections need as many files; the hard limit is the machine's word."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
