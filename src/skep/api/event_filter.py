"""Which events a client asked for: Docker's rules (Engine API 1.51; moby's daemon/events/filter)."""

from __future__ import annotations

from skep.api.filters import BadFilterValue, Filters, matches_any, matches_labels
from skep.model.event import TASK, Event

# Of these, a value is the beginning of the object's id or name, whatever the event's type.
_NAMED = ("service", "node", "secret", "config", "network", "container", "daemon", "plugin", "volume")
_EXACT = ("type", "event", "scope")
SECOND_NS = 1_000_000_000


def wants_tasks(filters: Filters) -> bool:
    """Events of tasks are only for who names their type: no client of Docker's knows them."""
    return TASK in filters.get("type", ())


def passes(event: Event, filters: Filters) -> bool:
    """Values of one filter are alternatives, filters add up; a name Docker does not know filters nothing."""
    if event.type == TASK and not wants_tasks(filters):
        return False
    own = {"type": event.type, "event": event.action, "scope": "swarm"}
    name = event.attributes.get("name", "")
    if any(own[each] not in filters[each] for each in _EXACT if each in filters):
        return False
    if "image" in filters and event.id not in filters["image"]:
        return False
    for kind in _NAMED:
        wanted = filters.get(kind, [])
        values = (event.id, name)
        if event.type == TASK and kind in ("service", "node"):
            values = (event.attributes.get(kind, ""), event.attributes.get(f"{kind}.name", ""))
        if not any(matches_any(wanted, value) for value in values):
            return False
    return matches_labels(filters.get("label", []), event.attributes)


def parse_time(text: str) -> int | None:
    """Returns nanoseconds of `seconds[.fraction]`; None for no time at all. Clients convert all other forms.

    Errors: `BadFilterValue` in Go's words: Docker answers 500.
    """
    if not text:
        return None
    whole, dot, fraction = text.partition(".")
    seconds = _int64(whole)
    return seconds * SECOND_NS + (int(_digits(fraction)[:9].ljust(9, "0")) if dot else 0)


def show_time(at_ns: int) -> str:
    """Returns what `parse_time` reads."""
    return f"{at_ns // SECOND_NS}.{at_ns % SECOND_NS:09d}"


def _int64(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    _digits(digits, text)
    value = int(text) if len(text) < 25 else 1 << 70
    if not -(1 << 63) <= value < 1 << 63:
        raise BadFilterValue(f'strconv.ParseInt: parsing "{text[:100]}": value out of range')
    return value


def _digits(text: str, whole: str | None = None) -> str:
    if not (text.isascii() and text.isdigit()):
        shown = text if whole is None else whole
        raise BadFilterValue(f'strconv.ParseInt: parsing "{shown[:100]}": invalid syntax')
    return text
