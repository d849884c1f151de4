"""Which standby connections a node keeps."""

from __future__ import annotations

import pytest

from skep.agent.standby_plan import EACH_MAX, count_for, plan_standbys

MANAGERS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("held", "own", "wanted", "to_close", "to_open"),
    [
        ([], "a", 2, [], ["b", "c"]),
        (["b"], "a", 2, [], ["c"]),
        (["b", "c"], "a", 2, [], []),
        (["c", "b"], "a", 1, ["b"], []),  # the oldest stays
        (["b", "gone"], "a", 2, ["gone"], ["c"]),  # a manager that has left
        (["a", "b"], "a", 2, ["a"], ["c"]),  # the session is there
        (["b"], "a", 0, ["b"], []),
        ([], "elsewhere", 1, [], ["a", "b", "c"]),
    ],
)
def test_a_node_keeps_what_it_is_told_to(
    held: list[str], own: str, wanted: int, to_close: list[str], to_open: list[str]
) -> None:
    plan = plan_standbys(held, MANAGERS, own, wanted)
    assert (plan.to_close, plan.to_open) == (to_close, to_open)


def test_all_nodes_together_keep_as_many_as_were_asked_for() -> None:
    shares = [number / 1000 for number in range(1000)]
    for each in (0.0, 0.35, 0.8, 1.0, 2.0, 2.45):
        assert sum(count_for(each, share) for share in shares) == pytest.approx(1000 * each, abs=1)


@pytest.mark.parametrize("each", [-1.0, EACH_MAX + 1.0, 1e300, float("inf"), float("nan")])
def test_a_number_that_is_none_is_no_connection(each: float) -> None:
    assert count_for(each, 0.5) == 0
