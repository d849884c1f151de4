"""What `skep top` asks for, and how it shows what it is told."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from skep.cli.top.tables import CPU, MEMORY, NODES, Selection, make_table, missing, parse_selection, size
from skep.runtime.errors import Invalid

AT = "2026-11-30T22:10:00.000000000Z"


def node(name: str, cores: float | None, memory: int = 0, at: str = AT, **fields: Any) -> dict[str, Any]:
    usage = {"At": at, "CPUCores": cores, "MemoryUsedBytes": memory, "Load1": 0.5}
    return {
        "ID": f"id-{name}",
        "Hostname": name,
        "Role": "worker",
        "State": "ready",
        "Availability": "active",
        "Leader": False,
        "NanoCPUs": 4_000_000_000,
        "MemoryBytes": 8 << 30,
        "TasksRunning": 2,
        "Usage": None if cores is None else usage,
        **fields,
    }


def nodes(*given: dict[str, Any]) -> dict[str, Any]:
    return {"At": AT, "Asked": len(given), "Answered": len(given) - 1, "Nodes": list(given)}


def names(selection: Selection, said: dict[str, Any]) -> list[str]:
    return [row.cells[0] for row in make_table(selection, said).rows]


def test_nodes_are_sorted_and_those_of_which_nothing_is_known_come_last() -> None:
    said = nodes(node("a", 1.0, 5), node("b", None), node("c", 3.0, 1))
    assert names(Selection(), said) == ["c", "a", "b"]
    assert names(Selection(sort=MEMORY), said) == ["a", "c", "b"]
    assert names(Selection(limit=1), said) == ["c"]
    table = make_table(Selection(limit=1), said)
    assert (table.total, missing(table)) == (3, "1 of 3 nodes did not answer")


def test_a_nodes_row() -> None:
    leader = node("a", 1.0, 2 << 30, Leader=True, Availability="drain")
    (row,) = make_table(Selection(), nodes(leader)).rows
    assert row.cells == (
        *("a", "ready, drain", "leader", "1.00 / 4", "25.00%", "2GiB / 8GiB", "25.00%", "0.50", "2"),
    )
    assert not row.is_stale


@pytest.mark.parametrize(
    ("at", "is_stale"), [("2026-11-30T22:09:58Z", False), ("2026-11-30T21:59:59.5Z", True)]
)
def test_what_was_said_before_is_stale(at: str, is_stale: bool) -> None:
    (row,) = make_table(Selection(), nodes(node("a", 1.0, at=at))).rows
    assert row.is_stale is is_stale


def test_nodes_are_found_by_name_and_by_the_beginning_of_an_id() -> None:
    said = nodes(node("a", 1.0), node("ab", 2.0), node("c", 3.0))
    assert names(Selection(nodes=("a", "id-c")), said) == ["c", "a"]
    with pytest.raises(Invalid, match="node x not found"):
        make_table(Selection(nodes=("a", "x")), said)


def test_tasks_and_services() -> None:
    task = {
        "ID": "t",
        "Name": "web.1",
        "NodeID": "n",
        "Hostname": "a",
        "ServiceID": "s",
        "State": "running",
        "CPUCores": 1.0225,
        "MemoryBytes": 50 << 20,
        "MemoryLimitBytes": 200 << 20,
        "Restarts": 3,
    }
    said = {"At": AT, "Asked": 1, "Answered": 1, "Total": 7, "Tasks": [task]}
    table = make_table(Selection("tasks"), said)
    assert table.rows[0].cells == ("web.1", "a", "running", "102.25%", "50MiB / 200MiB", "25.00%", "3")
    assert (table.total, missing(table), table.rows[0].said) == (7, "", task)
    service = {
        "ID": "s",
        "Name": "web",
        "Mode": "replicated",
        "TasksRunning": 5,
        "TasksMeasured": 4,
        "CPUCores": 0.5,
        "MemoryBytes": 1023,
        "Restarts": 0,
    }
    said = {"At": AT, "Asked": 1, "Answered": 1, "Total": 1, "Services": [service]}
    cells = make_table(Selection("services"), said).rows[0].cells
    assert cells == ("web", "replicated", "50.00%", "1023B", "4 of 5", "0")


def test_what_the_api_is_asked_for() -> None:
    assert Selection(sort=MEMORY, nodes=("a",)).path == "/skep/v1/nodes/usage?sample=1"
    url = urlsplit(Selection("tasks", CPU, 5, ("a b",), ("x&y",)).path)
    assert url.path == "/skep/v1/tasks/usage"
    assert parse_qs(url.query) == {
        "sort": ["cpu"],
        "limit": ["5"],
        "filters": ['{"node":["a b"],"service":["x&y"]}'],
    }
    assert "filters" not in Selection("services", nodes=("a",)).path  # a filter of another kind's table


@pytest.mark.parametrize(
    ("kind", "sort", "filters", "words"),
    [
        (NODES, "restarts", [], "nodes are not sorted by restarts: cpu, memory"),
        ("services", CPU, ["node=a"], "service=NAME"),
        ("tasks", CPU, ["web"], "filter 'web' is none of tasks: node=NAME or service=NAME"),
        ("tasks", CPU, ["node="], "filter 'node=' is none"),
    ],
)
def test_what_makes_no_sense(kind: str, sort: str, filters: list[str], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse_selection(kind, sort, 5, filters)


def test_sizes_are_dockers() -> None:
    assert [size(n) for n in (0, 1023, 1024, 557056, 105906176, 8 << 30)] == [
        *("0B", "1023B", "1KiB", "544KiB", "101MiB", "8GiB"),
    ]
