"""InfluxDB's line protocol, as Telegraf, InfluxDB 1 to 3 and VictoriaMetrics read it. Pure.

swarm_node,node_hostname=w\\ 1,node_id=8x0b cpu_shares=4000000000i,memory=8589934592i 1796076000000000000
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from skep.monitor.points import FieldValue, Point

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1  # what a database keeps; one beyond it refuses the line
_IN_MEASUREMENT = str.maketrans({",": "\\,", " ": "\\ "})
_IN_TAGS = str.maketrans({",": "\\,", " ": "\\ ", "=": "\\="})
# No reader takes them within a line, escaped or not: they are written as Python and Go show them.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x85: "\\x85",  # these three are ends of a line to some readers of UTF-8
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def lines_of(points: Iterable[Point], at: int) -> list[bytes]:
    """Returns a line per point, without its end, all at the time `at` (since the epoch, in nanoseconds or
    what the reader was told). What cannot be written is left out: a tag without a value, a number that is
    none, a point without numbers."""
    return [line for point in points if (line := _line(point, at))]


def _line(point: Point, at: int) -> bytes:
    fields = ",".join(
        f"{_escaped(name, _IN_TAGS)}={text}"
        for name, value in point.fields.items()
        if (text := _number(value))
    )
    if not fields:
        return b""
    head = _escaped(point.measurement, _IN_MEASUREMENT)
    for name, value in sorted(point.tags.items()):  # sorted: so the database need not
        if text := _escaped(value, _IN_TAGS):
            head += f",{_escaped(name, _IN_TAGS)}={text}"
    return f"{head} {fields} {at}".encode(errors="replace")


def _escaped(text: str, table: dict[int, str]) -> str:
    """A backslash at the end would escape what comes after the text, and nothing can escape it: it goes."""
    return text.translate(_CONTROL).rstrip("\\").translate(table)


def _number(value: FieldValue) -> str:
    if isinstance(value, int):
        return f"{min(max(value, INT_MIN), INT_MAX)}i"
    return repr(value) if math.isfinite(value) else ""
