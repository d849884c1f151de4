"""What was told lately, for whoever was away for a moment: a bounded number of pieces, each there once.
Pure."""

from __future__ import annotations

from collections import deque

from skep.runtime.packing import packed


class Piece:
    """Something that is told, as bytes; `id` names the state behind it, empty: as before."""

    __slots__ = ("_packed", "data", "id")

    def __init__(self, data: bytes, id: str = "", packed: bytes | None = None) -> None:
        self.data = data
        self.id = id
        self._packed = packed

    @property
    def packed(self) -> bytes:
        """Returns it for a compressed stream: made for the first who asks, and there for all."""
        if self._packed is None:
            self._packed = packed(self.data)
        return self._packed


class Tape:
    """Pieces have positions, counted from 0; who has read up to `end` has read all. `start_id` names the
    state before the first piece."""

    def __init__(self, start_id: str, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._pieces: deque[Piece] = deque()
        self._bytes = 0
        self._start_id = start_id  # of the state before the oldest piece that is kept
        self.end = 0

    @property
    def begin(self) -> int:
        """Returns the position of the oldest piece that is kept."""
        return self.end - len(self._pieces)

    def put(self, piece: Piece) -> None:
        """Adds a piece; the oldest go where there are too many."""
        self._pieces.append(piece)
        self._bytes += len(piece.data)
        self.end += 1
        while len(self._pieces) > self._most or (self._bytes > self._most_bytes and len(self._pieces) > 1):
            gone = self._pieces.popleft()
            self._bytes -= len(gone.data)
            self._start_id = gone.id or self._start_id

    def at(self, position: int) -> Piece | None:
        """Returns the piece at a position; None where there is none yet, or no more."""
        if not self.begin <= position < self.end:
            return None
        return self._pieces[position - self.begin]

    def behind(self, id: str) -> int | None:
        """Returns the position to go on at for who has the state of that id; None where nobody knows it."""
        for back, piece in enumerate(reversed(self._pieces)):
            if piece.id == id:
                return self.end - back
        return self.begin if id == self._start_id else None
