"""`skep monitor deploy`: what watches a swarm, as services of that swarm."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from skep.cli.monitor.writing import write_files
from skep.cli.swarm_options import HOST
from skep.client.api import default_host
from skep.client.hosts import Hosts, check_host
from skep.monitor.grafana import is_own
from skep.monitor.prometheus import rules
from skep.monitor.prometheus.config import PORT
from skep.monitor.stack.askable import not_askable
from skep.monitor.stack.compose import COMPOSE, VOLUMES, stack_files
from skep.monitor.stack.docker_stack import deploy_stack
from skep.monitor.stack.plan import (
    GRAFANA,
    IMAGES,
    INFLUXDB,
    PORTS,
    PROMETHEUS,
    WRITER,
    StackPlan,
    check_plan,
)
from skep.monitor.stack.running import StackState
from skep.runtime.errors import Invalid, Unavailable
from skep.runtime.settings import PORT_MAX

PATIENCE_S = 20.0  # a change of leader takes 3 s
NAME = click.option("--name", default="skep-monitor", show_default=True, help="The stack's.")


def _pairs(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        part, equals, what = value.partition("=")
        if part not in IMAGES or not equals or not what:
            raise click.BadParameter(f"'{value}' is not {option.metavar}, of {', '.join(IMAGES)}")
        found[part] = what
    return found


def _ports(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for part, text in _pairs(context, option, values).items():
        if part not in PORTS:
            raise click.BadParameter(f"{part} listens on no port")
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise click.BadParameter(f"'{text}' is no port")
        found[part] = int(text)
    return found


@click.command("deploy")
@HOST
@NAME
@click.option("--influx", is_flag=True, help="InfluxDB, and skep that writes to it, instead of Prometheus.")
@click.option("--prometheus", is_flag=True, help="Prometheus, also beside --influx.")
@click.option("--no-grafana", is_flag=True, help="Without Grafana.")
@click.option(
    "--image",
    "images",
    metavar="PART=IMAGE",
    multiple=True,
    callback=_pairs,
    help="Another image for a part.",
)
@click.option(
    "--publish",
    metavar="PART=PORT",
    multiple=True,
    callback=_ports,
    help="A port of every node that leads to a part.  [default: grafana=3000; databases have no password]",
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    help="Where it may run, as of docker service create.  [a manager]",
)
@click.option(
    "--socket", default=StackPlan("", ()).socket, show_default=True, help="The API's, on managers' hosts."
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, PORT_MAX),
    default=PORT,
    show_default=True,
    help="Of skepd --metrics-addr.",
)
@click.option(
    "--keep", "keep_for", default="15d", show_default=True, help="How long Prometheus keeps what it has."
)
@click.option(
    "--resolve-image",
    type=click.Choice(["always", "changed", "never"]),
    default="always",
    show_default=True,
    help="As of docker stack deploy; never for images that no registry has.",
)
@click.option("--no-check", is_flag=True, help="Do not look first whether managers say their numbers.")
@click.option(
    "--wait-s",
    type=click.FloatRange(min=0.0),
    default=180.0,
    show_default=True,
    help="How long to wait until all of it runs.",
)
@click.option("--print", "printing", is_flag=True, help="Print the compose file, and do nothing.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write it, with all its files, there; do nothing.",
)
def deploy_command(
    host: str | None,
    name: str,
    influx: bool,
    prometheus: bool,
    no_grafana: bool,
    images: dict[str, str],
    publish: dict[str, int],
    constraints: tuple[str, ...],
    socket: str,
    metrics_port: int,
    keep_for: str,
    resolve_image: str,
    no_check: bool,
    wait_s: float,
    printing: bool,
    out: Path | None,
) -> None:
    """Runs what watches this swarm as services of it: Prometheus and Grafana, or InfluxDB and Grafana.

    The docker client deploys it, as a stack. Done again, it updates what is other by now. Parts: prometheus,
    influxdb, skep (which writes to InfluxDB), grafana. `skep monitor rm` takes it away.
    """
    if printing and out is not None:
        raise click.UsageError(
            "--print and --out are two things: choose one (--out writes what --print prints)"
        )
    parts = [INFLUXDB, WRITER] if influx else []
    if prometheus or not influx:
        parts.insert(0, PROMETHEUS)
    if not no_grafana:
        parts.append(GRAFANA)
        publish = {GRAFANA: PORTS[GRAFANA], **publish}
    plan = StackPlan(name, tuple(parts), images, publish, constraints, socket, metrics_port, keep_for)
    check_plan(plan)
    files = stack_files(plan, rules())
    if printing:
        click.echo(files[COMPOSE], nl=False)
    if out is not None:
        write_files(out, files, is_own)
        click.echo(f"written: {out / COMPOSE}, and {len(files) - 1} files that it names", err=True)
        if GRAFANA in parts:
            click.echo(
                f"Grafana's password is to be a secret: docker secret create {plan.password_name} -", err=True
            )
    if printing or out is not None:
        return
    asyncio.run(_deploy(host or default_host(), plan, files, resolve_image, not no_check, wait_s))


async def _deploy(
    host: str, plan: StackPlan, files: dict[str, str], resolve: str, checking: bool, wait_s: float
) -> None:
    await check_host(host)
    hosts = Hosts([host], PATIENCE_S)
    try:
        nodes = await hosts.nodes()
        if checking and PROMETHEUS in plan.parts:
            await _check_askable(nodes, plan.metrics_port)
        state = StackState(hosts, plan.name)
        password = await state.keep_password(plan) if GRAFANA in plan.parts else None
        if password is not None:
            # Before anything can go wrong: nobody will say it again.
            click.echo(f"Grafana's user is admin, its password {password}\nIt is not shown again.")
        with tempfile.TemporaryDirectory(prefix="skep-monitor-") as directory:
            write_files(Path(directory), files, is_own)
            await deploy_stack(host, Path(directory), COMPOSE, plan.name, resolve, click.echo)
        missing = await state.wait_running(wait_s)
        if missing:
            raise Unavailable(
                f"not all of it runs after {wait_s:g} s: {'; '.join(missing)}."
                f" docker stack ps --no-trunc {plan.name} says more; deploy again goes on"
            )
        await state.forget_configs()
    finally:
        await hosts.close()
    _tell(plan, nodes)


async def _check_askable(nodes: Sequence[Any], port: int) -> None:
    whys = await not_askable(list(nodes), port)
    if whys:
        which = "; ".join(f"{name}: {why}" for name, why in whys.items())
        raise Invalid(
            f"Prometheus asks every manager at port {port}, where not all answer: {which}. Start skepd there"
            f" with --metrics-addr ADDRESS:{port}, of its host (SKEPD_METRICS_ADDR in its environment); where"
            " only the swarm's hosts reach that port, --no-check deploys all the same"
        )


def _tell(plan: StackPlan, nodes: Sequence[Any]) -> None:
    address = next(
        (str(node["Status"]["Addr"]) for node in nodes if node.get("ManagerStatus", {}).get("Leader")),
        "ADDRESS",
    )
    click.echo(f"\n{plan.name} runs. Every node leads to it, for example:")
    for part, port in plan.published.items():
        click.echo(f"  {part:<10} http://{address}:{port}")
    if not plan.published:
        click.echo("  (no port of it is published: --publish PART=PORT)")
    volumes = [f"{plan.name}_{VOLUMES[part]}" for part in plan.parts if part in VOLUMES]
    click.echo(f"What is kept is in volumes of the node where it runs: {', '.join(volumes)}")
