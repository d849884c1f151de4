"""Base64 as Go reads it (encoding/base64), which says at which byte it stops being some. Pure."""

from __future__ import annotations

import base64
import re

from skep.runtime.errors import Invalid

_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_WHOLE = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_PAD = ord("=")
_SKIPPED = b"\r\n"


def decode_base64(text: str) -> bytes:
    """Returns the bytes; ends of lines do not count. Errors: `Invalid`, in Go's words, with the place in the
    UTF-8 form of the text."""
    raw = text.encode()
    plain = raw.translate(None, _SKIPPED)
    if _WHOLE.fullmatch(plain) is None:
        raise Invalid(f"illegal base64 data at input byte {_first_wrong(raw)}")
    return base64.b64decode(plain)


def _first_wrong(raw: bytes) -> int:
    """Returns the place that Go names: of what is there and should not be, or where more should come."""
    at, quantum = 0, 0
    while at < len(raw):
        each = raw[at]
        at += 1
        if each in _ALPHABET:
            quantum = (quantum + 1) % 4
        elif each not in _SKIPPED:
            return at - 1 if each != _PAD or quantum < 2 else _after_padding(raw, at, quantum)
    return at - quantum


def _after_padding(raw: bytes, at: int, quantum: int) -> int:
    """Returns the same where the first `=` of an end was just read."""
    if quantum == 2:
        at = _next(raw, at)
        if at == len(raw):
            return at
        if raw[at] != _PAD:
            return at - 1
        at += 1
    return _next(raw, at)


def _next(raw: bytes, at: int) -> int:
    while at < len(raw) and raw[at] in _SKIPPED:
        at += 1
    return at
