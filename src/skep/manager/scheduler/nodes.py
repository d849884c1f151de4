"""The nodes of one pass as arrays: what is free now, what the pass has given away already."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from skep.model.aside import NODE
from skep.model.constraint import matches, parse_constraint, platform_fits, spread_label
from skep.model.generic import Claim, Stock, stock_of
from skep.model.node import Node
from skep.model.overlay_keys import ESP
from skep.model.resources import as_summand
from skep.model.spec import Placement, TaskSpec
from skep.store.demand import ResourceRequest
from skep.store.room import room_for, task_bytes
from skep.store.view import View

from .fill import UNLIMITED, Ints

Mask = NDArray[np.bool_]


class NodeTable:
    """Rows are nodes in the order of their ids, so that equal views give equal placements. Those that are set
    aside are none, unless they are asked for (`node_ids`)."""

    def __init__(self, view: View, node_ids: Iterable[str] | None = None) -> None:
        self._view = view
        known = (n for n in view.nodes if not view.is_aside(NODE, n))
        self.ids = sorted(known if node_ids is None else node_ids)
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
            self.cpus[row] = as_summand(resources.nano_cpus - (usage.nano_cpus if usage else 0))
            self.memory[row] = as_summand(resources.memory_bytes - (usage.memory_bytes if usage else 0))
            self.tasks[row] = usage.tasks if usage else 0
        self._own: dict[str, Ints] = {}
        self._bucket_rooms: dict[str, Ints] = {}  # by service: how many more of its tasks the store takes
        self._ports: dict[tuple[str, int], Mask] = {}
        self._labels: dict[str, list[str]] = {}
        self._masks: dict[object, Mask] = {}
        self._stocks: dict[str, Ints] = {}  # of kinds of generic resources that were asked for: what is free
        self._names: dict[tuple[str, str], list[str]] = {}  # (node, kind) -> names that are free

    def only(self, node_id: str) -> Mask:
        """Returns the mask of one node; of none where it is gone."""
        mask = np.zeros(len(self.ids), dtype=bool)
        if node_id in self.rows:
            mask[self.rows[node_id]] = True
        return mask

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

    def bucket_room(self, service_id: str) -> Ints:
        """Returns how many more tasks of the service fit, with those that have ended, into the one value of
        the store that each node has for them."""
        found = self._bucket_rooms.get(service_id)
        if found is None:
            view, each = self._view, task_bytes(self._view, service_id)
            found = np.full(len(self.ids), room_for(view, "", service_id, each), dtype=np.int64)
            if view.slots.get(service_id):  # a new service has none anywhere
                for row, node_id in enumerate(self.ids):
                    if service_id in view.buckets.get(node_id, ()):
                        found[row] = room_for(view, node_id, service_id, each)
            self._bucket_rooms[service_id] = found
        return found

    def resource_room(self, demand: ResourceRequest) -> Ints:
        """Returns how many tasks of that demand fit on each node by its reservations."""
        room = np.full(len(self.ids), UNLIMITED, dtype=np.int64)
        for need, free in ((demand.nano_cpus, self.cpus), (demand.memory_bytes, self.memory)):
            if need:
                room = np.minimum(room, np.maximum(free, 0) // need)
        for kind, count in demand.generic:
            room = np.minimum(room, np.maximum(self._stock(kind), 0) // count)
        return room

    def claim(self, node_id: str, demand: ResourceRequest) -> tuple[Claim, ...]:
        """Returns the generic resources a task placed on the node is given: names where they have any."""
        claims: list[Claim] = []
        for kind, count in demand.generic:
            key = (node_id, kind)
            if key not in self._names:
                self._names[key] = list(reversed(self._look(self.rows[node_id], kind).names))
            names = self._names[key]
            if names:
                claims.extend((kind, names.pop()) for _ in range(count))
            else:
                claims.append((kind, count))
        return tuple(claims)

    def ports_free(self, ports: tuple[tuple[str, int], ...]) -> Mask:
        free = np.ones(len(self.ids), dtype=bool)
        for port in ports:
            free &= ~self._taken(port)
        return free

    def networks_fit(self, network_ids: tuple[str, ...]) -> Mask:
        """Returns which nodes' hosts have no network of their own where one of these is. Where that is the
        mesh's, a node has no published ports, and its tasks are reached by the others'."""
        fit = np.ones(len(self.ids), dtype=bool)
        for network_id in network_ids:
            network = self._view.networks.get(network_id)
            if network is not None and network.spec.ingress:
                continue
            for node_id in self._view.hosts.clashing.get(network_id, ()):
                row = self.rows.get(node_id)
                if row is not None:
                    fit[row] = False
        return fit

    def constraints(self, placement: Placement | None) -> Mask:
        texts = tuple(placement.constraints) if placement is not None else ()
        return self._cached(("c", texts), lambda row: self._satisfies(row, texts), not texts)

    def platforms(self, placement: Placement | None) -> Mask:
        wanted = placement.platforms if placement is not None else []
        key = ("p", tuple((p.os, p.architecture) for p in wanted))
        return self._cached(key, lambda row: platform_fits(wanted, self.nodes[row]), not wanted)

    def plugins(self, spec: TaskSpec) -> Mask:
        needed = needed_plugins(spec, self._view)
        return self._cached(
            ("v", needed), lambda row: not missing_plugins(self.nodes[row], needed), not needed
        )

    def labels(self, descriptor: str) -> list[str]:
        """Returns each node's value of a spread descriptor; the empty text where it has none."""
        found = self._labels.get(descriptor)
        if found is None:
            found = self._labels[descriptor] = [spread_label(descriptor, node) for node in self.nodes]
        return found

    def take(self, service_id: str, demand: ResourceRequest, given: Ints) -> None:
        """Notes what this pass has placed."""
        own = self.own(service_id)
        own += given
        room = self.bucket_room(service_id)
        room -= given
        self.tasks += given
        self.cpus -= given * demand.nano_cpus
        self.memory -= given * demand.memory_bytes
        for kind, count in demand.generic:
            stock = self._stock(kind)
            stock -= given * count
        for port in demand.ports:
            taken = self._taken(port)
            taken |= given > 0

    def _stock(self, kind: str) -> Ints:
        found = self._stocks.get(kind)
        if found is None:
            rows = range(len(self.ids))
            free = (as_summand(self._look(row, kind).free) for row in rows)
            found = np.fromiter(free, dtype=np.int64, count=len(rows))
            self._stocks[kind] = found
        return found

    def _look(self, row: int, kind: str) -> Stock:
        node = self.nodes[row]
        usage = self._view.usage.get(node.id)
        return stock_of(node.description.resources, usage.generic if usage else {}, kind)

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


