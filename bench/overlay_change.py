"""What an overlay network costs: the leader, all nodes' lines together, and one node.

    .venv/bin/python bench/overlay_change.py [--tasks 1000] [--nodes 100] [--grow | --create]

One service, and every node asks for it, where it is not told of it anyway. All in this process: the leader's
dispatcher with recorded lines, then what a node wants in its kernel and which names it knows; the kernel
itself is not asked. CPU time; of changes the median of some. With `--grow` the network is just large,
and the other tasks come, a thousand at once. With `--create` nobody is there yet: all tasks are placed,
a thousand at once, begin to run a little later, and each node asks as soon as it hears of the network.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.dispatcher.overlay_large import LargeTeller
from skep.model.mesh import Mesh
from skep.model.node import NodeDescription
from skep.model.overlay import Overlay
from skep.model.states import RUNNING, SHUTDOWN
from skep.network.desired import desired
from skep.network.diff import Known, diff_parts
from skep.network.host import HostFacts
from skep.network.names import Names
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, RESOLVE, OverlayAsk, Register

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from msgspec.structs import replace  # noqa: E402
from tests.unit.builders import add_cluster, add_node, add_service, add_task  # noqa: E402
from tests.unit.overlays import Line, Swarm  # noqa: E402

from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec  # noqa: E402
from skep.model.service import RemovedService  # noqa: E402
from skep.model.spec import ReplicatedMode, ServiceMode  # noqa: E402
from skep.model.task import Task, TaskAddress, TaskStatus  # noqa: E402
from skep.store.view import View  # noqa: E402

TIMES = 7
PLACED_EVERY_S, STARTS_IN = 0.02, 10  # a thousand so often, and so many thousands later they run
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

    size = most = 0
    decodes = False

    @property
    def node_id(self) -> str:
        assert self.identity is not None
        return self.identity.node_id

    def send(self, frame: bytes) -> None:
        self.size += len(frame)
        if self.decodes:
            super().send(frame)
            if "net" in self.overlays:
                self.most = max(self.most, len(list(self.overlays["net"].everyone())))


class Measured:
    """A swarm, its lines, and how long the leader's loop was held by each batch of what it told."""

    def __init__(self, view: View, nodes: int) -> None:
        gc.freeze()  # as skepd does with what lives (`runtime.garbage`)
        self.view = view
        began = time.process_time()
        self.swarm = Swarm(view)
        self.lines = [Counting(f"n{number}", view.nodes[f"n{number}"].addr) for number in range(nodes)]
        self.lines[0].decodes = self.lines[0].is_asking = True
        for line in self.lines:
            self._say(line, Register(NodeDescription(hostname="h"), "", [OVERLAY, RESOLVE]))
        self.begin_s, self.begin_bytes = time.process_time() - began, self.size
        gc.freeze()
        self._asked: set[str] = set()
        self.holds_s: list[float] = []
        batches = self.swarm.dispatcher._batches
        batches._tell = self._timed(batches._tell)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.lines)

    def ask(self) -> float:
        """All nodes ask for the service. Returns how much time the leader took, in seconds."""
        began = time.process_time()
        for line in self.lines:
            self._say(line, OverlayAsk(1, "net", names=["name-s"]))
        return time.process_time() - began

    def ask_once(self) -> None:
        """Those nodes ask that were told that the network is large, since it is."""
        known = self.swarm.dispatcher._networks["net"]
        if not isinstance(known._teller, LargeTeller):
            self._asked.clear()
            return
        for line in self.lines:
            if line.node_id in known.hearers and line.node_id not in self._asked:
                self._asked.add(line.node_id)
                self._say(line, OverlayAsk(1, "net", names=["name-s"]))

    def _say(self, line: Line, said: messages.FromAgent) -> None:
        self.swarm.sessions.open(line).frame(messages.encode(said))

    def _timed(self, tell: Callable[[], None]) -> Callable[[], None]:
        def timed() -> None:
            began = time.process_time()
            tell()
            self.holds_s.append(time.process_time() - began)

        return timed


def address(number: int) -> str:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def filled(nodes: int) -> View:
    view = View()
    add_cluster(view)
    view.put_network(NET)
    for number in range(nodes):
        add_node(view, f"n{number}", addr=f"192.{number >> 8}.{number & 255}.1")
    add_service(view)
    return view


def add(view: View, numbers: range, observed: int | None = RUNNING) -> list[Task]:
    made = []
    for number in numbers:
        node_id = f"n{number % len(view.nodes)}"
        task = add_task(view, f"t{number:024}", node_id, number + 1, observed=observed)
        task = replace(task, addresses=(TaskAddress("net", f"{address(number + 256)}/10", ""),))
        view.put_task(task)
        made.append(task)
    return made


async def measure(tasks: int, nodes: int) -> None:
    view = filled(nodes)
    made = add(view, range(tasks))
    one = Measured(view, nodes)
    asked_s = one.ask()
    most = max(each.size for each in one.lines)
    told, spent = [], []
    await one.swarm.settle()
    for task in made[1 : TIMES + 1]:
        before = one.size
        view.put_status(task, TaskStatus(SHUTDOWN, 2.0))
        began = time.process_time()
        one.swarm.dispatcher.reported(task, TaskStatus(SHUTDOWN, 2.0))
        await one.swarm.settle()
        spent.append(time.process_time() - began)
        told.append(one.size - before)
    click.echo(f"{tasks} tasks on {nodes} nodes of one network")
    click.echo(f"  all sessions begin: {one.begin_s:.2f} s of the leader, {one.begin_bytes / 1e6:.1f} MB")
    click.echo(
        f"  all have asked for the service: {asked_s:.2f} s, {one.size / 1e6:.1f} MB so far, at most"
        f" {most / 1e3:.0f} kB to one node"
    )
    click.echo(
        f"  a task ends: {statistics.median(spent) * 1000:.1f} ms of the leader's process,"
        f" {statistics.median(told) / 1e3:.1f} kB to all nodes"
    )
    node(one.lines[0].overlays["net"], {f"n{n}": view.nodes[f"n{n}"].addr for n in range(nodes)})
    await lost(one)


