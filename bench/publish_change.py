"""What a published port of very many tasks costs the leader: created, nodes lost, removed.

    .venv/bin/python bench/publish_change.py [--tasks 100000] [--nodes 2300]

The leader's dispatcher alone, with lines that only count: tasks are placed a thousand at once on nodes that
have sessions, and run a little later. CPU time of what the dispatcher does, not of what makes the tasks.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import structlog

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from msgspec.structs import replace  # noqa: E402
from tests.unit.builders import add_cluster, add_node, add_service, add_task  # noqa: E402

from skep.manager.dispatcher.networks import MeshDispatcher  # noqa: E402
from skep.manager.dispatcher.observer import NodeObserver  # noqa: E402
from skep.manager.dispatcher.sessions import Sessions  # noqa: E402
from skep.model.container import PortConfig  # noqa: E402
from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec  # noqa: E402
from skep.model.node import NodeDescription, NodeStatus  # noqa: E402
from skep.model.service import Endpoint, RemovedService  # noqa: E402
from skep.model.spec import ReplicatedMode, ServiceMode  # noqa: E402
from skep.model.states import RUNNING  # noqa: E402
from skep.model.task import Task, TaskAddress, TaskStatus  # noqa: E402
from skep.rpc import messages  # noqa: E402
from skep.rpc.interfaces import Identity  # noqa: E402
from skep.rpc.messages import MESH, MESH_CHANGES, MESH_PARTS, Register  # noqa: E402
from skep.store.view import View  # noqa: E402

PLACED_EVERY_S, STARTS_IN = 0.02, 10  # a thousand so often, and so many thousands later they run
LOST = 100
QUIET_S = 1.5  # after it nothing more is told
INGRESS = Network(
    id="net",
    spec=NetworkSpec(name="ingress", driver="overlay", ingress=True),
    created_at=0,
    updated_at=0,
    pools=[IPAMConfig(subnet="10.128.0.0/10", gateway="10.128.0.1")],
    options={VXLAN_OPTION: "4097"},
)
PORT = PortConfig(protocol="tcp", target_port=80, published_port=8080, publish_mode="ingress")


class Counting:
    """A node's line. `turns` are writes: what is sent in one turn of the loop is one."""

    local_host = "192.0.2.99"

    def __init__(self, node_id: str, remote_host: str) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")
        self.remote_host = remote_host
        self.frames = self.size = self.turns = 0
        self._is_writing = False

    def send(self, frame: bytes) -> None:
        self.frames += 1
        self.size += len(frame)
        if not self._is_writing:
            self._is_writing = True
            self.turns += 1
            asyncio.get_running_loop().call_soon(self._written)

    def _written(self) -> None:
        self._is_writing = False

    def close(self) -> None: ...


