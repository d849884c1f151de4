"""In how many parts a published service is told, and who leads to which."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skep.manager.dispatcher.cutting import part_of
from skep.manager.dispatcher.mesh_cut import (
    PART_MAX,
    PART_MAX_OF_FEW_NODES,
    WHOLE_MAX,
    Cut,
    balanced,
    leaving_empty,
    parts_of,
)

TASKS, NODES = st.integers(0, 300_000), st.integers(0, 5000)
COUNTS = st.sampled_from([1, 2, 4, 8, 16])


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    count = draw(COUNTS)
    nodes = draw(st.lists(st.integers(0, count - 1), max_size=40))
    return Cut(count, ((f"n{number:02}", part) for number, part in enumerate(nodes)))


@given(COUNTS, st.lists(st.none() | st.integers(0, 0), max_size=40))
def test_those_that_come_at_once_are_spread_evenly(count: int, said: list[int | None]) -> None:
    cut = Cut(count)
    cut.join_all((f"n{number:02}", part) for number, part in enumerate(said))
    assert len(cut.of_node) == len(said)
    assert all(cut.of_node[f"n{number:02}"] == part for number, part in enumerate(said) if part is not None)
    sizes = sorted(map(len, cut.hearers))
    kept = sum(part is not None for part in said)
    assert sizes[-1] <= max(kept, sizes[0] + 1), "others go where the fewest are"


def test_what_is_told_of_many_tasks() -> None:
    assert [parts_of(tasks, 2300) for tasks in (1, 256, 257, 3000, 35_000, 100_000)] == [
        1,
        1,
        4,
        32,
        512,
        1024,
    ]
    assert [parts_of(3000, nodes) for nodes in (1, 3, 4, 10, 100)] == [4, 4, 4, 4, 32], "few nodes hear more"
    assert parts_of(1000, 3) == 1


@given(TASKS, NODES, st.integers(0, 12))
def test_a_part_is_no_longer_than_a_node_can_have(tasks: int, nodes: int, before: int) -> None:
    count = parts_of(tasks, nodes, 1 << before)
    assert count & (count - 1) == 0
    assert tasks <= count * PART_MAX_OF_FEW_NODES
    if count > 1 and count == parts_of(tasks, nodes):
        assert 2 * count <= nodes or tasks > (count // 2) * PART_MAX_OF_FEW_NODES, "somebody leads to each"
        assert tasks > WHOLE_MAX
        assert tasks > count // 2 * PART_MAX, "each has some"
    assert parts_of(tasks, nodes, count) == count, "it stays so"


@given(TASKS, st.integers(1, 5000), st.integers(-3, 3))
def test_some_more_or_less_changes_nothing_twice(tasks: int, nodes: int, more: int) -> None:
    count = parts_of(tasks, nodes)
    other = parts_of(max(0, tasks + more), nodes, count)
    assert parts_of(tasks, nodes, other) == other


@given(cuts(), COUNTS, st.data())
def test_each_part_that_serves_has_as_many_nodes_as_any_other(
    before: Cut, count: int, data: st.DataObject
) -> None:
    serving = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    now = balanced(before, count, serving)
    assert now.of_node.keys() == before.of_node.keys()
    assert all(node in now.hearers[part] for node, part in now.of_node.items())
    sizes = [len(now.hearers[part]) for part in serving or range(count)]
    assert sum(sizes) == len(now.of_node), "nobody leads to a part that does not serve"
    assert max(sizes) - min(sizes) <= 1
    assert balanced(now, count, serving) == now, "then nobody is moved"
    assert balanced(Cut(before.count, reversed(before.of_node.items())), count, serving) == now


@given(cuts(), st.data())
def test_no_more_are_moved_than_must_be(before: Cut, data: st.DataObject) -> None:
    serving = sorted(data.draw(st.sets(st.integers(0, before.count - 1), min_size=1)))
    now = balanced(before, before.count, serving)
    moved = sum(now.of_node[node] != part for node, part in before.of_node.items())
    low, extra = divmod(len(before.of_node), len(serving))
    sizes = sorted((len(before.hearers[part]) for part in serving), reverse=True)
    stay = sum(min(size, low + (turn < extra)) for turn, size in enumerate(sizes))
    assert moved == len(before.of_node) - stay


@given(cuts(), st.data())
def test_who_leads_to_nothing_that_serves_is_moved_and_nobody_else(before: Cut, data: st.DataObject) -> None:
    serving = sorted(data.draw(st.sets(st.integers(0, before.count - 1))))
    now = leaving_empty(before, serving)
    for node, part in before.of_node.items():
        assert now.of_node[node] in serving if serving else now.of_node[node] == part
        assert part not in serving or now.of_node[node] == part


@given(cuts(), st.lists(st.sampled_from(["n00", "n01", "m1", "m2", "m3"]), max_size=9))
def test_who_comes_leads_to_the_part_with_the_fewest(cut: Cut, coming: list[str]) -> None:
    cut = balanced(cut, cut.count, [])
    for node in coming:
        if node not in cut.of_node:
            cut.join(node, [])
    sizes = [len(nodes) for nodes in cut.hearers]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 64).map(lambda n: 1 << (n % 7)), st.integers(0, 999))
def test_a_part_that_is_cut_is_cut_in_pieces(count: int, number: int) -> None:
    address = f"10.0.{number >> 8}.{number & 255}"
    assert part_of(address, 2 * count) % count == part_of(address, count)
