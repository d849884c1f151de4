"""Base64 as Go reads it (encoding/base64), which says at which byte it stops being some. Pure.

A body has some megabytes: each step here is one pass in C.
"""

from __future__ import annotations

import binascii
import re

from skep.runtime.errors import Invalid

_OUTSIDE = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_ENDS = re.compile(rb"[\r\n]*")
_PAD = ord("=")


def decode_base64(text: str) -> bytes:
    """Returns the bytes; ends of lines do not count. Errors: `Invalid`, in Go's words, with the place in the
    UTF-8 form of the text."""
    raw = text.encode()
    plain = raw.translate(None, b"\r\n")
    data = plain.rstrip(b"=")
    if len(plain) % 4 or len(plain) - len(data) > 2 or _OUTSIDE.search(data) is not None:
        raise Invalid(f"illegal base64 data at input byte {_first_wrong(raw)}")
    return binascii.a2b_base64(plain)


def _first_wrong(raw: bytes) -> int:
    """Returns the place that Go names: of what is there and should not be, or where more should come."""
    found = _OUTSIDE.search(raw)
    at = len(raw) if found is None else found.start()
    quantum = (at - raw.count(b"\r", 0, at) - raw.count(b"\n", 0, at)) % 4
    if found is None:
        return at - quantum
    if raw[at] != _PAD or quantum < 2:
        return at
    return _after_padding(raw, at + 1, quantum)


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
    ends = _ENDS.match(raw, at)
    return at if ends is None else ends.end()
