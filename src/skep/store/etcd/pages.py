"""How many keys are asked for at once, so that what comes has a bounded size.

etcd pages by keys only. Values of one kind are alike, and their keys random, so the mean so far says what is
to come; each kind begins anew, with so few keys that the largest values fit. Pure.
"""

from __future__ import annotations

from skep.model.bounds import VALUE_MAX_BYTES
from skep.store import codec

PAGE_BYTES = 4 << 20  # aimed at: 10 ms of etcd and of our loop
PAGE_KEYS_MAX = 4000  # the same, of the smallest values
MESSAGE_MAX_BYTES = 32 << 20  # a page that came larger than was thought; one of a single key is 2 MB
FIRST_KEYS = MESSAGE_MAX_BYTES // VALUE_MAX_BYTES // 2  # while nothing is known of the values to come
GROWTH = 4  # from one page to the next: who is wrong about the mean finds out early

_BORDERS = tuple(border.encode() for border in codec.BORDERS)


class Pages:
    """`keys` is how many to ask for next."""

    def __init__(self) -> None:
        self.keys = FIRST_KEYS
        self._until = b""
        self._count = self._bytes = 0  # of this kind, so far

    def until(self, start: bytes, end: bytes) -> bytes:
        """Returns where a page from `start` on has to end: before another kind's keys, or at `end`."""
        until = min((border for border in _BORDERS if start < border < end), default=end)
        if until != self._until:
            self._until = until
            self.keys, self._count, self._bytes = FIRST_KEYS, 0, 0
        return until

    def came(self, count: int, size_bytes: int) -> None:
        """A page of so many keys has come."""
        self._count += count
        self._bytes += size_bytes
        mean = max(size_bytes / count, self._bytes / self._count)
        self.keys = max(1, min(int(PAGE_BYTES / mean), GROWTH * self.keys, PAGE_KEYS_MAX))

    def shrink(self) -> bool:
        """The page was too large; False where it was of one key already."""
        can = self.keys > 1
        self.keys = max(1, self.keys // 4)
        return can
