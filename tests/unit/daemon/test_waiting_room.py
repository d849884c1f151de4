"""Nodes that come to a manager which does not lead."""

from __future__ import annotations

import asyncio

import pytest

from skep.daemon import waiting_room
from skep.daemon.waiting_room import FRAMES_MAX, LONGEST_S, PATIENCE_S, WaitingRoom
from skep.rpc import messages
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.messages import Goodbye


class Line:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.remote_host = self.local_host = ""
        self.sent: list[bytes] = []
        self.is_closed = False

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def close(self) -> None:
        self.is_closed = True

    def goodbye(self) -> Goodbye:
        message = messages.decode_from_manager(self.sent[0])
        assert isinstance(message, Goodbye)
        return message


class Session:
    """The leader's end."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def connected(self, connection: Connection) -> None:
        self.heard.append("connected")

    def frame(self, data: bytes) -> None:
        self.heard.append(data.decode())

    def closed(self, reason: str) -> None:
        self.heard.append("closed")


class Manager:
    """Leads, knows who does, or neither."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.leader = ""
        self.room = WaitingRoom(self.serve, self.find, lambda: ["a:1", "b:1"])

    def serve(self, connection: Connection) -> Handler | None:
        return self.session

    async def find(self) -> str:
        return self.leader


async def turns() -> None:
    await asyncio.sleep(waiting_room.ASK_S + 3 * waiting_room.POLL_S)


async def test_who_waits_is_served_when_the_manager_comes_to_lead() -> None:
    manager, line = Manager(), Line()
    waiting = manager.room.enter(line)
    waiting.frame(b"register")
    await turns()
    assert not line.sent
    manager.session = Session()
    await turns()
    waiting.frame(b"more")
    waiting.closed("")
    assert manager.session.heard == ["connected", "register", "more", "closed"]


async def test_who_waits_is_sent_on_when_another_leads() -> None:
    manager, line = Manager(), Line()
    manager.room.enter(line)
    await turns()
    assert not line.is_closed
    manager.leader = "b:1"
    await turns()
    assert line.is_closed
    assert line.goodbye() == Goodbye("not-leader", line.goodbye().message, ["a:1", "b:1"], "b:1")


async def test_a_leader_that_does_not_answer_keeps_nobody_from_being_served() -> None:
    manager, line = Manager(), Line()
    hangs = asyncio.Event()

    async def find() -> str:
        await hangs.wait()
        return ""

    manager.room = WaitingRoom(manager.serve, find, list)
    manager.room.enter(line)
    await turns()
    manager.session = Session()
    await turns()
    assert manager.session.heard == ["connected"]


async def test_nobody_waits_for_ever_or_says_much_meanwhile() -> None:
    manager, patient, loud, gone = Manager(), Line(), Line(), Line()
    manager.room.enter(patient)
    talking, leaving = manager.room.enter(loud), manager.room.enter(gone)
    for _ in range(FRAMES_MAX + 1):
        talking.frame(b"x")
    assert loud.is_closed
    leaving.closed("")
    await asyncio.sleep(PATIENCE_S + 0.3)
    assert patient.goodbye().leader == ""
    assert not gone.sent


async def test_what_is_held_of_those_who_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "FRAMES_MAX_BYTES", 100)
    monkeypatch.setattr(waiting_room, "HELD_MAX_BYTES", 250)
    manager, lines = Manager(), [Line() for _ in range(4)]
    waiting = [manager.room.enter(line) for line in lines]
    waiting[0].frame(b"x" * 60)
    waiting[0].frame(b"x" * 60)  # too much for one
    for each in waiting[1:]:
        each.frame(b"x" * 70)
    assert [line.is_closed for line in lines] == [
        True,
        False,
        False,
        True,
    ]  # the last one is too much for all
    waiting[0].closed("")
    waiting[3].frame(b"x" * 70)
    manager.session = Session()
    await turns()
    waiting[1].closed("")
    again = Line()
    manager.session = None
    manager.room.enter(again).frame(b"x" * 100)  # what was served is not held any more
    assert not again.is_closed
    manager.room.close()


@pytest.mark.parametrize(("has_quorum", "waits_s"), [(False, PATIENCE_S), (True, LONGEST_S)])
async def test_who_waits_is_kept_longer_where_a_leader_would_be_known(
    has_quorum: bool, waits_s: float
) -> None:
    manager, line = Manager(), Line()
    manager.room = WaitingRoom(manager.serve, manager.find, lambda: ["a:1"], lambda: has_quorum)
    manager.room.enter(line)
    await asyncio.sleep(waits_s - 0.1)
    assert not line.is_closed
    await asyncio.sleep(0.3)
    assert line.is_closed
    assert (line.goodbye().kind, line.goodbye().leader) == ("not-leader", "")
    manager.room.close()
