"""Evenness on every level of preferences, whatever was there before and whatever the nodes can take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from skep.manager.scheduler.place import Round
from skep.model.change import NewTask
from skep.model.spec import Placement, PlacementPreference, SpreadOver
from skep.store.view import View
from tests.unit.builders import GIB, add_node, add_service, add_task, new_ids


class Shape(Struct, frozen=True):
    """A node: its label values ("": it has none), room for tasks, and what it has already."""

    zone: str
    rack: str
    room: int
    own: int
    others: int
    available: bool


SHAPES = st.lists(
    st.builds(
        Shape,
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from(["", "1", "2"]),
        st.integers(0, 5),
        st.integers(0, 4),
        st.integers(0, 3),
        st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=14,
)
DESCRIPTORS = st.lists(
    st.sampled_from(["node.labels.zone", "node.labels.rack", "node.hostname"]), max_size=3, unique=True
)


def build(shapes: Sequence[Shape], descriptors: Sequence[str]) -> View:
    view = View()
    preferences = [PlacementPreference(spread=SpreadOver(spread_descriptor=each)) for each in descriptors]
    add_service(view, reserve_memory_bytes=GIB, placement=Placement(preferences=preferences))
    add_service(view, "other")
    slot = 1000
    for n, shape in enumerate(shapes):
        labels = {name: value for name, value in (("zone", shape.zone), ("rack", shape.rack)) if value}
        add_node(
            view,
            f"n{n:02d}",
            labels=labels,
            memory_bytes=(shape.room + shape.own) * GIB,
            availability="active" if shape.available else "pause",
        )
        for service_id, count in (("s", shape.own), ("other", shape.others)):
            for _ in range(count):
                slot += 1
                add_task(view, f"t{slot}", f"n{n:02d}", slot, service_id=service_id)
    return view


def place(view: View, count: int, slices: int = 1) -> list[str]:
    new_id = new_ids(7)
    tasks = [NewTask(new_id(), "s", n + 1, 1, 0.0) for n in range(count)]
    round_, size = Round(view, 0), -(-count // slices)
    return [
        t.node_id for start in range(0, count, size) for t in round_.place(tasks[start : start + size]).placed
    ]


@settings(max_examples=100, deadline=None)
@given(shapes=SHAPES, descriptors=DESCRIPTORS, count=st.integers(1, 40), slices=st.integers(1, 3))
def test_no_branch_is_raised_above_one_that_has_room(
    shapes: list[Shape], descriptors: list[str], count: int, slices: int
) -> None:
    view = build(shapes, descriptors)
    given_to = Counter(place(view, count, slices))
    room = [shape.room if shape.available else 0 for shape in shapes]
    new = [given_to[f"n{n:02d}"] for n in range(len(shapes))]
    assert sum(new) == min(count, sum(room))
    assert all(got <= most for got, most in zip(new, room, strict=True))
    levels = [d.rpartition(".")[2] for d in descriptors if ".labels." in d]
    for depth in range(len(levels) + 1):
        siblings: dict[tuple[str, ...], dict[str, list[int]]] = {}
        for n, shape in enumerate(shapes):
            path = tuple(str(getattr(shape, level)) for level in levels[:depth])
            branch = str(getattr(shape, levels[depth])) if depth < len(levels) else f"node {n}"
            siblings.setdefault(path, {}).setdefault(branch, []).append(n)
        for branches in siblings.values():
            _check(branches, shapes, new, room)


def _check(branches: dict[str, list[int]], shapes: list[Shape], new: list[int], room: list[int]) -> None:
    """Who was given something does not stand more than one above a sibling that could have taken it."""
    after = {name: sum(shapes[n].own + new[n] for n in members) for name, members in branches.items()}
    for name, members in branches.items():
        if not any(new[n] for n in members):
            continue
        for other, its in branches.items():
            if sum(room[n] - new[n] for n in its) > 0:
                assert after[name] <= after[other] + 1, f"{name} was raised above {other}: {after}"


@settings(max_examples=30, deadline=None)
@given(
    shapes=SHAPES, descriptors=DESCRIPTORS, count=st.integers(1, 40), order=st.randoms(use_true_random=False)
)
def test_the_same_picture_gives_the_same_placement_however_it_was_built(
    shapes: list[Shape], descriptors: list[str], count: int, order: object
) -> None:
    view = build(shapes, descriptors)
    again = build(shapes, descriptors)
    nodes = list(again.nodes.items())
    order.shuffle(nodes)  # type: ignore[attr-defined]
    again.nodes = dict(nodes)
    assert place(view, count) == place(again, count)


def test_what_runs_on_full_and_paused_nodes_counts_for_their_branch() -> None:
    shapes = [
        Shape("a", "", 0, 3, 0, True),
        Shape("a", "", 9, 0, 0, True),
        Shape("b", "", 9, 0, 0, True),
    ]
    view = build(shapes, ["node.labels.zone"])
    assert Counter(place(view, 3)) == {"n02": 3}
    assert Counter(place(view, 5)) == {"n02": 4, "n01": 1}


@pytest.mark.parametrize("slices", [1, 3])
def test_nodes_without_the_label_are_a_branch_of_their_own(slices: int) -> None:
    shapes = [Shape("a", "", 99, 0, 0, True)] * 3 + [Shape("", "", 99, 0, 0, True)]
    assert Counter(place(build(shapes, ["node.labels.zone"]), 12, slices)) == {
        "n00": 2,
        "n01": 2,
        "n02": 2,
        "n03": 6,
    }


def test_levels_are_spread_one_inside_the_other() -> None:
    shapes = [
        Shape("a", "1", 99, 0, 0, True),
        Shape("a", "2", 99, 0, 0, True),
        Shape("a", "2", 99, 0, 0, True),
        Shape("b", "1", 99, 0, 0, True),
    ]
    placed = Counter(place(build(shapes, ["node.labels.zone", "node.labels.rack"]), 16))
    assert placed == {"n00": 4, "n01": 2, "n02": 2, "n03": 8}
