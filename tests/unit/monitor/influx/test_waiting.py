"""What waits for a database: in order, and never more than may."""

from __future__ import annotations

import gzip
import os

from skep.monitor.influx.waiting import BATCH_LINES, Batch, WriteBuffer, batches_of, halves


def batch(size: int, points: int = 1) -> Batch:
    return Batch(os.urandom(size), points)


def test_lines_are_cut_into_writes() -> None:
    lines = [f"m n={n}i 1".encode() for n in range(BATCH_LINES + 3)]
    found = batches_of(lines)
    assert [each.points for each in found] == [BATCH_LINES, 3]
    assert b"".join(gzip.decompress(each.body) for each in found) == b"".join(line + b"\n" for line in lines)
    assert batches_of([]) == []


def test_halves() -> None:
    (whole,) = batches_of([b"a n=1i", b"b n=1i", b"c n=1i"])
    first, second = halves(whole)
    assert (gzip.decompress(first.body), first.points) == (b"a n=1i\n", 1)
    assert (gzip.decompress(second.body), second.points) == (b"b n=1i\nc n=1i\n", 2)
    assert halves(first) == []


def test_the_oldest_goes_first_and_is_counted() -> None:
    buffer = WriteBuffer(10_000)
    gone = [buffer.add([batch(2000, n)]) for n in range(1, 8)]
    assert gone == [0, 0, 0, 0, 1, 2, 3]
    assert buffer.points == 4 + 5 + 6 + 7
    assert buffer.held_bytes <= 10_000
    first = buffer.take()
    assert first is not None
    assert first.points == 4


def test_what_is_being_written_stays_until_it_is_settled() -> None:
    buffer = WriteBuffer(10_000)
    buffer.add([batch(4000, 1), batch(4000, 2)])
    taken = buffer.take()
    assert buffer.add([batch(4000, 4)]) == 2  # not the one that was taken
    assert buffer.take() is taken
    assert buffer.points == 5
    buffer.settle()
    assert buffer.points == 4
    buffer.take()
    buffer.settle()
    assert buffer.take() is None
    assert buffer.held_bytes == 0


def test_halves_come_first() -> None:
    buffer = WriteBuffer()
    (whole,) = batches_of([b"a", b"b"])
    buffer.add([whole, batch(10, 7)])
    buffer.take()
    assert buffer.settle(*halves(whole)) == 0
    points = []
    while taken := buffer.take():
        points.append(taken.points)
        buffer.settle()
    assert points == [1, 1, 7]
    assert buffer.held_bytes == 0


def test_one_that_is_larger_than_all_that_may_wait_goes() -> None:
    buffer = WriteBuffer(1000)
    assert buffer.add([batch(5000, 9)]) == 9
    assert buffer.held_bytes == 0


def test_a_body_says_nothing_of_when_it_was_made() -> None:
    (one,), (two,) = batches_of([b"a"]), batches_of([b"a"])
    assert one.body == two.body  # tried again, it is the same write
