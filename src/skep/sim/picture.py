"""What is true in a simulated cluster at one moment: the store's objects and what runs on the machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skep.model.cluster import Cluster
from skep.model.material import Material
from skep.model.network import Network
from skep.model.node import Node
from skep.model.service import RemovedService, Service
from skep.model.task import Task
from skep.sim.hosts import Host
from skep.store import codec
from skep.store.memory import MemoryState
from skep.store.view import SlotKey, slot_key


class Picture:
    """Decoded anew when the store's revision has changed; a simulation has some hundred tasks."""

    def __init__(self, state: MemoryState) -> None:
        self.revision = state.changed_at
        self.cluster: Cluster | None = None
        self.nodes: dict[str, Node] = {}
        self.services: dict[str, Service] = {}
        self.removed: dict[str, RemovedService] = {}
        self.networks: dict[str, Network] = {}
        self.materials: dict[str, Material] = {}
        self.tasks: dict[str, Task] = {}
        self.slots: dict[tuple[str, SlotKey], list[Task]] = {}  # (service, slot) -> its tasks, oldest first
        kinds: list[tuple[Callable[[str], bool], type[Any], dict[str, Any]]] = [
            (codec.is_node, Node, self.nodes),
            (codec.is_service, Service, self.services),
            (codec.is_network, Network, self.networks),
            (codec.is_removed, RemovedService, self.removed),
            (codec.is_material, Material, self.materials),
        ]
        for pair in state.prefix(codec.PREFIX):
            if codec.is_bucket(pair.key):
                for task in codec.decode_bucket(pair.key, pair.value, pair.revision):
                    self.tasks[task.id] = task
                    self.slots.setdefault((task.service_id, slot_key(task)), []).append(task)
                continue
            for is_one, kind, known in kinds:
                if is_one(pair.key):
                    found = codec.decode_object(kind, pair.key, pair.value, pair.revision)
                    known[found.id] = found
        for tasks in self.slots.values():
            tasks.sort(key=lambda task: task.created_at)


def running_on(hosts: Iterable[Host]) -> dict[str, str]:
    """Returns task id -> host name of every container that runs."""
    return {task_id: host.name for host in hosts for task_id in host.executor.running}
