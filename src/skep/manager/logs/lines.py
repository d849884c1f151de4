"""Log lines as Docker's clients want them, from those that a node sends. Pure.

A node's frames hold `time text` or `time details text`. What a line is said to come from is the manager's
word, never the node's: a node may name what its log drivers add, and no task but those it was asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_plus, unquote_plus

from msgspec import Struct

from skep.rpc.log_frames import HEADER
from skep.runtime.errors import Invalid

STDOUT, STDERR = 1, 2
NODE, SERVICE, TASK = (f"com.docker.swarm.{kind}.id" for kind in ("node", "service", "task"))
DETAILS_MAX_BYTES = 64 << 10  # of one line: labels and variables that a log driver is told to add
CONTEXTS_MAX = 16  # per task: what a log driver says of a line is the same for all lines of a container


class Origin(Struct, frozen=True):
    """Where a line comes from, as the details say it."""

    node_id: str
    service_id: str
    task_id: str


class Style(Struct, frozen=True):
    """How the reader wants lines. `is_raw`: without frames, as a terminal's output goes."""

    timestamps: bool = False
    details: bool = False
    is_raw: bool = False


class LineWriter:
    """One task's lines."""

    def __init__(self, origin: Origin, style: Style) -> None:
        self._origin = origin
        self._style = style
        self._contexts: dict[bytes, bytes] = {}
        self.last_time = b""  # of the last line

    def write(self, frames: bytes) -> bytes:
        """Returns the lines of whole frames. Errors: `Invalid` for what is no such thing."""
        style, parts = self._style, []
        at, end = 0, len(frames)
        while at < end:
            if end - at < HEADER.size:
                raise Invalid("log lines end in the middle of a frame")
            stream, length = HEADER.unpack_from(frames, at)
            start = at + HEADER.size
            at = start + length
            text = frames.find(b" ", start, at) + 1
            if at > end or not text or stream not in (STDOUT, STDERR):
                raise Invalid("a log line is not framed, or has no time")
            self.last_time = frames[start : text - 1]
            head = frames[start:text] if style.timestamps else b""
            if style.details:
                said, text = text, frames.find(b" ", text, at) + 1
                if not text:
                    raise Invalid("a log line has no details")
                head += self._context(frames[said : text - 1])
            line = head + frames[text:at]
            if not style.is_raw:
                parts.append(HEADER.pack(stream, len(line)))
            parts.append(line)
        return b"".join(parts)

    def _context(self, said: bytes) -> bytes:
        found = self._contexts.get(said)
        if found is None:
            if len(said) > DETAILS_MAX_BYTES:
                raise Invalid(f"a log line has details of {len(said)} bytes, {DETAILS_MAX_BYTES} may be")
            if len(self._contexts) >= CONTEXTS_MAX:
                self._contexts.clear()
            found = self._contexts[said] = context(self._origin, said) + b" "
        return found


def context(origin: Origin, said: bytes = b"") -> bytes:
    """Returns a line's details, Docker's: attributes sorted, quoted as in a URL's query. `said` is what the
    log driver adds, in the same form; it has no say in where the line comes from."""
    found = {}
    for pair in said.decode(errors="replace").split(",") if said else ():
        name, _, value = pair.partition("=")
        found[unquote_plus(name)] = unquote_plus(value)
    found |= {NODE: origin.node_id, SERVICE: origin.service_id, TASK: origin.task_id}
    pairs = (f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(found.items()))
    return ",".join(pairs).encode()


def warning(origin: Origin, style: Style, text: str, now: float) -> bytes:
    """Returns a line on stderr that says what is missing of a task's, or its node's, lines."""
    head = stamp(now) + b" " if style.timestamps else b""
    if style.details:
        head += context(origin) + b" "
    line = head + f"skep: {text}".replace("\n", " ").encode() + (b"\r\n" if style.is_raw else b"\n")
    return line if style.is_raw else HEADER.pack(STDERR, len(line)) + line


def stamp(now: float) -> bytes:
    """Returns a time as Docker writes it before a line: RFC 3339 with nine digits, UTC."""
    seconds, nanos = divmod(int(now * 1e9), 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z".encode()


def after(time: bytes) -> str:
    """Returns the `since` that leaves a line of that time out, and all before it: `seconds.nanoseconds`.
    Errors: `Invalid`."""
    text = time.decode(errors="replace")
    try:
        whole, zone = (text[:-1], "+00:00") if text.endswith("Z") else (text[:-6], text[-6:])
        head, _, fraction = whole.partition(".")
        seconds = int(datetime.fromisoformat(head + zone).timestamp())
        nanos = int((fraction or "0").ljust(9, "0")[:9]) + 1
    except ValueError as error:
        raise Invalid(f"'{text[:64]}' is not the time of a log line") from error
    return f"{seconds + nanos // 1_000_000_000}.{nanos % 1_000_000_000:09d}"
