"""How often nodes may do things."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skep.manager.rates import Rates


def test_a_burst_and_then_so_many_a_second_each_node_for_itself() -> None:
    rates = Rates(burst=3, per_s=0.5)
    assert [rates.take("a", 10.0) for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 10.0)
    assert rates.wait_s("a", 10.0) == 2.0
    assert not rates.take("a", 11.9)
    assert rates.take("a", 12.0)
    assert rates.left("a", 1000.0) == 3, "no more than a burst is saved up"
    rates.spend("a", 1000.0, 5)
    assert (rates.left("a", 1000.0), rates.wait_s("a", 1000.0)) == (-2, 6.0)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 4)), max_size=50))
def test_nobody_ever_has_more_than_there_can_be(steps: list[tuple[float, float]]) -> None:
    rates, now, had = Rates(burst=4, per_s=2), 0.0, 0.0
    for later_s, count in steps:
        now += later_s
        if rates.take("a", now, count):
            had += count
        assert had <= 4 + 2 * now + 1e-6
