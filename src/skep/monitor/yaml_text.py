"""Files of YAML, written for people and programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

Value = str | int | bool | Sequence["Value"] | Mapping[str, "Value"]

# What no YAML takes for something else than this text: no number, no truth value, no mark.
_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9_./:@-]*(?<!:)")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def yaml_of(value: Mapping[str, Value], says: str = "") -> str:
    """Returns it as YAML; `says` is a comment's lines above it. Texts hold no line breaks."""
    comment = [f"# {line}".rstrip() for line in says.splitlines()]
    return "\n".join([*comment, *_lines(value)]) + "\n"


def _lines(value: Mapping[str, Value] | Sequence[Value]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _entry(f"{_text(name)}:", each, "  ")
    else:
        for each in value:
            if isinstance(each, Mapping) and each:
                first, *rest = _lines(each)
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
            else:
                yield from _entry("-", each, "  ")


def _entry(head: str, value: Value, indent: str) -> Iterator[str]:
    if isinstance(value, str):
        yield f"{head} {_text(value)}"
    elif isinstance(value, bool):
        yield f"{head} {'true' if value else 'false'}"
    elif isinstance(value, int):
        yield f"{head} {value}"
    elif not value:
        yield f"{head} {'{}' if isinstance(value, Mapping) else '[]'}"
    else:
        yield head
        yield from (indent + line for line in _lines(value))


def _text(text: str) -> str:
    assert "\n" not in text, text
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return "'" + text.replace("'", "''") + "'"
