"""How many standby connections nodes are told to keep."""

from __future__ import annotations

import pytest

from skep.manager.dispatcher.standby import CROWD, CROWD_S, EACH_MAX, PER_MANAGER_MAX, PER_S, StandbyPolicy


@pytest.mark.parametrize(
    ("nodes", "managers", "each"),
    [
        (5, 1, 0.0),
        (0, 3, 0.0),
        (5, 3, 2.0),
        (2303, 3, 2.0),
        (2305, 5, 4.0),
        (10_000, 3, 0.8),
        (10_000, 5, 1.6),
        (20_000, 3, 0.4),
        (100, 7, EACH_MAX),
    ],
)
def test_how_many(nodes: int, managers: int, each: float) -> None:
    assert StandbyPolicy().wish(nodes, managers, 0.0).each == pytest.approx(each, abs=0.05)


@pytest.mark.parametrize("managers", [2, 3, 5, 7])
@pytest.mark.parametrize("nodes", [1, 100, 4001, 9999, 20_000])
def test_no_manager_has_too_many_and_none_too_much_work(nodes: int, managers: int) -> None:
    wish = StandbyPolicy().wish(nodes, managers, 0.0)
    others = managers - 1
    assert nodes * wish.each <= PER_MANAGER_MAX * others
    assert nodes / wish.within_s <= PER_S * others + 1


def test_while_many_come_none_is_opened() -> None:
    policy = StandbyPolicy()
    for n in range(CROWD - 1):
        policy.came(100 + n * 0.01)
    assert not policy.wish(100, 3, 101).is_crowded
    policy.came(101)
    assert policy.wish(100, 3, 101).is_crowded
    assert policy.wish(100, 3, 101 + CROWD_S).is_crowded
    assert not policy.wish(100, 3, 101 + 2 * CROWD_S).is_crowded


def test_a_few_that_come_and_go_are_no_crowd() -> None:
    policy = StandbyPolicy()
    for second in range(600):
        for _ in range(3):
            policy.came(second)
        assert not policy.wish(2303, 3, second).is_crowded
