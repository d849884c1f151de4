"""What is true in a simulated cluster at one moment: the store's objects and what runs on the machines."""

from __future__ import annotations

from collections.abc import Iterable

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
        for pair in state.prefix(codec.PREFIX):
            if codec.is_bucket(pair.key):
                for task in codec.decode_bucket(pair.key, pair.value, pair.revision):
                    self.tasks[task.id] = task
                    self.slots.setdefault((task.service_id, slot_key(task)), []).append(task)
            elif codec.is_node(pair.key):
                node = codec.decode_object(Node, pair.key, pair.value, pair.revision)
                self.nodes[node.id] = node
            elif codec.is_service(pair.key):
                service = codec.decode_object(Service, pair.key, pair.value, pair.revision)
                self.services[service.id] = service
            elif codec.is_network(pair.key):
                network = codec.decode_object(Network, pair.key, pair.value, pair.revision)
                self.networks[network.id] = network
            elif codec.is_removed(pair.key):
                removed = codec.decode_object(RemovedService, pair.key, pair.value, pair.revision)
                self.removed[removed.id] = removed
            elif codec.is_material(pair.key):
                material = codec.decode_object(Material, pair.key, pair.value, pair.revision)
                self.materials[material.id] = material
        for tasks in self.slots.values():
            tasks.sort(key=lambda task: task.created_at)


def running_on(hosts: Iterable[Host]) -> dict[str, str]:
    """Returns task id -> host name of every container that runs."""
    return {task_id: host.name for host in hosts for task_id in host.executor.running}
