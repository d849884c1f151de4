"""What the filters say of every node now, in sentences, alike nodes together. Pure.

The same masks decide and explain (`filters`), so that what is said here is what is done; the numbers are
those of the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from msgspec import Struct

from skep.model.constraint import matches, parse_constraint, value_of
from skep.model.generic import NEVER, stock_of
from skep.model.host_network import ELSEWHERE
from skep.model.node import DOWN, Node
from skep.model.overlay_keys import ESP
from skep.model.service import TaskTemplate
from skep.model.states import RUNNING, is_terminal
from skep.store.demand import ResourceRequest
from skep.store.overlaps import overlaps
from skep.store.view import View

from . import explain
from .filters import Filters, most_per_node
from .nodes import Mask, NodeTable, Plugin, missing_plugins, needed_plugins

NAMES_MAX = 5  # named of a group; more are no easier to read, and the count says the rest
GROUPS_MAX = 30  # a screen; a swarm in which every node has a label value of its own would make thousands
VALUES_MAX = 3  # numbers of a group said one by one; more are said as a range

SUITS = "suits"

_GAP = "\0"  # where a number belongs in a text: nothing that users write can hold it
Number = tuple[Callable[[float], str], float]
Because = tuple[str, tuple[Number, ...]]  # alike nodes have the same text; the numbers differ


class NodeGroup(Struct, frozen=True, rename="pascal"):
    """Nodes of which a filter says the same; `filter` is `suits` for those that none refuses."""

    filter: str
    count: int
    nodes: list[str]  # the first few, by name
    text: str  # the whole sentence


class Subject(Struct, frozen=True):
    """A task that is to be placed: of which service, by which template."""

    service_id: str
    template: TaskTemplate
    demand: ResourceRequest


def look_at_nodes(
    view: View, table: NodeTable, subject: Subject, rows: Mask | None = None
) -> list[NodeGroup]:
    """Returns what becomes of each node (of `rows`) for one more task, largest group first, those that suit
    before all others."""
    filters = Filters(table, subject.service_id, subject.template, subject.demand)
    left = np.ones(len(table.ids), dtype=bool) if rows is None else rows.copy()
    asking = _Asking(view, table, subject)
    groups: list[NodeGroup] = []
    for phrase, mask in filters.steps:
        refused = np.flatnonzero(left & ~mask).tolist()
        groups.extend(_grouped(table, explain.WORDS[phrase], refused, asking.reasons[phrase]))
        left &= mask
    groups.sort(key=lambda g: -g.count)
    suiting = _grouped(table, SUITS, np.flatnonzero(left).tolist(), lambda row: ("free to take it", ()))
    return _cut([*suiting, *groups])


class _Asking:
    """Why a filter refuses a node, in the words of the thing it misses."""

    def __init__(self, view: View, table: NodeTable, subject: Subject) -> None:
        self._view = view
        self._table = table
        self._subject = subject
        self._holders: dict[str, dict[tuple[str, int], str]] = {}
        self.reasons: dict[str, Callable[[int], Because]] = {
            explain.NOT_AVAILABLE: self._not_available,
            explain.RESOURCES: self._resources,
            explain.PLUGINS: self._plugins,
            explain.CONSTRAINTS: self._constraints,
            explain.PLATFORM: self._platform,
            explain.PORTS: self._ports,
            explain.HOST_NETWORKS: self._host_networks,
            explain.MAX_REPLICAS: self._max_replicas,
        }

    def _not_available(self, row: int) -> Because:
        return availability(self._view, self._table.nodes[row]), ()

    def _resources(self, row: int) -> Because:
        demand, table = self._subject.demand, self._table
        node = table.nodes[row]
        parts: list[str] = []
        numbers: list[Number] = []
        if demand.memory_bytes > table.memory[row]:
            parts.append(f"{size_text(demand.memory_bytes)} of memory reserved, {_GAP} free")
            numbers.append((size_text, float(table.memory[row])))
        if demand.nano_cpus > table.cpus[row]:
            parts.append(f"{cpu_text(demand.nano_cpus)} CPUs reserved, {_GAP} free")
            numbers.append((cpu_text, float(table.cpus[row])))
        usage = self._view.usage.get(node.id)
        for kind, count in demand.generic:
            stock = stock_of(node.description.resources, usage.generic if usage else {}, kind)
            if count == NEVER:
                parts.append(f"{kind} is reserved by name or in a negative number, which no node can give")
            elif not stock.total:
                parts.append(f"{count} {kind} reserved, there is none")
            elif stock.free < count:
                parts.append(f"{count} {kind} reserved, {_GAP} free")
                numbers.append((_count_text, float(max(0, stock.free))))
        return "; ".join(parts), tuple(numbers)

    def _plugins(self, row: int) -> Because:
        missing = missing_plugins(
            self._table.nodes[row], needed_plugins(self._subject.template.spec, self._view)
        )
        return f"no {' and no '.join(map(_plugin_text, missing))}", ()

    def _constraints(self, row: int) -> Because:
        placement, node = self._subject.template.spec.placement, self._table.nodes[row]
        for text in placement.constraints if placement is not None else ():
            constraint = parse_constraint(text)
            if not matches(constraint, node):
                said = f"constraint {constraint.key}{'==' if constraint.equal else '!='}{constraint.value}"
                return f"{said} is not satisfied{_what_it_is(constraint.key, node)}", ()
        return "constraints are not satisfied", ()

    def _platform(self, row: int) -> Because:
        placement = self._subject.template.spec.placement
        wanted = [f"{p.os}/{p.architecture}" for p in placement.platforms] if placement is not None else []
        have = self._table.nodes[row].description.platform
        return f"made for {', '.join(wanted)}; the platform is {have.os}/{have.architecture}", ()

    def _ports(self, row: int) -> Because:
        taken = self._held_ports(self._table.ids[row])
        held = [port for port in self._subject.demand.ports if port in taken]
        parts = [
            f"port {number}/{protocol} is held by {taken[protocol, number]}" for protocol, number in held
        ]
        return "; ".join(parts) or "a port of its host is in use", ()

    def _host_networks(self, row: int) -> Because:
        node_id, wanted = self._table.ids[row], self._subject.demand.networks
        return f"{'; '.join(overlaps(self._view, node_id, wanted))}. What helps: {ELSEWHERE}", ()

    def _held_ports(self, node_id: str) -> dict[tuple[str, int], str]:
        """Who holds which port of a node; looks at the services that have tasks there, not at all tasks."""
        view = self._view
        found: dict[tuple[str, int], str] = {}
        for service_id, tasks in view.buckets.get(node_id, {}).items():
            for task in tasks.values():
                status = view.status_of(task)
                if status is not None and is_terminal(status.state):
                    continue
                stopping = view.desired_of(task) > RUNNING
                for port in view.demand(service_id, task.spec_version).ports:
                    text = f"service {service_name(view, service_id)}"
                    found[port] = f"{text}, whose task there is still stopping" if stopping else text
        return found

    def _max_replicas(self, row: int) -> Because:
        limit = most_per_node(self._subject.template.spec.placement)
        room = float(self._table.bucket_room(self._subject.service_id)[row])
        if not limit or room < 1:
            return "the store takes no more of the service's tasks on one node, those that ended counted", ()
        text = f"at most {limit} of the service's tasks per node, {_GAP} there already"
        return text, ((_count_text, float(self._table.own(self._subject.service_id)[row])),)


def availability(view: View, node: Node) -> str:
    """Returns why a node takes no new tasks."""
    state = view.node_state(node.id)
    if state.state == DOWN:
        return f"down{f' ({state.message})' if state.message else ''}"
    if node.spec.availability == "drain":
        return "drained"
    if node.spec.availability == "pause":
        return "paused"
    if state.engine_is_silent:
        return state.message
    return "not heard of yet since this manager leads"


def node_name(node: Node | None, node_id: str) -> str:
    return (node.description.hostname if node is not None else "") or node_id


def service_name(view: View, service_id: str) -> str:
    service = view.services.get(service_id)
    if service is not None:
        return service.spec.name
    removed = view.removed.get(service_id)
    return f"{removed.name} (removed)" if removed is not None else service_id


def size_text(size_bytes: float) -> str:
    """Returns 1.5 GiB, 512 MiB; nothing that is free is less than nothing."""
    size = max(0.0, size_bytes)
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= step:
            return f"{size / step:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{size / 1024:.0f} KiB" if size else "0 MiB"


def cpu_text(nano_cpus: float) -> str:
    return f"{max(0.0, nano_cpus) / 1e9:.3f}".rstrip("0").rstrip(".")


def names_text(names: Sequence[str], count: int) -> str:
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return ", ".join(names) + more


def fits_empty(node: Node, demand: ResourceRequest) -> bool:
    """True where the node could take the task if it had no other."""
    have = node.description.resources
    enough = demand.nano_cpus <= have.nano_cpus and demand.memory_bytes <= have.memory_bytes
    return enough and all(stock_of(have, {}, kind).total >= count for kind, count in demand.generic)


def _what_it_is(key: str, node: Node) -> str:
    if key.lower() in ("node.id", "node.hostname", "node.ip"):
        return ""  # each node has its own, and a group is named
    value = value_of(key, node)
    what = key.rpartition(".")[2] if ".labels." in key.lower() else key
    if value is None:
        return f": nobody knows what {key} is"
    if not value:
        return f": there is no {what}"
    return f": {what} is {value}"


def _grouped(
    table: NodeTable, filter_: str, rows: Iterable[int], because: Callable[[int], Because]
) -> list[NodeGroup]:
    alike: dict[str, tuple[list[int], list[tuple[Number, ...]]]] = {}
    for row in rows:
        text, numbers = because(row)
        members, values = alike.setdefault(text, ([], []))
        members.append(row)
        values.append(numbers)
    found = []
    for text, (members, values) in alike.items():
        names = sorted(node_name(table.nodes[row], table.ids[row]) for row in members)
        for numbers in zip(*values, strict=True):
            text = text.replace(_GAP, _spoken(numbers), 1)
        count = len(members)
        shown = names[:NAMES_MAX]
        head = "1 node" if count == 1 else f"{count} nodes"
        found.append(NodeGroup(filter_, count, shown, f"{head} ({names_text(shown, count)}): {text}"))
    return found


def _spoken(numbers: Sequence[Number]) -> str:
    """Returns the numbers of a group: each of a few, or the least and the most."""
    said = numbers[0][0]
    values = sorted({value for _, value in numbers})
    if len(values) > VALUES_MAX:
        return f"{said(values[0])} to {said(values[-1])}"
    return " and ".join(filter(None, [", ".join(said(each) for each in values[:-1]), said(values[-1])]))


def _count_text(value: float) -> str:
    return str(int(value))


def _cut(groups: list[NodeGroup]) -> list[NodeGroup]:
    if len(groups) <= GROUPS_MAX:
        return groups
    kept, rest = groups[: GROUPS_MAX - 1], groups[GROUPS_MAX - 1 :]
    count = sum(each.count for each in rest)
    text = f"{count} nodes: refused for {len(rest)} other reasons"
    return [*kept, NodeGroup("other", count, [], text)]


def _plugin_text(plugin: Plugin) -> str:
    kind, name = plugin
    if kind == ESP.type:
        return "encryption of overlay networks (IPsec in its kernel: its log says why not)"
    return f"{kind.lower()} driver {name}"
