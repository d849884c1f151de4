"""What tasks take from a node, and what those of a node hold."""

from __future__ import annotations

from skep.model.bounds import TASK_ADDRESS_BYTES, TASK_BYTES, TASK_CLAIM_BYTES
from skep.model.generic import demand_of
from skep.model.service import TaskTemplate


class Reserved:
    """What a node's live tasks hold. Counted as tasks come and go."""

    __slots__ = ("generic", "memory_bytes", "nano_cpus", "ports", "tasks", "to_run")

    def __init__(self) -> None:
        self.tasks = 0
        self.to_run = 0  # of these
        self.nano_cpus = 0
        self.memory_bytes = 0
        self.ports: dict[tuple[str, int], int] = {}  # (protocol, published port) in host mode -> holders
        self.generic: dict[tuple[str, str], int] = {}  # see `generic.Held`


class ResourceRequest:
    """What one task of a template takes from a node: computed once per template."""

    __slots__ = ("generic", "memory_bytes", "nano_cpus", "networks", "ports", "stored_bytes")

    def __init__(self, template: TaskTemplate | None, networks: tuple[str, ...] = ()) -> None:
        reservation = None
        if template is not None and template.spec.resources is not None:
            reservation = template.spec.resources.reservations
        self.nano_cpus = reservation.nano_cpus if reservation else 0
        self.memory_bytes = reservation.memory_bytes if reservation else 0
        self.generic = demand_of(reservation.generic_resources) if reservation else ()
        self.ports = host_ports(template) if template is not None else ()
        self.networks = networks  # those of which it needs an address
        claims = sum(len(kind.encode()) + TASK_CLAIM_BYTES for kind, _ in self.generic)
        # Of its bucket, at most, while it has no result; names of generic resources are reckoned apart.
        self.stored_bytes = TASK_BYTES + TASK_ADDRESS_BYTES * len(networks) + claims


def host_ports(template: TaskTemplate) -> tuple[tuple[str, int], ...]:
    """Returns the ports a task of that version takes on its host: (protocol, published port).

    A port that the engine chooses is none of them: it can be had any number of times.
    """
    return tuple(
        (port.protocol or "tcp", port.published_port)
        for port in template.endpoint.ports
        if port.publish_mode == "host" and port.published_port
    )
