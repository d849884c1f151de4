"""Which networks a client asks for (Engine API 1.51, `filters` of `/networks` and `/networks/prune`)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import msgspec

from skep.api.filters import BadFilterValue, Filters, matches_labels
from skep.api.network_objects import Json, network_json
from skep.runtime.errors import Invalid
from skep.store.view import View

_TRUE, _FALSE = ("true", "1"), ("false", "0")


def listed(view: View, filters: Filters) -> list[Json]:
    used = _used(view) if "dangling" in filters else frozenset()
    found = []
    for network in sorted(view.networks.values(), key=lambda n: n.spec.name):
        if network.is_predefined:
            continue
        shown = msgspec.to_builtins(network_json(network))
        assert isinstance(shown, dict)
        if fits(shown, filters, network.id in used):
            found.append(shown)
    return found


def _used(view: View) -> frozenset[str]:
    """Returns the networks that services are attached to."""
    found: set[str] = set()
    for service in view.services.values():
        task = service.spec.task_template
        found.update(each.target for each in task.networks or service.spec.networks)
    return frozenset(found)


def check_filters(filters: Filters) -> None:
    for value in filters.get("type", []):
        if value not in ("builtin", "custom"):
            raise BadFilterValue(f"invalid filter: 'type'='{value}'")
    for value in filters.get("dangling", []):
        if value not in (*_TRUE, *_FALSE):
            raise Invalid(
                'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
            )


def fits(network: Json, filters: Filters, is_used: bool) -> bool:
    """True where a network passes: values of one filter are alternatives, filters add up."""
    labels = network.get("Labels") or {}
    dangling = filters.get("dangling", [])
    return (
        _in(filters.get("driver"), network["Driver"])
        and _in(filters.get("scope"), "swarm")
        and _in(filters.get("type"), "custom")
        and _matches(filters.get("id"), network["Id"])
        and _matches(filters.get("name"), network["Name"])
        and matches_labels(filters.get("label", []), labels)
        and (not dangling or any((each in _TRUE) != is_used for each in dangling))
    )


def _in(wanted: list[str] | None, value: str) -> bool:
    return not wanted or value in wanted


def _matches(wanted: list[str] | None, value: str) -> bool:
    """Part of the value, from its begin where `^` says so, to its end where `$` does (of Go's patterns only
    these: another's pattern must not hold up the leader)."""
    return not wanted or any(_matches_one(each, value) for each in wanted)


def _matches_one(pattern: str, value: str) -> bool:
    inner = pattern.removeprefix("^").removesuffix("$")
    begins, ends = pattern.startswith("^"), pattern.endswith("$")
    if begins and ends:
        return value == inner
    if begins:
        return value.startswith(inner)
    return value.endswith(inner) if ends else inner in value


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def until_of(filters: Filters) -> float:
    """Returns the moment before which something was made to be pruned; 0.0: always. Errors: `Invalid`."""
    values = filters.get("until", [])
    if not values:
        return 0.0
    if len(values) > 1:
        raise Invalid("more than one until filter specified")
    text = values[0]
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() - sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f'until filter "{text}" is neither a time nor a duration') from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
