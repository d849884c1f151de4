"""`skep bench …`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from skep.cli.files import check_writable, raise_file_limit


@click.group()
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
@click.option(
    "--overlay", is_flag=True, help="The service is on an overlay network, and its nodes ask for it."
)
@click.option("--publish", is_flag=True, help="The service publishes a port, of which all nodes are told.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw running tasks over time.")
@click.option("--etcd", default="etcd", help="The etcd to use.")
def swarm2k_command(
    nodes: int,
    replicas: int,
    managers: str,
    kill_leader: bool,
    lost: int,
    overlay: bool,
    publish: bool,
    json_file: Path | None,
    plot_file: Path | None,
    etcd: str,
) -> None:
    """Swarm2k on this machine: simulated nodes on real managers with real etcd and mutual TLS."""
    from skep.cli.bench import report, swarm2k  # plots and tables are not every command's

    raise_file_limit()
    count = int(managers)
    wanted = report.Wanted(
        nodes=nodes,
        replicas=replicas,
        lost=min(lost, nodes // 2),
        etcd=etcd,
        managers=count,
        kills_leader=kill_leader and count > 1,
        overlay=overlay,
        publish=publish,
    )
    if plot_file is not None:
        report.check_can_plot()
    check_writable(json_file, plot_file)
    figures = asyncio.run(swarm2k.run(wanted))
    report.show(figures, wanted)
    if json_file is not None:
        json_file.write_bytes(report.as_json(figures))
    if plot_file is not None:
        report.plot(figures, wanted, plot_file)


@bench.command("services")
@click.option("--nodes", default=500, type=click.IntRange(1, 20_000), show_default=True)
@click.option("--services", default=1000, type=click.IntRange(1, 20_000), show_default=True)
@click.option("--replicas", default=100, help="Of each service.", show_default=True)
@click.option("--clients", default=8, type=click.IntRange(1, 256), help="At once.", show_default=True)
@click.option("--updated", default=10_000, help="Replicas of the service to update.", show_default=True)
@click.option("--parallelism", default=500, help="Of that update.", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--etcd", default="etcd", help="The etcd to use.")
def services_command(
    nodes: int,
    services: int,
    replicas: int,
    clients: int,
    updated: int,
    parallelism: int,
    json_file: Path | None,
    etcd: str,
) -> None:
    """Many services made by many clients at once, then a large rolling update; how the API does meanwhile."""
    from skep.cli.bench import report
    from skep.cli.bench import services as bench_services

    raise_file_limit()
    wanted = bench_services.WantedServices(nodes, services, replicas, clients, updated, parallelism, etcd)
    check_writable(json_file)
    figures = asyncio.run(bench_services.run(wanted))
    report.show_services(figures, f"{services} services of {replicas} replicas on {nodes} nodes")
    if json_file is not None:
        json_file.write_bytes(report.as_json(figures))
