"""Nodes' connections that wait at a manager: how many, and which of them may still be used."""

from __future__ import annotations

from skep.daemon.standby_connections import StandbyConnections
from skep.rpc.interfaces import Identity


class Wire:
    remote_host = local_host = ""

    def __init__(self, node_id: str, not_after: float = 1000.0) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c", not_after)
        self.is_open = True

    def send(self, frame: bytes) -> None: ...

    def close(self) -> None:
        self.is_open = False


def test_a_node_has_one_and_the_newest_counts() -> None:
    here = StandbyConnections(lambda: 0.0)
    older, newer = Wire("n"), Wire("n")
    here.enter(older)
    here.enter(newer)
    assert (older.is_open, newer.is_open, len(here)) == (False, True, 1)
    assert not here.leave(older)  # its end is heard of: that is not the newer one's
    assert len(here) == 1
    assert here.leave(newer)
    assert len(here) == 0
    assert not here.leave(newer)


def test_of_too_many_the_newest_is_refused() -> None:
    here = StandbyConnections(lambda: 0.0, most=3)
    wires = [Wire(f"n{n}") for n in range(4)]
    for wire in wires:
        here.enter(wire)
    assert [wire.is_open for wire in wires] == [True, True, True, False]
    again = Wire("n0")  # it comes again: its place is still its own
    here.enter(again)
    assert again.is_open
    assert not wires[0].is_open
    assert not here.leave(wires[3])


def test_a_certificate_that_has_expired_meanwhile_is_none() -> None:
    now = 0.0
    here = StandbyConnections(lambda: now)
    wire = Wire("n", not_after=100.0)
    here.enter(wire)
    now = 100.5
    assert not here.leave(wire)
    assert len(here) == 0


def test_when_trust_changes_all_end() -> None:
    here = StandbyConnections(lambda: 0.0)
    wires = [Wire("a"), Wire("b")]
    for wire in wires:
        here.enter(wire)
    here.close_all()
    assert [wire.is_open for wire in wires] == [False, False]
    assert not here.leave(wires[0])
