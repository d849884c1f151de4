"""Texts that a node says, and how those are shown that cannot be. Pure."""

from __future__ import annotations

import re

from skep.runtime.errors import Invalid

SHOWN_MAX = 100  # characters of what was wrong that are repeated

# What ends a line, moves a cursor or turns the direction of writing round. A tab does no harm.
_CONTROL = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
WORD = re.compile("[!-~]*")  # ASCII without spaces
PLAIN = re.compile("[A-Za-z0-9._/-]*")
ID = re.compile("[A-Za-z0-9._-]*")


def check_text(what: str, text: str, max_bytes: int) -> None:
    """Checks a text that people read: it may have any letters, but nothing that does something."""
    size = len(text.encode())
    if size > max_bytes:
        raise Invalid(f"{what} has {size} bytes, {max_bytes} may be")
    if _CONTROL.search(text) is not None:
        raise Invalid(f"{what} holds control characters: {shown(text)}")


def check_word(what: str, text: str, pattern: re.Pattern[str], max_bytes: int) -> None:
    """Checks a word of ASCII."""
    if len(text) > max_bytes or pattern.fullmatch(text) is None:
        raise Invalid(f"{what} is {shown(text)}, which cannot be ({max_bytes} characters of ASCII at most)")


def shown(value: object) -> str:
    """Returns what was wrong as it may be logged and shown: its begin, quoted, in ASCII."""
    text = ascii(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
