"""The scheduler: even, within limits, explained, and the same for the same picture."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.manager.scheduler.place import Round
from skep.model.change import NewTask, Placement
from skep.model.constraint import eligible, parse_constraint
from skep.model.spec import Placement as PlacementSpec
from skep.model.spec import PlacementPreference, SpreadOver
from skep.runtime.errors import Invalid
from skep.store.view import View

from .builders import GIB, add_node, add_service, add_task, new_ids


def wanted(count: int, service_id: str = "s", node_id: str = "") -> list[NewTask]:
    new_id = new_ids(7)
    return [NewTask(new_id(), service_id, n + 1, 1, 0.0, node_id=node_id) for n in range(count)]


def per_node(placement: Placement) -> dict[str, int]:
    return dict(Counter(task.node_id for task in placement.placed))


def test_tasks_spread_by_the_services_own_count_then_by_all() -> None:
    view = View()
    for node_id in "abc":
        add_node(view, node_id)
    add_service(view, "s")
    add_service(view, "other")
    add_task(view, "o1", "a", service_id="other")
    add_task(view, "o2", "b", service_id="other")
    add_task(view, "o3", "b", service_id="other", slot=2)
    assert per_node(Round(view, 0).place(wanted(1))) == {"c": 1}
    assert per_node(Round(view, 0).place(wanted(2))) == {"a": 1, "c": 1}
    add_task(view, "s1", "c")
    assert per_node(Round(view, 0).place(wanted(2))) == {"a": 1, "b": 1}


def test_reservations_limit_and_the_reason_counts_the_state_after_placing() -> None:
    view = View()
    add_node(view, "a", memory_bytes=GIB)
    add_node(view, "b", memory_bytes=2 * GIB)
    add_node(view, "c", availability="pause")
    add_service(view, reserve_memory_bytes=GIB)
    placement = Round(view, 0).place(wanted(5))
    assert per_node(placement) == {"a": 1, "b": 2}
    assert {p.reason for p in placement.pending} == {
        "no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)"
    }
    assert len(placement.pending) == 2


@pytest.mark.parametrize(
    ("placement", "reason"),
    [
        (
            PlacementSpec(constraints=["node.labels.x==1"]),
            "no suitable node (scheduling constraints not satisfied on 2 nodes)",
        ),
        (PlacementSpec(max_replicas=1), "no suitable node (max replicas per node limit exceed)"),
    ],
)
def test_pending_tasks_say_why(placement: PlacementSpec, reason: str) -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    add_service(view, placement=placement)
    assert Round(view, 0).place(wanted(3)).pending[-1].reason == reason


def test_without_nodes_the_reason_is_short() -> None:
    view = View()
    add_service(view)
    assert Round(view, 0).place(wanted(1)).pending[0].reason == "no suitable node"


def test_a_preference_spreads_over_branches_before_nodes() -> None:
    view = View()
    for node_id, zone in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")):
        add_node(view, node_id, labels={"zone": zone})
    preference = PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.zone"))
    add_service(view, placement=PlacementSpec(preferences=[preference]))
    assert per_node(Round(view, 0).place(wanted(6))) == {"a": 1, "b": 1, "c": 1, "d": 3}


def test_a_node_that_failed_often_is_taken_only_if_nothing_else_suits() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    add_service(view)
    failures = {("s", "a"): 5}
    assert per_node(Round(view, 0, failures).place(wanted(4))) == {"b": 4}
    view.drop_node("b")
    assert per_node(Round(view, 0, failures).place(wanted(4))) == {"a": 4}


def test_a_task_for_one_node_goes_there_or_waits() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b", availability="pause")
    add_service(view, replicas=None)
    assert per_node(Round(view, 0).place(wanted(1, node_id="a"))) == {"a": 1}
    (pending,) = Round(view, 0).place(wanted(1, node_id="b")).pending
    assert pending.reason == "no suitable node (1 node not available for new tasks)"
    assert pending.node_id == "b"


@settings(max_examples=80, deadline=None)
@given(
    memory=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    count=st.integers(1, 60),
    slices=st.integers(1, 4),
)
def test_never_beyond_capacity_and_even_where_nothing_forbids(
    memory: list[int], count: int, slices: int
) -> None:
    view = View()
    for n, size in enumerate(memory):
        add_node(view, f"n{n:02d}", memory_bytes=size * GIB)
    add_service(view, reserve_memory_bytes=GIB)
    tasks = wanted(count)
    round_ = Round(view, 0)
    size = -(-count // slices)
    results = [round_.place(tasks[start : start + size]) for start in range(0, count, size)]
    placed = Counter(t.node_id for r in results for t in r.placed)
    pending = sum(len(r.pending) for r in results)
    assert sum(placed.values()) + pending == count
    assert sum(placed.values()) == min(count, sum(memory))
    levels = []
    for n, capacity in enumerate(memory):
        assert placed[f"n{n:02d}"] <= capacity
        if placed[f"n{n:02d}"] < capacity:
            levels.append(placed[f"n{n:02d}"])
    if levels:
        assert max(levels) - min(levels) <= 1
        assert max(placed.values(), default=0) <= min(levels) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node.role", "constraint expected one operator from ==, !="),
        ("node role==x", "key 'node role' is invalid"),
        ("node.role==a,b", "value 'a,b' is invalid"),
    ],
)
def test_bad_constraints_are_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_constraint(text)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("node.hostname==HOST-a", True),
        ("node.id!=a", False),
        ("node.labels.zone==x", True),
        ("node.labels.zone!=y", True),
        ("node.labels.other==", False),
        ("node.role == worker", True),
        ("node.foo==1", False),
    ],
)
def test_constraints_match_nodes(text: str, fits: bool) -> None:
    view = View()
    node = add_node(view, "a", labels={"zone": "x"})
    if text.endswith("=="):
        with pytest.raises(Invalid):
            eligible(node, PlacementSpec(constraints=[text]))
    else:
        assert eligible(node, PlacementSpec(constraints=[text])) == fits
