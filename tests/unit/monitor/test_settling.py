"""When a leader's numbers are worth writing."""

from __future__ import annotations

from skep.monitor.settling import SETTLE_S, Settling


def test_a_new_leader_is_waited_for() -> None:
    settling = Settling()
    assert settling.is_settled(0, 0.0)
    assert not settling.is_settled(2300, 10.0)
    assert not settling.is_settled(3, 12.0)
    assert settling.is_settled(0, 13.0)


def test_who_stays_unknown_is_waited_for_no_longer_than_a_while() -> None:
    settling = Settling()
    assert not settling.is_settled(5, 100.0)
    assert not settling.is_settled(5, 100.0 + SETTLE_S - 0.1)
    assert settling.is_settled(5, 100.0 + SETTLE_S)
    assert settling.is_settled(4, 1000.0)
    assert settling.is_settled(0, 1001.0)
    assert not settling.is_settled(4, 1002.0)  # the next new leader