async def lost(one: Measured) -> None:
    """A node goes, then the service."""
    for what, change in (("a node is lost", lose_node), ("the service is removed", remove_service)):
        before, one.holds_s = one.size, []
        change(one)
        await one.swarm.settle()
        held = max(one.holds_s) * 1000
        click.echo(
            f"  {what}: at most {held:.0f} ms at once, {(one.size - before) / 1e3:.0f} kB to all nodes"
        )


def lose_node(one: Measured) -> None:
    one.view.drop_node("n1")
    one.swarm.dispatcher.node_removed("n1")


def remove_service(one: Measured) -> None:
    service = one.view.services["s"]
    one.view.remove_service(
        RemovedService(id="s", name=service.spec.name, removed_at=0.0, templates=service.templates)
    )
    one.swarm.dispatcher.service_changed("s")


async def grow(tasks: int, nodes: int) -> None:
    view = filled(nodes)
    few = max(nodes, Bounds().small_max + 1)
    add(view, range(few))
    one = Measured(view, nodes)
    one.ask()
    await one.swarm.settle()
    began, before, one.holds_s = time.process_time(), one.size, []
    for first in range(few, tasks, 1000):
        changed: dict[str, tuple[list[Task], list[Task]]] = {}
        for task in add(view, range(first, min(first + 1000, tasks))):
            changed.setdefault(task.node_id, ([], []))[0].append(task)
        one.swarm.dispatcher.publish(changed)
        await one.swarm.settle()
    click.echo(f"from {few} to {tasks} tasks on {nodes} nodes that hear of them")
    click.echo(
        f"  {time.process_time() - began:.1f} s of the leader's process, at most"
        f" {max(one.holds_s) * 1000:.0f} ms at once, {(one.size - before) / 1e6:.1f} MB, at most"
        f" {max(each.size for each in one.lines) / 1e3:.0f} kB to one node"
    )


async def create(tasks: int, nodes: int) -> None:
    view = filled(nodes)
    service = view.services["s"]
    mode = ServiceMode(replicated=ReplicatedMode(replicas=tasks))
    view.put_service(replace(service, spec=replace(service.spec, mode=mode), version=1))
    one = Measured(view, nodes)
    began, placed = time.process_time(), list[list[Task]]()
    for first in range(0, tasks + STARTS_IN * 1000, 1000):
        if first < tasks:
            placed.append(add(view, range(first, min(first + 1000, tasks)), observed=None))
            changed: dict[str, tuple[list[Task], list[Task]]] = {}
            for task in placed[-1]:
                changed.setdefault(task.node_id, ([], []))[0].append(task)
            one.swarm.dispatcher.publish(changed)
        await asyncio.sleep(PLACED_EVERY_S)
        one.ask_once()
        if placed and first >= STARTS_IN * 1000:
            for task in placed.pop(0):
                view.put_status(task, TaskStatus(RUNNING, 1.0))
                one.swarm.dispatcher.reported(task, TaskStatus(RUNNING, 1.0))
    await one.swarm.settle()
    spent_s = time.process_time() - began
    (known,) = one.lines[0].overlays["net"].services.values()
    click.echo(
        f"{tasks} tasks created on {nodes} nodes: {spent_s:.2f} s of the leader's process, at most"
        f" {max(one.holds_s) * 1000:.0f} ms at once, {one.size / 1e6:.1f} MB, at most"
        f" {max(each.size for each in one.lines) / 1e3:.0f} kB to one node; the first one knew at most"
        f" {one.lines[0].most} endpoints, and knows {len(known.endpoints)} of the service"
    )


def node(overlay: Overlay, nodes: dict[str, str]) -> None:
    """What the first node makes of it."""
    host = HostFacts(frozenset({nodes["n0"], "127.0.0.1"}), filters_bridges=True)
    mesh = Mesh(nodes=nodes, overlays={"net": overlay})
    began = time.process_time()
    made = desired(mesh, "n0", host)
    there = Known(made.parts, frozenset(diff_parts(made.parts, Known()).stays))
    first_s = time.process_time() - began
    count, names, spent, named = len(made.objects), Names(), [], []
    (service,) = overlay.services.values()
    for number in range(TIMES):
        fewer = replace(service, endpoints=service.endpoints[number + 1 :])
        overlay = replace(overlay, services={service.id: fewer})
        began = time.process_time()
        made = desired(replace(mesh, overlays={"net": overlay}), "n0", host, before=made)
        there = Known(made.parts, frozenset(diff_parts(made.parts, there).stays))
        spent.append(time.process_time() - began)
        began = time.process_time()
        names.told({"net": overlay})
        named.append(time.process_time() - began)
    click.echo(
        f"  a node: {count} objects, decided in {first_s * 1000:.0f} ms;"
        f" a change {statistics.median(spent) * 1000:.0f} ms, its names"
        f" {statistics.median(named) * 1000:.1f} ms"
    )


@click.command()
@click.option("--tasks", default=1000, show_default=True)
@click.option("--nodes", default=100, show_default=True)
@click.option("--grow", "grows", is_flag=True)
@click.option("--create", "creates", is_flag=True)
def main(tasks: int, nodes: int, grows: bool, creates: bool) -> None:
    asyncio.run((create if creates else grow if grows else measure)(tasks, nodes))


if __name__ == "__main__":
    main()
