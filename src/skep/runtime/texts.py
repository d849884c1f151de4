"""Texts of others, as they may be stored and shown."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Returns the text with a space for each character that a terminal takes for a command; ends of lines
    stay."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text)


def printable(text: str, max_bytes: int) -> str:
    """Returns the text on one line, without what a terminal takes for a command, cut to so many bytes."""
    one_line = harmless(text).replace("\n", " ")
    return one_line.encode(errors="replace")[:max_bytes].decode(errors="ignore")