class Measured:
    """A leader with its nodes; what it spends of the processor, and the longest of that at once."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.sessions = Sessions(view, [], NodeObserver())
        self.mesh = MeshDispatcher(view, self.sessions, lambda node_id, failures: None)
        self.sessions.on(Register, self.mesh.began)
        self.mesh.begin()
        self.lines: dict[str, Counting] = {}
        for node_id, node in view.nodes.items():
            line = self.lines[node_id] = Counting(node_id, node.addr)
            said = Register(NodeDescription(hostname="h"), "", [MESH, MESH_CHANGES, MESH_PARTS])
            self.sessions.open(line).frame(messages.encode(said))
        self.hear_s = self.tell_s = self.longest_s = 0.0
        self.publish = self._hearing(self.mesh.publish)
        self.reported = self._hearing(self.mesh.reported)
        self.node_changed = self._hearing(self.mesh.node_changed)
        self.service_changed = self._hearing(self.mesh.service_changed)
        self.mesh._batches._tell = self._telling(self.mesh._batches._tell)

    def _hearing(self, work: Callable[..., None]) -> Callable[..., None]:
        def timed(*what: Any) -> None:
            began, told_s = time.process_time(), self.tell_s
            work(*what)
            self.hear_s += time.process_time() - began - (self.tell_s - told_s)

        return timed

    def _telling(self, tell: Callable[[], None]) -> Callable[[], None]:
        def timed() -> None:
            began = time.process_time()
            tell()
            spent_s = time.process_time() - began
            self.tell_s += spent_s
            self.longest_s = max(self.longest_s, spent_s)

        return timed

    @property
    def is_behind(self) -> bool:
        return self.mesh._services.is_dirty

    async def say(self, what: str) -> None:
        """Waits until all is told, and prints what it took since the last time."""
        told = -1
        while told != (told := sum(each.frames for each in self.lines.values())) or self.is_behind:
            await asyncio.sleep(QUIET_S)
        lines = self.lines.values()
        click.echo(
            f"  {what}: {self.hear_s:.2f} s to hear of it, {self.tell_s:.2f} s to tell, at most"
            f" {self.longest_s * 1000:.0f} ms at once; {sum(each.frames for each in lines)} messages in"
            f" {sum(each.turns for each in lines)} writes, {sum(each.size for each in lines) / 1e6:.1f} MB,"
            f" at most {max(each.size for each in lines) / 1e3:.1f} kB to a node"
        )
        self.hear_s = self.tell_s = self.longest_s = 0.0
        for each in lines:
            each.frames = each.size = each.turns = 0


def filled(tasks: int, nodes: int) -> View:
    view = View()
    add_cluster(view)
    view.put_network(INGRESS)
    for number in range(nodes):
        add_node(view, f"{number:025}", addr=f"100.64.{number >> 8}.{number & 255}")
    service = add_service(view, ports=[PORT])
    mode = ServiceMode(replicated=ReplicatedMode(replicas=tasks))
    spec = replace(service.spec, mode=mode)
    view.put_service(replace(service, spec=spec, endpoint=Endpoint(ports=[PORT]), version=1))
    return view


def place(view: View, numbers: range) -> dict[str, tuple[list[Task], list[Task]]]:
    changed: dict[str, tuple[list[Task], list[Task]]] = {}
    for number in numbers:
        node_id = f"{number % len(view.nodes):025}"
        task = add_task(view, f"t{number:024}", node_id, number + 1, observed=None)
        address = f"10.{128 + (number + 256 >> 16)}.{number + 256 >> 8 & 255}.{number & 255}/10"
        task = replace(task, addresses=(TaskAddress("net", address, ""),))
        view.put_task(task)
        changed.setdefault(node_id, ([], []))[0].append(task)
    return changed


async def measure(tasks: int, nodes: int) -> None:
    one = Measured(filled(tasks, nodes))
    gc.freeze()
    placed = list[dict[str, tuple[list[Task], list[Task]]]]()
    click.echo(f"{tasks} tasks with a published port on {nodes} nodes")
    for first in range(0, tasks + STARTS_IN * 1000, 1000):
        if first < tasks:
            placed.append(place(one.view, range(first, min(first + 1000, tasks))))
            one.publish(placed[-1])
        await asyncio.sleep(PLACED_EVERY_S)
        if placed and first >= STARTS_IN * 1000:
            for put, _ in placed.pop(0).values():
                for task in put:
                    one.view.put_status(task, TaskStatus(RUNNING, 1.0))
                    one.reported(task, TaskStatus(RUNNING, 1.0))
    await one.say("created")
    for node_id in list(one.view.nodes)[:LOST]:
        one.view.put_node_status(node_id, NodeStatus("down"))
        one.sessions.closed(one.lines.pop(node_id), node_id, "it is lost")
        one.node_changed(node_id)
    await one.say(f"{LOST} nodes are lost")
    service = one.view.services["s"]
    one.view.remove_service(
        RemovedService(id="s", name=service.spec.name, removed_at=0.0, templates=service.templates)
    )
    one.service_changed("s")
    await one.say("the service is removed")


@click.command()
@click.option("--tasks", default=100_000, show_default=True)
@click.option("--nodes", default=2300, show_default=True)
def main(tasks: int, nodes: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(measure(tasks, nodes))


if __name__ == "__main__":
    main()
