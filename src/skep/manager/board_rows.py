"""Objects at places in a list that others refer to by number: each keeps its own as long as it is there.
Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import msgspec

NOBODY = b"null"
_encode = msgspec.json.Encoder().encode


class BoardRows:
    """`rows` are as they were told last, encoded: who tells all of them has nothing to encode. A place that
    is free is given again, so that there are never more than there were objects at once."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.names: list[str] = []  # whose place it is, or was
        self._places: dict[str, int] = {}
        self._free: list[int] = []
        self._news: dict[int, bytes] = {}

    def index(self, name: str) -> int:
        """Returns an object's place; a new one's row is nobody's at first."""
        found = self._places.get(name)
        if found is None:
            if self._free:
                found = heapq.heappop(self._free)
                self.names[found] = name
            else:
                found = len(self.rows)
                self.rows.append(NOBODY)
                self.names.append(name)
            self._places[name] = found
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def put(self, name: str, row: object) -> None:
        """Has that row told, where it is another one; None: nobody's."""
        self._put(self.index(name), _encode(row))

    def drop(self, name: str) -> None:
        """The object is gone, and its place is free."""
        place = self._places.pop(name, None)
        if place is not None:
            self._put(place, NOBODY)
            heapq.heappush(self._free, place)

    def news(self) -> dict[int, bytes]:
        """Returns the rows that are other than when this was asked last, by place."""
        news, self._news = self._news, {}
        return news

    def _put(self, place: int, row: bytes) -> None:
        if self.rows[place] != row:
            self.rows[place] = self._news[place] = row


def pairs_of(news: dict[int, bytes]) -> bytes:
    """Returns a list of places and what is there, as JSON."""
    return b"[" + b",".join(b"[%d,%b]" % each for each in sorted(news.items())) + b"]"


def list_of(rows: Iterable[bytes]) -> bytes:
    """Returns a list of what is JSON already."""
    return b"[" + b",".join(rows) + b"]"
