"""The `filters` query parameter: JSON, either {"name": ["a"]} or the Go clients' {"name": {"a": true}}."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from aiohttp import web

from skep.runtime.errors import Invalid, SkepError

Filters = dict[str, list[str]]


class BadFilterValue(SkepError):
    """A value that the filter does not know: Docker answers 500, not 400."""


def parse_filters(request: web.Request, accepted: frozenset[str] | None) -> Filters:
    """Returns the filters by name; without `accepted`, all of them.

    Errors: `Invalid` for a name that is not accepted, or bad JSON (20.10 mostly has 500).
    """
    text = request.query.get("filters", "")
    if not text:
        return {}
    try:
        decoded = msgspec.json.decode(text, type=dict[str, list[str] | dict[str, bool]])
    except msgspec.MsgspecError as error:
        raise Invalid(f"invalid filters {text[:200]!r}: {error}") from error
    found: Filters = {}
    for name, values in decoded.items():
        if accepted is not None and name not in accepted:
            raise Invalid(f"invalid filter '{name}'")
        given = [v for v, on in values.items() if on] if isinstance(values, dict) else values
        found[name] = list(dict.fromkeys(given))  # each object is held against each of them
    return found


def known_values(filters: Filters, name: str, known: Collection[str]) -> list[str]:
    """Returns a filter's values in lower case, as they are in `known`, and without empty ones, which ask for
    nothing (moby's daemon/cluster/filters.go). Errors: `BadFilterValue` for another value."""
    given = filters.get(name, [])
    for value in given:
        if value and value.lower() not in known:
            raise BadFilterValue(f"Invalid {name} filter: '{value}'")
    return [value.lower() for value in given if value]


def matches_any(wanted: list[str], value: str) -> bool:
    """True where nothing is asked for, or `value` begins with something asked for."""
    return not wanted or value.startswith(tuple(wanted))


def matches_labels(wanted: list[str], labels: dict[str, str]) -> bool:
    """True where every `key` or `key=value` asked for is there."""
    for each in wanted:
        key, has_value, value = each.partition("=")
        if key not in labels or (has_value and labels[key] != value):
            return False
    return True


def spec_labels(wanted: list[str]) -> list[str]:
    """Returns what `matches_labels` is to ask for of what has a spec: there an empty value is any value, as
    SwarmKit has it; networks and events are others' to filter."""
    pairs = (each.partition("=") for each in wanted)
    return [f"{key}={value}" if value else key for key, _, value in pairs]
