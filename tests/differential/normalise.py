"""What differs between any two swarms (ids, times, addresses, keys) becomes a name for it.

Ids are replaced by what they are the id of: `<service web>`, `<task web.1>`, `<node>`. So one that is the wrong
object's still shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Name = Callable[[str], str]
"""Takes what looks like an id, or its first 12 characters, and returns what it is, or the same text."""

_ID = re.compile(r"\b(?:[0-9a-z]{25}|[0-9a-z]{12})\b")
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}"), "<token>"),
    (re.compile(r"SWMKEY-1-[A-Za-z0-9+/]{43}"), "<unlock key>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\bMFkwEwYH[A-Za-z0-9+/]+=*"), "<public key>"),
    (re.compile(r"-----BEGIN (\w+)-----[^-]+-----END \w+-----"), r"<\1>"),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| \+0000 utc| ?[+-]\d\d:?\d\d(?: UTC)?)"
        ),
        "<time>",
    ),
    (
        re.compile(r"(?:Less than a|About an?|\d+) (?:second|minute|hour)s?( ago)?", re.IGNORECASE),
        r"<while>\1",
    ),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "<address>"),
    (re.compile(r"\b(?:3[01]\d{3}|32[0-7]\d{2})\b"), "<port>"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
    # A race of 20.10's client after a start that failed: its question for the exit code is refused, or not.
    (re.compile(r'\n?time="<time>" level=error msg="error waiting for container: context canceled"\n?'), ""),
    (re.compile(r" {2,}"), "  "),
)
_MEMBERS = {
    "Index": "<version>",
    "com.docker.network.driver.overlay.vxlanid_list": "<vxlan id>",
    "PID": "<pid>",
    "time": "<time>",
    "timeNano": "<time>",
}


def normal_text(text: str, name: Name) -> str:
    for pattern, replacement in _TEXTS[:-5]:
        text = pattern.sub(replacement, text)
    text = _ID.sub(lambda found: name(found.group()), text)
    for pattern, replacement in _TEXTS[-5:]:
        text = pattern.sub(replacement, text)
    return text


def normal_json(value: Any, name: Name) -> Any:
    """Returns it with the names in it, and lists of objects in an order that both sides share."""
    if isinstance(value, dict):
        return {
            normal_text(key, name): _MEMBERS[key]
            if key in _MEMBERS and not isinstance(value[key], dict | list)
            else normal_json(value[key], name)
            for key in value
        }
    if isinstance(value, list):
        items = [normal_json(item, name) for item in value]
        return sorted(items, key=_place) if items and isinstance(items[0], dict) else items
    if isinstance(value, str):
        return normal_text(value, name)
    if isinstance(value, int) and not isinstance(value, bool) and 30000 <= value <= 32767:
        return "<port>"
    return value


def _place(item: Any) -> tuple[str, str]:
    if not isinstance(item, dict):
        return "", str(item)
    spec = item.get("Spec")
    own = spec.get("Name") if isinstance(spec, dict) else None
    first = own or item.get("Name") or item.get("ID") or ""
    return str(first), json.dumps(item, sort_keys=True)


def normal_output(text: str, name: Name) -> Any:
    """What a client printed: JSON where it is that, else lines."""
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            return normal_json(json.loads(stripped), name)
        except ValueError:
            pass
    return normal_text(text, name).splitlines()
