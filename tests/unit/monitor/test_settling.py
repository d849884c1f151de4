"""When a leader's numbers are worth writing."""

from __future__ import annotations

from skep.monitor.settling import STILL_S, STUCK_S, Settling

NODES = 2300


def test_a_new_leader_is_waited_for() -> None:
    settling = Settling()
    assert settling.is_settled(0, NODES, 0.0)
    assert not settling.is_settled(2300, NODES, 10.0)
    assert not settling.is_settled(2300, NODES, 10.0 + STILL_S)  # they have not noticed yet
    assert not settling.is_settled(3, NODES, 13.0)
    assert not settling.is_settled(0, NODES, 13.5)  # who is back has not said yet what it runs
    assert settling.is_settled(0, NODES, 13.5 + STILL_S)
    assert settling.is_settled(0, NODES, 13.6 + STILL_S)


def test_who_died_with_the_leader_is_not_waited_for() -> None:
    settling = Settling()
    assert not settling.is_settled(2300, NODES, 10.0)
    assert not settling.is_settled(1, NODES, 11.0)
    assert not settling.is_settled(1, NODES, 11.0 + STILL_S - 0.1)
    assert settling.is_settled(1, NODES, 11.0 + STILL_S)


def test_in_a_swarm_of_three_one_may_be_gone() -> None:
    settling = Settling()
    assert not settling.is_settled(2, 3, 0.0)
    assert not settling.is_settled(2, 3, STILL_S)
    assert not settling.is_settled(1, 3, STILL_S + 1)
    assert settling.is_settled(1, 3, 2 * STILL_S + 1)


def test_a_stream_that_goes_on_is_waited_for_however_long_it_is() -> None:
    settling = Settling()
    for second in range(60):
        assert not settling.is_settled(NODES - 30 * second, NODES, float(second))


def test_many_who_stay_unknown_are_waited_for_no_longer_than_a_while() -> None:
    settling = Settling()
    assert not settling.is_settled(500, NODES, 100.0)
    assert not settling.is_settled(500, NODES, 100.0 + STUCK_S - 0.1)
    assert settling.is_settled(500, NODES, 100.0 + STUCK_S)
    assert settling.is_settled(500, NODES, 1000.0)
    assert not settling.is_settled(0, NODES, 1001.0)
    assert settling.is_settled(0, NODES, 1001.0 + STILL_S)
    assert not settling.is_settled(400, NODES, 1004.0)  # the next new leader
