"""What each filter says of each node for one group of alike tasks: SwarmKit's filters, in their order."""

from __future__ import annotations

import numpy as np

from skep.model.service import TaskTemplate
from skep.model.spec import Placement
from skep.store.demand import ResourceRequest

from . import explain
from .fill import UNLIMITED, Ints
from .nodes import Mask, NodeTable


class Filters:
    """`steps` are in the order in which refusals are counted; `room` is how many tasks a node could take."""

    def __init__(
        self, table: NodeTable, service_id: str, template: TaskTemplate, demand: ResourceRequest
    ) -> None:
        placement = template.spec.placement
        limit = most_per_node(placement) or UNLIMITED
        self.room = table.resource_room(demand)
        ports = table.ports_free(demand.ports)
        if demand.ports:
            self.room = np.minimum(self.room, 1)
        # What a service says, and what one value of the store takes of its tasks.
        left = np.minimum(limit - table.own(service_id), table.bucket_room(service_id))
        self.room = np.minimum(self.room, np.maximum(left, 0))
        self.steps: list[tuple[str, Mask]] = [
            (explain.NOT_AVAILABLE, table.available),
            (explain.RESOURCES, table.resource_room(demand) > 0),
            (explain.PLUGINS, table.plugins(template.spec)),
            (explain.CONSTRAINTS, table.constraints(placement)),
            (explain.PLATFORM, table.platforms(placement)),
            (explain.PORTS, ports),
            (explain.HOST_NETWORKS, table.networks_fit(demand.networks)),
            (explain.MAX_REPLICAS, left > 0),
        ]

    def capacities(self) -> Ints:
        passed = np.ones(len(self.room), dtype=bool)
        for _, mask in self.steps:
            passed &= mask
        return np.where(passed, self.room, 0)

    def refusals(self, rows: Mask | None = None) -> list[tuple[str, int]]:
        """Returns how many nodes (of `rows`) each filter refuses."""
        left = np.ones(len(self.room), dtype=bool) if rows is None else rows
        refusals = []
        for phrase, mask in self.steps:
            refusals.append((phrase, int((left & ~mask).sum())))
            left = left & mask
        return refusals


def most_per_node(placement: Placement | None) -> int:
    """Returns how many tasks of a service a node may have, as the service says; 0: any number."""
    return placement.max_replicas if placement is not None else 0