Plugin = tuple[str, str]  # (Volume, Log or Network, name)
EVERYWHERE = frozenset({"overlay", "bridge", "host", "null"})  # networks: of the swarm, or of every engine


def needed_plugins(spec: TaskSpec, view: View) -> frozenset[Plugin]:
    """Returns the plugins a task needs beyond what every engine has: volume and network drivers, its log
    driver or the swarm's; and the node's encryption, where a network of its is encrypted.

    As in SwarmKit (manager/scheduler/filter.go), where the log driver `none` is none.
    """
    found: set[Plugin] = set()
    cluster = view.cluster
    log = spec.log_driver or (cluster.spec.task_defaults.log_driver if cluster is not None else None)
    if log is not None and log.name not in ("", "none"):
        found.add(("Log", log.name))
    for mount in spec.container_spec.mounts if spec.container_spec is not None else ():
        options = mount.volume_options
        driver = options.driver_config if options is not None and mount.type == "volume" else None
        if driver is not None and driver.name not in ("", "local"):
            found.add(("Volume", driver.name))
    for attached in spec.networks:
        network = view.networks.get(attached.target)
        if network is not None and network.spec.driver not in EVERYWHERE:
            found.add(("Network", network.spec.driver))
        if network is not None and network.spec.is_encrypted:
            found.add((ESP.type, ESP.name))
    return frozenset(found)


def missing_plugins(node: Node, needed: Iterable[Plugin]) -> list[Plugin]:
    """Returns those the node does not have. A node that names no log drivers at all is taken to have any
    (engines before 17.05, simulated ones), and so with networks'; a plugin's tag is `latest` where none is
    given."""
    have = {(p.type, p.name.removesuffix(":latest")) for p in node.description.engine.plugins}
    silent = {"Log", "Network"} - {kind for kind, _ in have}
    return sorted(
        (kind, name)
        for kind, name in needed
        if (kind, name.removesuffix(":latest")) not in have and kind not in silent
    )
