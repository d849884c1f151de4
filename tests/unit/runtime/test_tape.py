"""What is kept of what was told, and who can go on behind what he has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skep.runtime.tape import Piece, Tape


def told(tape: Tape, position: int) -> list[bytes]:
    found = []
    while (piece := tape.at(position)) is not None:
        found.append(piece.data)
        position += 1
    return found


def test_who_was_away_goes_on_where_he_was() -> None:
    tape = Tape("e:0", 3, 1000)
    assert tape.behind("e:0") == 0
    for number in range(1, 4):
        tape.put(Piece(b"%d" % number, f"e:{number}"))
    for number in range(4):
        position = tape.behind(f"e:{number}")
        assert position is not None
        assert told(tape, position) == [b"%d" % each for each in range(number + 1, 4)]
    tape.put(Piece(b"4", "e:4"))
    assert tape.behind("e:0") is None, "what came after it is not kept"
    assert tape.behind("e:1") == 1, "the state before the oldest that is kept"
    assert tape.behind("e:5") is None
    assert tape.behind("f:4") is None
    assert tape.behind("") is None


def test_what_has_no_id_is_told_behind_the_state_before_it() -> None:
    tape = Tape("e:0", 10, 1000)
    tape.put(Piece(b"a", "e:1"))
    tape.put(Piece(b"h"))
    position = tape.behind("e:1")
    assert position is not None
    assert told(tape, position) == [b"h"]


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 8), st.integers(1, 60))
def test_there_are_never_too_many_nor_too_large(sizes: list[int], most: int, most_bytes: int) -> None:
    tape = Tape("0", most, most_bytes)
    for number, size in enumerate(sizes, 1):
        tape.put(Piece(b"x" * size, str(number)))
        kept = told(tape, tape.begin)
        assert len(kept) <= most
        assert sum(map(len, kept)) <= most_bytes or len(kept) == 1
        assert tape.end == number
        assert tape.behind(str(number)) == number
