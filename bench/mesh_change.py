"""What published ports cost one node: rules made in its kernel, one service changed, a look, counters read.

    unshare --net .venv/bin/python bench/mesh_change.py [--services 1000] [--tasks 10] [--nodes 100]

As root, in a network of its own: this kernel's nftables and netlink, by the agent's own data plane. Wall
time, and the processor's, which other work on the machine disturbs less; of changes and looks the median of
some. A change is done when the rules are: then connections to the task that is gone are forgotten.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import click
import structlog
from msgspec.structs import replace

from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.overlay import OverlayNetwork
from skep.network.plane import DataPlane

TIMES = 9
FIRST_PORT = 10_000
OWN = "192.0.2.1"
LINKS = ("link set lo up", "link add eth0 type veth peer name other", "link set other up", "link set eth0 up")


def told(services: int, tasks: int, nodes: int) -> Mesh:
    """Returns what a node is told: the tasks of each service on nodes here and there."""
    found = {}
    for number in range(services):
        endpoints = tuple(
            MeshEndpoint(_address(number * tasks + task), f"n{(number * 7 + task * 13) % nodes}")
            for task in range(tasks)
        )
        port = MeshPort("tcp", FIRST_PORT + number, 80)
        found[f"s{number}"] = MeshService(f"s{number}", f"web{number}", (port,), endpoints)
    network = OverlayNetwork("net", "10.0.0.0/8", 4096, 4789, "ingress")
    return Mesh(network, {f"n{number}": f"192.0.2.{number + 1}" for number in range(nodes)}, found)


def _address(number: int) -> str:
    number += 1 << 8
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


class Times:
    """How long something takes, each time, in milliseconds: by the clock, and of the processor."""

    def __init__(self) -> None:
        self._all: list[tuple[float, float]] = []

    def time(self, call: Callable[[], object]) -> None:
        began = time.perf_counter(), time.process_time()
        call()
        spent = time.perf_counter() - began[0], time.process_time() - began[1]
        self._all.append((spent[0] * 1000, spent[1] * 1000))

    def __str__(self) -> str:
        walls, cpus = zip(*self._all, strict=True)
        most = f", most {max(walls):.1f}" if len(walls) > 1 else ""
        return f"{statistics.median(walls):.1f} ms (CPU {statistics.median(cpus):.1f}{most})"


@click.command()
@click.option("--services", default=1000, show_default=True)
@click.option("--tasks", default=10, show_default=True)
@click.option("--nodes", default=100, show_default=True, help="At most 250.")
def main(services: int, tasks: int, nodes: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(open(os.devnull, "w")))  # noqa: SIM115
    for command in (*LINKS, f"addr add {OWN}/24 dev eth0"):
        subprocess.run(["ip", *command.split()], check=True)
    plane, mesh = DataPlane("n0", "bench", Path(os.devnull)), told(services, tasks, nodes)
    made, changes, forgets, looks, counts = Times(), Times(), Times(), Times(), Times()
    try:
        made.time(lambda: plane.apply(mesh))
        for number in range(TIMES):
            service = mesh.services[f"s{number}"]
            fewer = replace(service, endpoints=service.endpoints[1:])
            mesh = replace(mesh, services={**mesh.services, service.id: fewer})
            changes.time(lambda now=mesh: plane.apply(now, look=False))  # type: ignore[misc]
            forgets.time(plane.forget)
            looks.time(lambda now=mesh: plane.apply(now))  # type: ignore[misc]
            counts.time(plane.carried)
        seen, carried = plane.seen(mesh), plane.carried()
    finally:
        plane.clear()
    click.echo(f"{services} services of {tasks} tasks on {nodes} nodes: {sum(seen.objects.values())} objects")
    click.echo(f"  all of it made: {made}")
    click.echo(f"  one service changed: {changes}")
    click.echo(f"  connections to its task that is gone forgotten: {forgets}")
    click.echo(f"  a look at all of it: {looks}; missing {seen.missing_count}")
    click.echo(f"  what is counted: {counts}; of {len(carried)} ports")


if __name__ == "__main__":
    main()
