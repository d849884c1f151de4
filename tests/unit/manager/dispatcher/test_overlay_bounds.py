"""In how many parts a service on a large network is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skep.manager.dispatcher.overlay_bounds import Bounds


def test_a_service_that_shrinks_to_a_few_is_told_whole_again() -> None:
    """Found by the simulation's seed 7106, with the lists of 9a42456: two parts stayed two, of which one was
    empty, and who heard of that one knew of nobody that serves."""
    assert [Bounds().parts(n, n, 2) for n in (1, 2, 32, 64)] == [1, 1, 1, 1]
    assert Bounds().parts(65, 65, 2) == 2, "each has some still"


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=20))
def test_where_all_serve_each_part_has_some_whatever_was_before(sizes: list[int]) -> None:
    bounds, parts = Bounds(), 1
    for size in sizes:
        parts = bounds.parts(size, size, parts)
        assert parts == 1 or size > parts * bounds.part_max // 4
        assert size <= max(bounds.whole_max, parts * bounds.part_max)
