"""The nodes of one pass as arrays: what is free now, what the pass has given away already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skep.model.constraint import matches, parse_constraint, platform_fits
from skep.model.spec import Placement, TaskSpec
from skep.store.view import Demand, View

from .fill import UNLIMITED, Ints

Mask = NDArray[np.bool_]


class NodeTable:
    """Rows are nodes in the order of their ids, so that equal views give equal placements."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.ids = sorted(view.nodes)
        self.rows = {node_id: row for row, node_id in enumerate(self.ids)}
        self.nodes = [view.nodes[node_id] for node_id in self.ids]
        count = len(self.ids)
        self.available = np.fromiter((view.is_schedulable(n) for n in self.nodes), dtype=bool, count=count)
        self.tasks = np.zeros(count, dtype=np.int64)
        self.cpus = np.zeros(count, dtype=np.int64)
        self.memory = np.zeros(count, dtype=np.int64)
        for row, node in enumerate(self.nodes):
            resources = node.description.resources
            usage = view.usage.get(node.id)
            self.cpus[row] = resources.nano_cpus - (usage.nano_cpus if usage else 0)
            self.memory[row] = resources.memory_bytes - (usage.memory_bytes if usage else 0)
            self.tasks[row] = usage.tasks if usage else 0
        self._own: dict[str, Ints] = {}
        self._ports: dict[tuple[str, int], Mask] = {}
        self._masks: dict[object, Mask] = {}

    def own(self, service_id: str) -> Ints:
        """Returns how many tasks of the service each node has; the caller adds what it places."""
        found = self._own.get(service_id)
        if found is None:
            found = np.zeros(len(self.ids), dtype=np.int64)
            for node_id, count in self._view.live.get(service_id, {}).items():
                row = self.rows.get(node_id)
                if row is not None:
                    found[row] = count
            self._own[service_id] = found
        return found

    def resource_room(self, demand: Demand) -> Ints:
        """Returns how many tasks of that demand fit on each node by its reservations."""
        room = np.full(len(self.ids), UNLIMITED, dtype=np.int64)
        for need, free in ((demand.nano_cpus, self.cpus), (demand.memory_bytes, self.memory)):
            if need:
                room = np.minimum(room, np.maximum(free, 0) // need)
        return room

    def ports_free(self, ports: tuple[tuple[str, int], ...]) -> Mask:
        free = np.ones(len(self.ids), dtype=bool)
        for port in ports:
            free &= ~self._taken(port)
        return free

    def constraints(self, placement: Placement | None) -> Mask:
        texts = tuple(placement.constraints) if placement is not None else ()
        return self._cached(("c", texts), lambda row: self._satisfies(row, texts), not texts)

    def platforms(self, placement: Placement | None) -> Mask:
        wanted = placement.platforms if placement is not None else []
        key = ("p", tuple((p.os, p.architecture) for p in wanted))
        return self._cached(key, lambda row: platform_fits(wanted, self.nodes[row]), not wanted)

    def plugins(self, spec: TaskSpec) -> Mask:
        names = _volume_drivers(spec)
        return self._cached(("v", names), lambda row: names <= self._drivers(row), not names)

    def labels(self, descriptor: str) -> list[str]:
        """Returns each node's value of a spread descriptor; the empty text where it has none."""
        kind, _, key = descriptor.partition(".labels.")
        if kind == "engine":
            return [n.description.engine.labels.get(key, "") for n in self.nodes]
        return [n.spec.labels.get(key, "") for n in self.nodes]

    def take(self, service_id: str, demand: Demand, given: Ints) -> None:
        """Notes what this pass has placed."""
        own = self.own(service_id)
        own += given
        self.tasks += given
        self.cpus -= given * demand.nano_cpus
        self.memory -= given * demand.memory_bytes
        for port in demand.ports:
            taken = self._taken(port)
            taken |= given > 0

    def _taken(self, port: tuple[str, int]) -> Mask:
        found = self._ports.get(port)
        if found is None:
            found = np.zeros(len(self.ids), dtype=bool)
            for node_id, usage in self._view.usage.items():
                row = self.rows.get(node_id)
                if row is not None and usage.ports.get(port):
                    found[row] = True
            self._ports[port] = found
        return found

    def _cached(self, key: object, test: object, always: bool) -> Mask:
        found = self._masks.get(key)
        if found is None:
            count = len(self.ids)
            if always:
                found = np.ones(count, dtype=bool)
            else:
                assert callable(test)
                found = np.fromiter((test(row) for row in range(count)), dtype=bool, count=count)
            self._masks[key] = found
        return found

    def _satisfies(self, row: int, texts: tuple[str, ...]) -> bool:
        return all(matches(parse_constraint(text), self.nodes[row]) for text in texts)

    def _drivers(self, row: int) -> frozenset[str]:
        plugins = self.nodes[row].description.engine.plugins
        return frozenset(p.name for p in plugins if p.type == "Volume")


def _volume_drivers(spec: TaskSpec) -> frozenset[str]:
    """Returns the volume drivers the task needs beyond the engine's own."""
    container = spec.container_spec
    if container is None:
        return frozenset()
    names = (
        mount.volume_options.driver_config.name
        for mount in container.mounts
        if mount.volume_options is not None and mount.volume_options.driver_config is not None
    )
    return frozenset(name for name in names if name not in ("", "local"))
