"""Who has asked for what of a large overlay network."""

from __future__ import annotations

from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.dispatcher.overlay_state import KnownService
from skep.manager.dispatcher.overlay_subscribers import Subscribers
from skep.model.overlay import OverlayEndpoint, OverlayService

FEW = Bounds(services_max=2, addresses_max=3)


def _service(service_id: str, parts: int = 1) -> KnownService:
    made = KnownService(OverlayService(service_id))
    made.put(OverlayEndpoint("10.0.0.1", "n"))
    made.cut(parts)
    return made


def test_the_part_with_the_fewest_hearers_gets_the_next_one() -> None:
    of, service = Subscribers(Bounds()), _service("s", 4)
    for number in range(10):
        assert of.ask_services(f"n{number}", [service]) == []
    assert [len(each) for each in of.parts("s")] == [3, 3, 2, 2]
    of.forget("n1")
    of.forget("n5")
    of.ask_services("m", [service])
    assert of.part_of("m", "s") == 1
    of.ask_services("m", [service])
    assert of.part_of("m", "s") == 1, "and stays there"
    assert [len(each) for each in of.parts("s")] == [3, 2, 2, 2]


def test_the_oldest_service_goes_where_too_many_are_asked_for() -> None:
    of = Subscribers(FEW)
    a, b, c = (_service(each) for each in "abc")
    assert of.ask_services("n", [a, b]) == []
    assert of.ask_services("n", [a]) == [], "asked for again, it is new again"
    assert of.ask_services("m", [b]) == []
    assert of.ask_services("n", [c]) == ["b"]
    assert [sorted(each) for each in of.parts("b")] == [["m"]]
    assert [sorted(each) for each in of.parts("a")] == [["n"]]


def test_the_oldest_address_goes_where_too_many_are_asked_for() -> None:
    of = Subscribers(FEW)
    assert of.ask_addresses("n", ["1", "2", "3"]) == []
    assert of.ask_addresses("n", ["1", "4", "5"]) == ["2", "3"]
    assert not of.singles("2")
    assert set(of.singles("1")) == {"n"}


def test_of_who_has_gone_nothing_is_kept() -> None:
    of = Subscribers(FEW)
    of.ask_services("n", [_service("s")])
    of.ask_addresses("n", ["1"])
    of.forget("n")
    of.forget("nobody")
    of.leave_address("n", "1")
    assert not of.parts("s")
    assert not of.singles("1")
    assert not of._services
    assert not of._addresses
    assert not of._hearers
    assert not of._singles


def test_a_service_that_goes_is_heard_of_by_nobody() -> None:
    of = Subscribers(FEW)
    service = _service("s", 2)
    for each in "nm":
        of.ask_services(each, [service])
    assert sorted(of.drop_service("s")) == ["m", "n"]
    assert not of.parts("s")
    of.forget("n")


def test_in_more_parts_each_node_hears_of_what_becomes_of_its_own_and_of_less_parts_of_both() -> None:
    of = Subscribers(Bounds())
    for number in range(16):
        of.ask_services(f"n{number:02}", [_service("s", 2)])
    moves = of.cut("s", 4)
    assert [len(each) for each in of.parts("s")] == [4, 4, 4, 4]
    assert all(part % 2 == was for _, was, part in moves)
    assert {(node_id, part) for node_id, _, part in moves} == {
        (node_id, part) for part, nodes in enumerate(of.parts("s")) for node_id in nodes
    }
    moves = of.cut("s", 1)
    assert [len(each) for each in of.parts("s")] == [16]
    assert {part for _, _, part in moves} == {0}
    assert of.part_of("n00", "s") == 0
