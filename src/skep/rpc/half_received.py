"""What is held of frames that have not come whole: how much, since when, and whose is to be cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from msgspec import Struct

# Over all nodes: two of the largest frames there are; the first words of 2,300 nodes are 5 MB.
NODES_MAX_BYTES = 32 << 20
# Over all strangers: 2,300 that enrol at once say 2 kB each, and most of that comes whole.
STRANGERS_MAX_BYTES = 4 << 20
FRAME_S = 60.0  # 16 MB over a line of 2.5 Mbit/s, the slowest that can feed a node so large

L = TypeVar("L", bound=Hashable)  # a connection


class _Half(Struct):
    owner: str
    size: int
    since: float


class HalfReceived(Generic[L]):
    """Connections of one kind, and who each belongs to. Pure: times are arguments."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._halves: dict[L, _Half] = {}  # the oldest first
        self._by_owner: Counter[str] = Counter()
        self._size = 0

    def hold(self, link: L, owner: str, size: int, now: float, is_new: bool) -> L | None:
        """So many bytes of a frame are held for it; `is_new`: of another frame than before. Returns whose
        are to be let go of where that is too much: the longest of the owner who has most."""
        known = self._halves.get(link)
        if known is not None and (is_new or not size):
            self.forget(link)
            known = None
        if not size:
            return None
        if known is None:
            known = self._halves[link] = _Half(owner, 0, now)
        self._by_owner[owner] += size - known.size
        self._size += size - known.size
        known.size = size
        if self._size <= self._max_bytes:
            return None
        most, _ = self._by_owner.most_common(1)[0]
        theirs = (other for other, half in self._halves.items() if half.owner == most)
        return max(theirs, key=lambda other: self._halves[other].size)

    def forget(self, link: L) -> None:
        """Nothing is held for it any more."""
        known = self._halves.pop(link, None)
        if known is not None:
            self._size -= known.size
            self._by_owner[known.owner] -= known.size
            if not self._by_owner[known.owner]:
                del self._by_owner[known.owner]

    def late(self, now: float) -> list[L]:
        """Returns those whose frame has been on its way for too long."""
        found = []
        for link, half in self._halves.items():
            if now - half.since < FRAME_S:
                break
            found.append(link)
        return found
