"""Server-sent events (WHATWG HTML, 9.2), written and read: what a page follows without asking again. Pure."""

from __future__ import annotations

from msgspec import Struct

from skep.runtime.errors import Invalid

BEAT = b":\n\n"  # says nothing but that the line stands


class SentEvent(Struct, frozen=True):
    """`id` is what its reader names to go on behind it; empty: that of the one before still holds."""

    event: str
    id: str
    data: bytes


def head_of(event: str, id: str = "") -> bytes:
    """Returns what comes before an event's data, which is one line, as JSON is."""
    told = f"event: {event}\n" + (f"id: {id}\n" if id else "")
    return told.encode() + b"data: "


TAIL = b"\n\n"  # what comes behind the data


def block(event: str, data: bytes, id: str = "") -> bytes:
    """Returns an event as it is sent."""
    return head_of(event, id) + data + TAIL


class SentEvents:
    """Reads events of whatever pieces they come in; `most_bytes` bounds one of them."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[SentEvent]:
        """Returns the events that are whole now. Errors: `Invalid`, of one that is too long."""
        looked = max(0, len(self._rest) - 1)
        self._rest += piece
        found = []
        while (end := self._rest.find(TAIL, looked)) >= 0:
            event = _read(bytes(self._rest[:end]))
            del self._rest[: end + len(TAIL)]
            looked = 0
            if event is not None:
                found.append(event)
        if len(self._rest) > self._most:
            raise Invalid(f"an event of more than {self._most} bytes was sent")
        return found


def _read(lines: bytes) -> SentEvent | None:
    """Returns None for a comment."""
    fields: dict[bytes, bytes] = {}
    data = []
    for line in lines.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name:
            fields[name] = value
    if not data:
        return None
    named = {name: fields.get(name, b"").decode(errors="replace") for name in (b"event", b"id")}
    return SentEvent(named[b"event"] or "message", named[b"id"], b"\n".join(data))
