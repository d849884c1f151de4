"""What the leader knows of each node, and of each service, and what a node leads to services: one sample for
each of them, and none for tasks, of which there are too many.

Reading costs the nodes, or the services, that there are; it is asked for at a path of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skep.api.exposition import ManySamples
from skep.api.interfaces import UsageInSwarm
from skep.api.service_objects import status_counts
from skep.model.kernel_net import Carried
from skep.model.node import READY, Node
from skep.model.usage import HostUsage
from skep.runtime.metrics import COUNTER
from skep.store.view import View

NANO = 1e-9
_NODE = ("node_id",)
_SERVICE = ("service_id", "service_name")


def node_series(view: View, usage: UsageInSwarm) -> list[ManySamples]:
    """Returns what there is of each node; what of its host is used, of those that said it lately."""
    nodes = view.nodes.values()

    def of_each(name: str, help: str, value: Callable[[Node], float]) -> ManySamples:
        return ManySamples(name, help, _NODE, [((node.id,), value(node)) for node in nodes])

    hosts = [(node.id, said.host) for node in nodes if (said := usage.recent(node.id)) is not None]

    def of_known(name: str, help: str, value: Callable[[HostUsage], float]) -> ManySamples:
        return ManySamples(name, help, _NODE, [((node_id,), value(host)) for node_id, host in hosts])

    return [
        ManySamples(
            "skep_node_info",
            "Always 1; what a node says of itself is in the labels.",
            ("node_id", "hostname", "role", "engine_version"),
            [((node.id, *_said(view, node)), 1) for node in nodes],
        ),
        of_each(
            "skep_node_up",
            "1 for a node that is ready, else 0.",
            lambda n: view.node_state(n.id).state == READY,
        ),
        of_each(
            "skep_node_tasks_running",
            "Tasks on the node that are wanted and observed running.",
            lambda node: view.running_on.get(node.id, 0),
        ),
        of_each(
            "skep_node_cpu_cores",
            "Processors that the node has.",
            lambda node: node.description.resources.nano_cpus * NANO,
        ),
        of_each(
            "skep_node_memory_bytes",
            "Memory that the node has.",
            lambda node: node.description.resources.memory_bytes,
        ),
        of_known("skep_node_cpu_cores_used", "Processors in use on the host.", lambda host: host.cpu_cores),
        of_known("skep_node_memory_used_bytes", "Memory in use on the host.", lambda host: host.memory_bytes),
    ]


def service_series(view: View) -> list[ManySamples]:
    """Returns how many tasks each service is to have, has running, and has without a node."""
    counts = [
        ((service.id, service.spec.name), status_counts(view, service)) for service in view.services.values()
    ]
    return [
        ManySamples(
            "skep_service_tasks_desired",
            "Tasks that the service is to have.",
            _SERVICE,
            [(labels, status.desired_tasks) for labels, status in counts],
        ),
        ManySamples(
            "skep_service_tasks_running",
            "Tasks of the service that run.",
            _SERVICE,
            [(labels, status.running_tasks) for labels, status in counts],
        ),
        ManySamples(
            "skep_service_tasks_pending",
            "Tasks of the service that no node suits at the moment.",
            _SERVICE,
            [(labels, len(view.pending.get(labels[0], ()))) for labels, _ in counts],
        ),
    ]


def mesh_series(carried: Sequence[tuple[str, Carried]]) -> list[ManySamples]:
    """Returns what one node has led to services' tasks, by what led there: a published port, as
    `8080/tcp`, or the service's own address."""
    labels = [(service_name, each.of) for service_name, each in carried]

    def of_each(name: str, help: str, value: Callable[[Carried], float]) -> ManySamples:
        samples = [(of, value(each)) for of, (_, each) in zip(labels, carried, strict=True)]
        return ManySamples(name, help, ("service_name", "to"), samples, COUNTER)

    return [
        of_each(
            "skep_mesh_connections_total",
            "Connections that this node has led to the service's tasks.",
            lambda each: each.connections,
        ),
        of_each(
            "skep_mesh_received_bytes_total",
            "Bytes of those from clients, with headers of IP.",
            lambda each: each.received_bytes,
        ),
        of_each(
            "skep_mesh_sent_bytes_total",
            "Bytes of those to clients, with headers of IP.",
            lambda each: each.sent_bytes,
        ),
    ]


def _said(view: View, node: Node) -> tuple[str, str, str]:
    said = node.description
    return said.hostname, view.role_of(node), said.engine.engine_version
