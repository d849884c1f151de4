"""What is to be written and could not be yet: bounded in bytes, the oldest goes first. Pure."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

BATCH_LINES = 5000  # what InfluxDB's makers advise; a gather of 2,300 nodes is one
# Compressed, a gather of 2,300 nodes is 110 kB, one of 50 nodes 3 kB: that is 25 minutes, or 15 hours.
BUFFER_BYTES = 16 << 20
_OVERHEAD_BYTES = 200  # of the objects that hold a batch
_LEVEL = 5  # half the time of gzip's own default, for 3 % more bytes


class Batch(Struct, frozen=True):
    """A write: its body as it is sent (gzip of lines), and how many points are in it."""

    body: bytes
    points: int

    @property
    def held_bytes(self) -> int:
        return len(self.body) + _OVERHEAD_BYTES


def batches_of(lines: Sequence[bytes]) -> list[Batch]:
    """Returns the lines, in order, as writes."""
    return [_batch(lines[at : at + BATCH_LINES]) for at in range(0, len(lines), BATCH_LINES)]


def halves(batch: Batch) -> list[Batch]:
    """Returns two writes in its place; none where there is one line only."""
    lines = gzip.decompress(batch.body).splitlines()
    middle = len(lines) // 2
    return [_batch(lines[:middle]), _batch(lines[middle:])] if middle else []


def _batch(lines: Sequence[bytes]) -> Batch:
    return Batch(gzip.compress(b"\n".join(lines) + b"\n", _LEVEL, mtime=0), len(lines))


class WriteBuffer:
    """One batch at a time is taken out, to be written; it counts until it is settled."""

    def __init__(self, max_bytes: int = BUFFER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Batch] = deque()
        self._taken: Batch | None = None
        self._bytes = 0

    @property
    def points(self) -> int:
        """Returns how many points wait, those that are being written included."""
        return sum(each.points for each in self._waiting) + (self._taken.points if self._taken else 0)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def add(self, batches: Sequence[Batch]) -> int:
        """Returns how many points had to go for them: the oldest that wait."""
        for batch in batches:
            self._waiting.append(batch)
            self._bytes += batch.held_bytes
        return self._cut()

    def take(self) -> Batch | None:
        """Returns the oldest batch, or the one that was taken and is not settled; None: there is none."""
        if self._taken is None and self._waiting:
            self._taken = self._waiting.popleft()
        return self._taken

    def settle(self, *instead: Batch) -> int:
        """The one that was taken is done with; `instead` come in its place. Returns as `add`."""
        if self._taken is not None:
            self._bytes -= self._taken.held_bytes
            self._taken = None
        self._waiting.extendleft(reversed(instead))
        self._bytes += sum(each.held_bytes for each in instead)
        return self._cut()

    def _cut(self) -> int:
        gone = 0
        while self._bytes > self._max_bytes and self._waiting:
            oldest = self._waiting.popleft()
            self._bytes -= oldest.held_bytes
            gone += oldest.points
        return gone
