"""`wrk`, a load on web servers: its command, and what it says in the end, read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
PACE = Path(__file__).with_name("wrk_pace.lua")
CLOSES = ("-H", "Connection: close")  # a new connection for each request


class Said(Struct, frozen=True):
    """What a run came to. `refused` are connections that were not made, `broken` those that ended within a
    request or between two, `late` requests that had no answer in time, `others` answers that are none of
    200 to 399."""

    requests: int
    per_second: float
    p99_ms: float
    refused: int = 0
    broken: int = 0
    late: int = 0
    others: int = 0

    @property
    def failed(self) -> int:
        return self.refused + self.broken + self.late + self.others


def command(
    url: str, duration_s: int, *, keeps: bool = True, is_paced: bool = False, wrk: str = "wrk"
) -> list[str]:
    """A SIGINT ends it earlier, and it says what it has. `is_paced`: a load that leaves a machine to others."""
    options = ["-t1", "-c4", f"-d{duration_s}s", "--latency", "--timeout", "5s"]
    options += ["-s", str(PACE)] if is_paced else []
    return [wrk, *options, *(() if keeps else CLOSES), url]


def read(text: str) -> Said:
    """Reads what `wrk --latency` prints. Raises ValueError where it is something else."""
    found = re.search(r"^\s*(\d+) requests in ", text, re.M)
    speed = re.search(r"^Requests/sec:\s*([\d.]+)", text, re.M)
    slowest = re.search(r"^\s*99%\s*([\d.]+)(us|ms|s|m)\s*$", text, re.M)
    if found is None or speed is None or slowest is None:
        raise ValueError(f"wrk said: {text!r}")
    p99_ms = float(slowest[1]) * _UNITS_MS[slowest[2]]
    return Said(int(found[1]), float(speed[1]), p99_ms, *_errors(text))


def _errors(text: str) -> Sequence[int]:
    """Returns refused, broken, late and other answers; wrk has a line of them only where there are some."""
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    connect, read, write, timeout = map(int, sockets.groups()) if sockets else (0, 0, 0, 0)
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return connect, read + write, timeout, int(others[1]) if others else 0
