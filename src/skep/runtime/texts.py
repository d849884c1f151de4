"""Texts of others, as they may be stored and shown."""

from __future__ import annotations


def printable(text: str, max_bytes: int) -> str:
    """Returns the text on one line, without what a terminal takes for a command, cut to so many bytes."""
    one_line = "".join(each if each.isprintable() else " " for each in text)
    return one_line.encode(errors="replace")[:max_bytes].decode(errors="ignore")
