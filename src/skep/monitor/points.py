"""What time-series databases are told: points, as values."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

FieldValue = int | float


class Point(Struct, frozen=True):
    """Numbers (`fields`) of one thing, which `tags` name. An integer and a float of one name are two types to
    a database, which refuses the second: a field keeps its type for ever. No tag has a field's name."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, FieldValue]


class Gathered(Struct, frozen=True):
    """The points of one moment; `left_out` says in a sentence what of them cannot be known now."""

    points: list[Point]
    left_out: str = ""
