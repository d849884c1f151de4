"""What is held of frames that have not come whole."""

from __future__ import annotations

from skep.rpc.half_received import FRAME_S, HalfReceived


def test_who_holds_most_is_let_go_of_and_with_its_longest() -> None:
    halves: HalfReceived[str] = HalfReceived(100)
    assert halves.hold("a1", "a", 40, 0, is_new=True) is None
    assert halves.hold("b1", "b", 20, 0, is_new=True) is None
    assert halves.hold("b2", "b", 35, 0, is_new=True) is None
    assert halves.hold("c1", "c", 10, 0, is_new=True) == "b2"  # 55 of 105 are b's
    halves.forget("b2")
    assert halves.hold("c1", "c", 30, 0, is_new=False) is None
    assert halves.hold("c1", "c", 50, 0, is_new=False) == "c1"


def test_what_came_whole_counts_no_more() -> None:
    halves: HalfReceived[str] = HalfReceived(100)
    for _ in range(10):
        assert halves.hold("a1", "a", 90, 0, is_new=True) is None
        assert halves.hold("a1", "a", 0, 0, is_new=True) is None
    halves.forget("a1")
    assert halves.late(1e9) == []


def test_each_frame_has_its_time() -> None:
    halves: HalfReceived[str] = HalfReceived(100)
    halves.hold("a1", "a", 10, 0, is_new=True)
    halves.hold("b1", "b", 10, 5, is_new=True)
    halves.hold("a1", "a", 20, 50, is_new=False)
    assert halves.late(FRAME_S - 1) == []
    assert halves.late(FRAME_S) == ["a1"]
    halves.hold("b1", "b", 10, 50, is_new=True)
    assert halves.late(FRAME_S + 10) == ["a1"]
