"""Who may begin TLS at a manager's port: places, turns and their ends."""

from __future__ import annotations

from skep.rpc.admission import (
    ADDRESS_PLACES_MAX,
    BEYOND_S,
    GRACE_MAX_S,
    GRACE_S,
    KEPT_PLACES,
    NEXT_TO_NONE,
    NODE_BURST,
    PLACES_MAX,
    SILENT_S,
    WAITING_S,
    Admission,
    Admitted,
    grace_s,
    host_key,
)


def come(admission: Admission, host: str, now: float, count: int = 1) -> list[int]:
    """Connections that have said something."""
    tickets = [admission.arrive(host, now)[0] for _ in range(count)]
    for ticket in tickets:
        admission.speak(ticket)
    return tickets


def turns(admission: Admission, now: float) -> list[Admitted]:
    found = []
    while (turn := admission.next(now)) is not None:
        found.append(turn)
    return found


def test_one_address_has_no_more_than_its_share_and_others_find_places() -> None:
    admission = Admission()
    come(admission, "a", 0, 1000)
    assert len(turns(admission, 0)) == ADDRESS_PLACES_MAX
    come(admission, "b", 0, 1000)
    assert len(turns(admission, 0)) == PLACES_MAX - ADDRESS_PLACES_MAX - KEPT_PLACES
    for n in range(KEPT_PLACES // NEXT_TO_NONE):
        come(admission, f"c{n}", 0, 10)
        assert len(turns(admission, 0)) == NEXT_TO_NONE
    come(admission, "d", 0)
    assert turns(admission, 0) == []
    assert admission.is_waited_for


def test_a_place_is_free_as_soon_as_it_is_known_who_came() -> None:
    """So thousands of nodes at once wait for nothing but the work."""
    admission = Admission()
    come(admission, "a", 0, 3000)
    served = 0
    while (turn := admission.next(0)) is not None:
        admission.known(turn.ticket, f"node{turn.ticket}", 0)
        served += 1
    assert served == 3000


def test_what_ends_otherwise_keeps_its_place_for_a_while() -> None:
    """So strangers have so many handshakes a second, whatever they do."""
    admission = Admission()
    come(admission, "a", 0, 3000)
    begun = 0
    for now in range(10):
        for turn in turns(admission, now * GRACE_S):
            assert turn.evicted is None
            admission.ended(turn.ticket, now * GRACE_S)
            begun += 1
    assert begun == 10 * ADDRESS_PLACES_MAX


def test_a_node_that_comes_again_and_again_is_held_back_like_a_stranger() -> None:
    admission = Admission()
    come(admission, "a", 0, 3000)
    begun = 0
    while (turn := admission.next(0)) is not None:
        admission.known(turn.ticket, "node", 0)
        begun += 1
    assert begun == ADDRESS_PLACES_MAX + NODE_BURST
    assert turns(admission, BEYOND_S - 0.1) == []
    later = turns(admission, BEYOND_S)
    assert later
    assert all(turn.evicted is None for turn in later)  # it is known who they are: they are not to be ended


def test_silent_ones_lose_their_place_after_their_time_if_others_wait() -> None:
    admission = Admission()
    come(admission, "a", 0, ADDRESS_PLACES_MAX)
    first = [turn.ticket for turn in turns(admission, 0)]
    (last,) = come(admission, "a", 0.5)
    assert admission.next(GRACE_S - 0.01) is None
    assert admission.next(GRACE_S) == Admitted(last, True, first[0])
    assert admission.next(100) is None  # nobody waits: nobody loses one


def test_a_node_finds_a_place_among_hostile_addresses() -> None:
    admission = Admission()
    for n in range(50):
        come(admission, f"a{n}", 0, 40)
    turns(admission, 0)
    (node,) = come(admission, "b", 0.1)
    assert turns(admission, 0.1) == [Admitted(node)]


def test_of_one_address_the_latest_is_first() -> None:
    admission = Admission()
    tickets = come(admission, "a", 0, 5)
    assert [turn.ticket for turn in turns(admission, 0)] == tickets[::-1]


def test_silence_before_the_handshake_ends() -> None:
    admission = Admission()
    silent, _ = admission.arrive("a", 0)
    come(admission, "b", 0, ADDRESS_PLACES_MAX)
    turns(admission, 0)
    (waiting,) = come(admission, "b", 0)
    assert admission.expired(SILENT_S - 0.1) == []
    assert admission.expired(SILENT_S) == [silent]
    assert admission.expired(WAITING_S) == [waiting]
    assert not admission.is_waited_for


def test_of_too_many_the_oldest_is_closed() -> None:
    admission = Admission(arrived_max=3)
    tickets = come(admission, "a", 0, 3)
    newest, dropped = admission.arrive("b", 1)
    assert dropped == tickets[0]
    admission.speak(newest)
    assert {turn.ticket for turn in turns(admission, 1)} == {*tickets[1:], newest}


def test_a_slow_manager_gives_more_time() -> None:
    assert grace_s(0.01) == GRACE_S
    assert GRACE_S < grace_s(0.3) < GRACE_MAX_S
    assert grace_s(60) == GRACE_MAX_S
    admission = Admission()
    come(admission, "a", 0, ADDRESS_PLACES_MAX + 1)
    turns(admission, 0)
    assert admission.next(2, grace_s(0.5)) is None
    assert admission.next(4, grace_s(0.5)) is not None


def test_what_counts_as_one_address() -> None:
    assert host_key("192.0.2.1") == "192.0.2.1"
    assert host_key("2001:db8::1") == host_key("2001:db8::ffff:2") != host_key("2001:db8:0:1::1")
    assert host_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert host_key("fe80::1%eth0") == "fe80::/64"
