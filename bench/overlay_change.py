"""What a change of one task on an overlay network costs: the leader, all nodes' lines together, and one node.

    .venv/bin/python bench/overlay_change.py [--tasks 1000] [--nodes 100]

All in this process: the leader's dispatcher with recorded lines, then what a node wants in its kernel and
which names it knows; the kernel itself is not asked. Each figure is the median of some changes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

import click

from skep.model.mesh import Mesh
from skep.model.node import NodeDescription
from skep.model.overlay import Overlay
from skep.model.states import RUNNING, SHUTDOWN
from skep.network.desired import desired
from skep.network.diff import after, diff
from skep.network.host import Host
from skep.network.names import Names
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, Register

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from msgspec.structs import replace  # noqa: E402
from tests.unit.builders import add_cluster, add_node, add_service, add_task  # noqa: E402
from tests.unit.overlays import Line, Swarm  # noqa: E402

from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec  # noqa: E402
from skep.model.task import Task, TaskAddress, TaskStatus  # noqa: E402
from skep.store.view import View  # noqa: E402

TIMES = 7
NET = Network(
    id="net",
    spec=NetworkSpec(name="net", driver="overlay"),
    created_at=0,
    updated_at=0,
    pools=[IPAMConfig(subnet="10.64.0.0/10", gateway="10.64.0.1")],
    options={VXLAN_OPTION: "4098"},
)


class Counting(Line):
    """Counts bytes; only the first one decodes what it is told."""

    size = 0
    decodes = False

    def send(self, frame: bytes) -> None:
        self.size += len(frame)
        if self.decodes:
            super().send(frame)


def address(number: int) -> str:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def filled(tasks: int, nodes: int) -> tuple[View, list[Task]]:
    view = View()
    add_cluster(view)
    view.put_network(NET)
    for number in range(nodes):
        add_node(view, f"n{number}", addr=f"192.{number >> 8}.{number & 255}.1")
    add_service(view)
    made = []
    for number in range(tasks):
        task = add_task(view, f"t{number}", f"n{number % nodes}", number + 1, observed=RUNNING)
        task = replace(task, addresses=(TaskAddress("net", f"{address(number + 256)}/10", ""),))
        view.put_task(task)
        made.append(task)
    return view, made


async def measure(tasks: int, nodes: int) -> None:
    view, made = filled(tasks, nodes)
    swarm = Swarm(view)
    lines = []
    began = time.process_time()
    for number in range(nodes):
        line = Counting(f"n{number}", view.nodes[f"n{number}"].addr)
        line.decodes = number == 0
        lines.append(line)
        said = Register(NodeDescription(hostname="h"), "", [OVERLAY])
        swarm.sessions.open(line).frame(messages.encode(said))
    begin_s, begin_bytes = time.process_time() - began, sum(each.size for each in lines)
    await swarm.settle()
    told, spent = [], []
    for task in made[1 : TIMES + 1]:
        before = sum(each.size for each in lines)
        view.put_status(task, TaskStatus(SHUTDOWN, 2.0))
        swarm.dispatcher.reported(task, TaskStatus(SHUTDOWN, 2.0))
        began = time.process_time()
        await swarm.settle()
        spent.append(time.process_time() - began)
        told.append(sum(each.size for each in lines) - before)
    click.echo(f"{tasks} tasks on {nodes} nodes of one network")
    click.echo(f"  all sessions begin: {begin_s:.2f} s of the leader, {begin_bytes / 1e6:.1f} MB")
    click.echo(
        f"  a task ends: {statistics.median(spent) * 1000:.0f} ms of the leader's process,"
        f" {statistics.median(told) / 1e6:.2f} MB to all nodes"
    )
    node(lines[0].overlays["net"], {f"n{n}": view.nodes[f"n{n}"].addr for n in range(nodes)})


def node(overlay: Overlay, nodes: dict[str, str]) -> None:
    """What the first node makes of it."""
    host = Host(frozenset({nodes["n0"], "127.0.0.1"}), filters_bridges=True)
    mesh = Mesh(nodes=nodes, overlays={"net": overlay})
    began = time.process_time()
    made = desired(mesh, "n0", host)
    there = after((), diff(made.objects, ()))
    first_s = time.process_time() - began
    names, spent, named = Names(), [], []
    (service,) = overlay.services.values()
    for number in range(TIMES):
        fewer = replace(service, endpoints=service.endpoints[number + 1 :])
        overlay = replace(overlay, services={service.id: fewer})
        began = time.process_time()
        changed = desired(replace(mesh, overlays={"net": overlay}), "n0", host)
        there = after(there, diff(changed.objects, there))
        spent.append(time.process_time() - began)
        began = time.process_time()
        names.told({"net": overlay})
        named.append(time.process_time() - began)
    click.echo(
        f"  a node: {len(made.objects)} objects, decided in {first_s * 1000:.0f} ms;"
        f" a change {statistics.median(spent) * 1000:.0f} ms, its names"
        f" {statistics.median(named) * 1000:.1f} ms"
    )


@click.command()
@click.option("--tasks", default=1000, show_default=True)
@click.option("--nodes", default=100, show_default=True)
def main(tasks: int, nodes: int) -> None:
    asyncio.run(measure(tasks, nodes))


if __name__ == "__main__":
    main()
