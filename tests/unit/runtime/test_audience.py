"""Listeners of all speeds: each is told all in order, and who does not read is dropped, at no cost to others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from skep.runtime.audience import BEAT_S, STUCK_S, Audience, AudienceMember
from skep.runtime.errors import Unavailable
from skep.runtime.sse import BEAT
from skep.runtime.tape import Piece, Tape
from tests.unit.left_behind import left_behind

KEPT = 5


@dataclass
class Reader:
    """Takes `slow_s` for a piece; None: it does not read."""

    slow_s: float | None = 0.0
    got: list[bytes] = field(default_factory=list)
    is_cut: bool = False
    work: asyncio.Task[None] | None = None

    async def write(self, piece: Piece) -> None:
        if self.slow_s is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.slow_s)
        self.got.append(piece.data)

    def cut(self) -> None:
        self.is_cut = True
        assert self.work is not None
        self.work.cancel()  # as a line that is broken off does

    def listen(self, audience: Audience, position: int = 0, *first: Piece) -> None:
        listener = AudienceMember(position, self.write, self.cut)
        self.work = asyncio.ensure_future(audience.tell(listener, *first))


def an_audience(most: int = 10) -> Audience:
    return Audience("test", Tape("0", KEPT, 1000), most)


def said(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]


async def ended(*readers: Reader) -> None:
    works = [each.work for each in readers if each.work is not None]
    await asyncio.gather(*works, return_exceptions=True)
    assert not await left_behind()


async def test_all_are_told_all_in_order() -> None:
    audience = an_audience()
    quick, slow, late = Reader(), Reader(0.5), Reader()
    quick.listen(audience)
    slow.listen(audience)
    for number in range(20):
        audience.put(Piece(b"%d" % number))
        audience.look()
        if number == 9:
            late.listen(audience, audience.tape.end, Piece(b"snapshot"))
        await asyncio.sleep(1)
    audience.close()
    await ended(quick, slow, late)
    assert quick.got == slow.got == said(*range(20))
    assert late.got == [b"snapshot", *said(*range(10, 20))]
    assert not (quick.is_cut)
    assert not (slow.is_cut)
    assert not (late.is_cut)
    assert len(audience) == 0


@pytest.mark.parametrize("slow_s", [None, 3.0])
async def test_who_falls_behind_is_dropped_and_holds_up_nobody(
    slow_s: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    audience = an_audience()
    quick, slow = Reader(), Reader(slow_s)
    quick.listen(audience)
    slow.listen(audience)
    for number in range(20):
        audience.put(Piece(b"%d" % number))
        audience.look()
        await asyncio.sleep(1)
    assert quick.got == said(*range(20))
    assert slow.is_cut
    assert len(audience) == 1
    assert capsys.readouterr().out.count("listener.dropped") == 1
    audience.close()
    await ended(quick, slow)


async def test_who_does_not_read_is_dropped_where_nothing_happens_either() -> None:
    audience = an_audience()
    stuck = Reader(None)
    stuck.listen(audience, 0, Piece(b"snapshot"))
    await asyncio.sleep(STUCK_S - 1)
    audience.look()
    assert not stuck.is_cut
    await asyncio.sleep(2)
    audience.look()
    assert stuck.is_cut
    await ended(stuck)


async def test_silence_is_broken_now_and_then() -> None:
    audience = an_audience()
    reader = Reader()
    reader.listen(audience)
    await asyncio.sleep(BEAT_S * 2.5)
    assert reader.got == [BEAT, BEAT]
    audience.put(Piece(b"1"))
    await asyncio.sleep(0.1)
    assert reader.got[2:] == [b"1"]
    audience.close()
    await ended(reader)


async def test_there_are_so_many_at_most() -> None:
    audience = an_audience(most=2)
    readers = [Reader(), Reader()]
    for each in readers:
        audience.check_room()
        each.listen(audience)
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="2 follow this already"):
        audience.check_room()
    late = Reader()
    late.listen(audience)  # it has asked when there was room
    assert late.work is not None
    with pytest.raises(Unavailable, match="2 follow this already"):
        await late.work
    audience.close()
    await ended(*readers)
    assert len(late.got) == 0


async def test_a_piece_is_packed_once_for_all() -> None:
    piece = Piece(b"x" * 100)
    assert piece.packed is piece.packed
