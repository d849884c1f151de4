"""Which machines `skep machine ls --filter` is about, in docker-machine's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from skep.machine.record import Machine
from skep.runtime.errors import Invalid

KEYS = ("driver", "label", "name", "state", "swarm")
PATTERN_CHARS_MAX = 200

Filters = dict[str, list[str]]


def parse_filters(texts: Sequence[str]) -> Filters:
    """Returns the values of each key. Errors: `Invalid`."""
    found: Filters = {}
    for text in texts:
        key, is_pair, value = text.partition("=")
        key = key.lower()
        if not is_pair or key not in KEYS:
            raise Invalid(f"--filter {text}: it is KEY=VALUE, and a KEY is one of {', '.join(KEYS)}")
        if key == "name":
            _pattern(value)
        found.setdefault(key, []).append(value)
    return found


def is_wanted(machine: Machine | str, filters: Filters) -> bool:
    """True where one value of each key is true of it, as far as that is known without asking anybody. One
    whose config cannot be read is its name."""
    is_known = isinstance(machine, Machine)
    name = machine.name if isinstance(machine, Machine) else machine
    if "swarm" in filters:  # of the swarm that Docker no longer has
        return False
    if "name" in filters and not any(_pattern(each).search(name) for each in filters["name"]):
        return False
    if not is_known:
        return "driver" not in filters and "label" not in filters
    assert isinstance(machine, Machine)
    drivers, labels = filters.get("driver", [machine.driver]), filters.get("label")
    return machine.driver.lower() in [each.lower() for each in drivers] and (
        labels is None or any(each in machine.engine.labels for each in labels)
    )


def is_state_wanted(state: str, filters: Filters) -> bool:
    """The same of what has to be asked for."""
    return "state" not in filters or state.lower() in [each.lower() for each in filters["state"]]


def _pattern(text: str) -> re.Pattern[str]:
    if len(text) > PATTERN_CHARS_MAX:
        raise Invalid(f"--filter name: it has more than {PATTERN_CHARS_MAX} characters")
    try:
        return re.compile(text)
    except re.error as error:
        raise Invalid(f"--filter name={text}: {error}") from error
