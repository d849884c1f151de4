"""`skep simulate`, as a command: `simulate.py` does it."""

from __future__ import annotations

import asyncio
import random
import sys

import click
import uvloop

from skep.agent.executor.simulated import SimulatedSettings
from skep.cli.files import raise_file_limit
from skep.cli.simulate import SimulationPlan, simulate, simulate_in_processes
from skep.model.generic import parse_resource
from skep.runtime.log import set_up_logging

NODES_PER_PROCESS = 1200  # simulated nodes a process carries well


@click.command("simulate")
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
@click.option("--publish", is_flag=True, help="Nodes take in what managers say of published ports.")
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
    publish: bool,
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
    plan = SimulationPlan(nodes, first, join, token, engine, chosen, report, overlay, publish)
    processes = procs or -(-nodes // NODES_PER_PROCESS)
    if processes == 1:
        uvloop.run(simulate(plan))
    else:
        sys.exit(asyncio.run(simulate_in_processes(plan, processes)))
