"""Log lines: cut at the engine's frames on the node, given Docker's form on the manager."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.manager.logs.lines import LineWriter, Origin, Style, after, context, stamp, warning
from skep.rpc.log_frames import FrameCutter, with_empty_details
from skep.runtime.errors import Invalid

ORIGIN = Origin("node1", "service1", "task1")
CONTEXT = (
    b"com.docker.swarm.node.id=node1,com.docker.swarm.service.id=service1,com.docker.swarm.task.id=task1"
)
TIME = b"2026-11-24T23:05:06.125167202Z"


def frame(line: bytes, stream: int = 1) -> bytes:
    return struct.pack(">BxxxI", stream, len(line)) + line


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=60)), max_size=20),
    st.lists(st.integers(1, 40), min_size=1),
    st.integers(20, 200),
)
def test_frames_are_cut_between_lines_however_they_arrive(
    lines: list[tuple[int, bytes]], steps: list[int], limit: int
) -> None:
    whole = b"".join(frame(line, stream) for stream, line in lines)
    cutter = FrameCutter(is_tty=False, details=False, limit=limit)
    pieces, at, n = [], 0, 0
    while at < len(whole):
        step = steps[n % len(steps)]
        pieces += cutter.take(whole[at : at + step])
        at, n = at + step, n + 1
    assert b"".join(pieces) == whole
    for piece in pieces:
        frames = 0
        while piece:
            _, length = struct.unpack_from(">BxxxI", piece)
            assert len(piece) >= 8 + length
            piece, frames = piece[8 + length :], frames + 1
        assert frames == 1 or len(b"".join(pieces[:1])) <= max(limit, 68)
    assert cutter.rest() == []


def test_a_terminals_bytes_become_a_frame_per_line() -> None:
    cutter = FrameCutter(is_tty=True, details=False, limit=1000)
    assert cutter.take(TIME + b" a\r\n" + TIME) == [frame(TIME + b" a\r\n")]
    assert cutter.take(b" $ ") == []
    assert cutter.rest() == [frame(TIME + b" $ ")]


def test_a_terminals_endless_line_is_cut_and_keeps_its_time() -> None:
    cutter = FrameCutter(is_tty=True, details=True, limit=1000)
    first = TIME + b" a=b " + b"x" * 70_000
    assert cutter.take(first) == [frame(first)]
    assert cutter.take(b"y\n") == [frame(TIME + b" a=b y\n")]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=9))
def test_lines_of_an_engine_without_details_are_read_as_such(texts: list[tuple[int, bytes]]) -> None:
    told = with_empty_details(b"".join(frame(TIME + b" " + text, stream) for stream, text in texts))
    said = LineWriter(ORIGIN, Style(details=True)).write(told)
    assert said == b"".join(frame(CONTEXT + b" " + text, stream) for stream, text in texts)


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="not framed"):
        FrameCutter(is_tty=False, details=False, limit=10).take(b"2026-11-24T23:05:06")


@pytest.mark.parametrize(
    ("style", "said", "expected"),
    [
        (Style(), b"", frame(b"hello  you\n", 2)),
        (Style(timestamps=True), b"", frame(TIME + b" hello  you\n", 2)),
        (Style(details=True), b" ", frame(CONTEXT + b" hello  you\n", 2)),
        (
            Style(timestamps=True, details=True),
            b"aa=x+y ",
            frame(TIME + b" aa=x+y," + CONTEXT + b" hello  you\n", 2),
        ),
        (Style(details=True, is_raw=True), b" ", CONTEXT + b" hello  you\n"),
    ],
)
def test_lines_have_dockers_form(style: Style, said: bytes, expected: bytes) -> None:
    writer = LineWriter(ORIGIN, style)
    line = frame(TIME + b" " + said + b"hello  you\n", 2)
    assert writer.write(line) == expected
    assert writer.write(line + line) == expected + expected
    assert writer.last_time == TIME


def test_a_node_has_no_say_in_where_a_line_comes_from() -> None:
    forged = b"com.docker.swarm.task.id=other,com%2Edocker.swarm.node.id=other,zz=%2C"
    assert context(ORIGIN, forged) == CONTEXT + b",zz=%2C"


@pytest.mark.parametrize(
    "frames",
    [
        b"\x01\x00\x00",
        frame(b"notime"),
        frame(b" x", 3),
        frame(TIME + b" x")[:-1],
        struct.pack(">BxxxI", 1, 2**32 - 1) + b"a b",
    ],
)
def test_what_a_node_may_not_send_is_refused(frames: bytes) -> None:
    with pytest.raises(Invalid):
        LineWriter(ORIGIN, Style()).write(frames)
    with pytest.raises(Invalid):
        LineWriter(ORIGIN, Style(details=True)).write(frame(TIME + b" nodetails"))


def test_details_without_end_are_refused() -> None:
    writer = LineWriter(ORIGIN, Style(details=True))
    with pytest.raises(Invalid, match="details of 65537 bytes, 65536 may be"):
        writer.write(frame(TIME + b" " + b"a" * 65_537 + b" text\n"))


def test_a_warning_can_be_read_by_the_docker_client() -> None:
    assert warning(ORIGIN, Style(details=True), "a\nb", 0.0) == frame(CONTEXT + b" skep: a b\n", 2)
    shown = warning(ORIGIN, Style(timestamps=True, details=True), "a", 0.5)
    assert shown == frame(b"1970-01-01T00:00:00.500000000Z " + CONTEXT + b" skep: a\n", 2)
    assert warning(ORIGIN, Style(is_raw=True), "a", 0.0) == b"skep: a\r\n"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (b"1970-01-01T00:00:01.000000000Z", "1.000000001"),
        (b"1970-01-01T00:00:01.999999999Z", "2.000000000"),
        (b"1970-01-01T02:00:01.5+02:00", "1.500000001"),
    ],
)
def test_what_was_read_is_not_asked_for_again(time: bytes, expected: str) -> None:
    assert after(time) == expected


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid):
        after(b"yesterday")
    assert stamp(1_000_000_000.25) == b"2001-09-09T01:46:40.250000000Z"
