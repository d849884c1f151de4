"""The engine's log streams, cut where a line ends. Pure.

A container without a terminal has frames (Docker's: stream, three zeros, length, content), one per message.
One with a terminal has plain bytes, in which every message begins with its time.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct(">BxxxI")
FRAME_MAX_BYTES = 1 << 20  # log drivers cut a line into messages of 16 kB; `local` may have longer ones
TTY_LINE_BYTES = 64 << 10  # a line of a terminal that is longer is passed on in pieces


def with_empty_details(frames: bytes) -> bytes:
    """Returns whole frames of lines with a time, each with details that say nothing."""
    parts, at = [], 0
    while at < len(frames):
        stream, length = HEADER.unpack_from(frames, at)
        start = at + HEADER.size
        at = start + length
        time, space, text = frames[start:at].partition(b" ")
        line = time + space + space + text
        parts.append(HEADER.pack(stream, len(line)) + line)
    return b"".join(parts)


class FrameCutter:
    """`take` gives pieces of whole frames, `limit` bytes at most where no single frame is longer."""

    def __init__(self, *, is_tty: bool, details: bool, limit: int) -> None:
        self._is_tty = is_tty
        self._fields = 2 if details else 1  # what comes before a line's text
        self._limit = limit
        self._buffer = b""

    def take(self, data: bytes) -> list[bytes]:
        """Returns what is whole by now. Errors: `ValueError` for what is not the engine's framing."""
        data = self._buffer + data
        if self._is_tty:
            return self._pieces(self._lines(data))
        pieces, start, at, end = [], 0, 0, len(data)
        while end - at >= HEADER.size:
            stream, length = HEADER.unpack_from(data, at)
            if stream > 2 or length > FRAME_MAX_BYTES:
                raise ValueError(f"the engine's log stream is not framed (stream {stream}, {length} bytes)")
            after = at + HEADER.size + length
            if after > end:
                break
            if after - start > self._limit and at > start:
                pieces.append(data[start:at])
                start = at
            at = after
        if at > start:
            pieces.append(data[start:at])
        self._buffer = data[at:]
        return pieces

    def rest(self) -> list[bytes]:
        """Returns what is left when the stream has ended."""
        data, self._buffer = self._buffer, b""
        return [HEADER.pack(1, len(data)) + data] if self._is_tty and data else []

    def _lines(self, data: bytes) -> list[bytes]:
        lines = data.split(b"\n")
        self._buffer = lines.pop()
        found = [line + b"\n" for line in lines]
        if len(self._buffer) > TTY_LINE_BYTES:
            found.append(self._buffer)
            self._buffer = self._prefix(self._buffer)
        return found

    def _prefix(self, line: bytes) -> bytes:
        """Returns a line's time (and details): the rest of the line begins with it as well."""
        return b"".join(field + b" " for field in line.split(b" ", self._fields)[: self._fields])

    def _pieces(self, lines: list[bytes]) -> list[bytes]:
        pieces: list[bytes] = []
        piece: list[bytes] = []
        size = 0
        for line in lines:
            frame = HEADER.pack(1, len(line)) + line
            if piece and size + len(frame) > self._limit:
                pieces.append(b"".join(piece))
                piece, size = [], 0
            piece.append(frame)
            size += len(frame)
        if piece:
            pieces.append(b"".join(piece))
        return pieces
