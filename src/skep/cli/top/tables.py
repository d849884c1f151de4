"""What `skep top` asks for, and tables of the answers. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from skep.runtime.errors import Invalid

NODES, SERVICES, TASKS = "nodes", "services", "tasks"
KINDS = (NODES, SERVICES, TASKS)
CPU, MEMORY, RESTARTS = "cpu", "memory", "restarts"
SORTS = {NODES: (CPU, MEMORY), SERVICES: (CPU, MEMORY, RESTARTS), TASKS: (CPU, MEMORY, RESTARTS)}
FILTERS = {NODES: ("node",), SERVICES: ("service",), TASKS: ("node", "service")}
NOTHING = "-"
STALE_S = 5.0  # a round takes 2 s at most, and what it shows is 2 s old at most

Said = Mapping[str, Any]  # one object of the API's answer


class Selection(Struct, frozen=True):
    """What is to be shown: at most `limit` rows, those with most of `sort` first. Empty filters are all."""

    kind: str = NODES
    sort: str = CPU
    limit: int = 100
    nodes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Returns what the API is asked for."""
        if self.kind == NODES:
            return "/skep/v1/nodes/usage?sample=1"
        query = {"sort": self.sort, "limit": str(self.limit)}
        given = {"node": self.nodes, "service": self.services}
        filters = {name: given[name] for name in FILTERS[self.kind] if given[name]}
        if filters:
            query["filters"] = msgspec.json.encode(filters).decode()
        return f"/skep/v1/{self.kind}/usage?{urlencode(query)}"


class Row(Struct, frozen=True):
    """`said` is the object as the API has it. `is_stale`: what it shows is of before, or nothing."""

    cells: tuple[str, ...]
    said: Said
    is_stale: bool = False


class TopTable(Struct, frozen=True):
    """`names` are columns, texts to the left and numbers to the right. Of `total` objects some are shown.
    Of `asked` nodes `answered` have said what they use by now."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    total: int
    asked: int
    answered: int


_TEXTS = frozenset({"NODE", "STATE", "ROLE", "SERVICE", "MODE", "TASK"})
_NAMES = {
    NODES: ("NODE", "STATE", "ROLE", "CORES", "CPU %", "MEM USAGE / TOTAL", "MEM %", "LOAD", "TASKS"),
    SERVICES: ("SERVICE", "MODE", "CPU %", "MEM USAGE", "TASKS", "RESTARTS"),
    TASKS: ("TASK", "NODE", "STATE", "CPU %", "MEM USAGE / LIMIT", "MEM %", "RESTARTS"),
}


def is_text(column: str) -> bool:
    """True for a column that begins at the left."""
    return column in _TEXTS


def parse_selection(kind: str, sort: str, limit: int, filters: Sequence[str]) -> Selection:
    """Returns what a command line asks for. Errors: `Invalid`."""
    if sort not in SORTS[kind]:
        raise Invalid(f"{kind} are not sorted by {sort}: {', '.join(SORTS[kind])}")
    found: dict[str, list[str]] = {"node": [], "service": []}
    for each in filters:
        name, equals, value = each.partition("=")
        if not equals or not value or name not in FILTERS[kind]:
            known = " or ".join(f"{name}=NAME" for name in FILTERS[kind])
            raise Invalid(f"filter {each!r} is none of {kind}: {known}")
        found[name].append(value)
    return Selection(kind, sort, limit, tuple(found["node"]), tuple(found["service"]))


def make_table(selection: Selection, said: Said) -> TopTable:
    """Returns the answer's table. Errors: `Invalid` where no node is what a filter says."""
    kind = selection.kind
    objects, total = list(said[kind.title()]), int(said.get("Total", 0))
    if kind == NODES:
        objects = _of_nodes(selection, objects)
        total = len(objects)
        objects = heapq.nlargest(selection.limit, objects, key=_NODES_BY[selection.sort])
    rows = tuple(_ROWS[kind](each, str(said["At"])) for each in objects)
    return TopTable(_NAMES[kind], rows, total, int(said["Asked"]), int(said["Answered"]))


def missing(table: TopTable) -> str:
    """Returns how many nodes did not say what they use, for people; empty where all did."""
    silent = table.asked - table.answered
    return f"{silent} of {table.asked} nodes did not answer" if silent else ""


def _of_nodes(selection: Selection, objects: list[Said]) -> list[Said]:
    """Returns those that the filter names: by host name, id, or the beginning of one, as the API does."""
    wanted = selection.nodes
    if not wanted:
        return objects
    for name in wanted:
        if not any(_is_called(each, name) for each in objects):
            raise Invalid(f"node {name} not found")
    return [each for each in objects if any(_is_called(each, name) for name in wanted)]


def _is_called(node: Said, name: str) -> bool:
    return name == node["Hostname"] or str(node["ID"]).startswith(name)


def _of_usage(name: str) -> Callable[[Said], float]:
    return lambda node: float(node["Usage"][name]) if node["Usage"] else -1.0


_NODES_BY = {CPU: _of_usage("CPUCores"), MEMORY: _of_usage("MemoryUsedBytes")}


def _node_row(node: Said, at: str) -> Row:
    role = "leader" if node["Leader"] else node["Role"]
    state = node["State"] if node["Availability"] == "active" else f"{node['State']}, {node['Availability']}"
    head = (node["Hostname"] or node["ID"], state, role)
    tasks, usage = str(node["TasksRunning"]), node["Usage"]
    if usage is None:
        return Row((*head, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, tasks), node, is_stale=True)
    has, used = node["NanoCPUs"] / 1e9, usage["CPUCores"]
    has_bytes, used_bytes = node["MemoryBytes"], usage["MemoryUsedBytes"]
    cells = (
        f"{used:.2f} / {has:g}",
        _percent(used, has),
        f"{size(used_bytes)} / {size(has_bytes)}",
        _percent(used_bytes, has_bytes),
        f"{usage['Load1']:.2f}",
        tasks,
    )
    return Row((*head, *cells), node, is_stale=_is_older(usage["At"], at))


def _service_row(service: Said, at: str) -> Row:
    tasks, running = service["TasksMeasured"], service["TasksRunning"]
    cells = (
        service["Name"],
        service["Mode"],
        f"{100 * service['CPUCores']:.2f}%",
        size(service["MemoryBytes"]),
        str(running) if tasks == running else f"{tasks} of {running}",
        str(service["Restarts"]),
    )
    return Row(cells, service)


def _task_row(task: Said, at: str) -> Row:
    used, limit = task["MemoryBytes"], task["MemoryLimitBytes"]
    cells = (
        task["Name"],
        task["Hostname"] or task["NodeID"],
        task["State"],
        f"{100 * task['CPUCores']:.2f}%",
        f"{size(used)} / {size(limit)}",
        _percent(used, limit),
        str(task["Restarts"]),
    )
    return Row(cells, task)


_ROWS: dict[str, Callable[[Said, str], Row]] = {NODES: _node_row, SERVICES: _service_row, TASKS: _task_row}


def _is_older(then: str, at: str) -> bool:
    """True where a node said it in another round than this."""
    seconds = (datetime.fromisoformat(each[:19]) for each in (at, then))  # RFC 3339 in UTC, both
    return (next(seconds) - next(seconds)).total_seconds() > STALE_S


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole else NOTHING


def size(octets: float) -> str:
    """Returns a number of bytes as `docker stats` writes it: four digits and a unit of 1,024."""
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while octets >= 1024 and len(units) > 1:
        octets /= 1024
        units.pop(0)
    return f"{octets:.4g}{units[0]}"
