"""Durations on a command line, as Go's programs take them."""

from __future__ import annotations

import re

import click

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)", re.ASCII)


class Duration(click.ParamType[float]):
    """Seconds, written like 5s, 500ms, 1m30s; at least `min_s`."""

    name = "duration"

    def __init__(self, min_s: float = 1e-3) -> None:
        self._min_s = min_s

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = _PART.findall(str(value))
        found = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != value:
            self.fail(f"'{value}' is no duration: write 5s, 500ms or 1m30s", param, ctx)
        if found < self._min_s:
            self.fail(f"{value} is too short: at least {self._min_s:g}s", param, ctx)
        return float(found)
