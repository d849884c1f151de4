"""Ids as Docker writes them: 25 characters of base 36. Randomness comes in as an argument."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Callable

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = 25  # what SwarmKit's identity.NewID gives; 128 random bits fit
# One lookup gives three characters: a hundred thousand ids are made in one plan (3 MB; four would be 100).
_CHUNKS = [a + b + c for a in _DIGITS for b in _DIGITS for c in _DIGITS]
_BASE = len(_CHUNKS)

NewId = Callable[[], str]

_ID = re.compile(f"[{_DIGITS}]{{{_LENGTH}}}")
_HOSTNAME = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]*")  # never an option of a command
_NOT_OF_HOSTNAME = re.compile("[^A-Za-z0-9._-]")
HOSTNAME_MAX = 255  # DNS's; Linux has 64


def is_id(text: str) -> bool:
    """Returns whether it looks like an id of ours or of SwarmKit's; none leads to another place."""
    return _ID.fullmatch(text) is not None


def id_source(rng: random.Random) -> NewId:
    """Returns a function that makes a new id at each call, drawn from `rng`."""
    bits, chunks, base = rng.getrandbits, _CHUNKS, _BASE

    def new_id() -> str:
        n = bits(128)
        parts = []
        for _ in range(8):
            n, r = divmod(n, base)
            parts.append(chunks[r])
        return "".join(parts) + _DIGITS[n % 36]

    return new_id


def system_rng() -> random.Random:
    """A generator for ids and jitter, seeded by the operating system; keys come from `secrets`."""
    return random.Random(secrets.randbits(128))


def is_hostname(text: str) -> bool:
    """Returns whether it can be the name of a machine; what people do with one, a script does as safely."""
    return len(text) <= HOSTNAME_MAX and _HOSTNAME.fullmatch(text) is not None


def as_hostname(text: str) -> str:
    """Returns the name that a machine is shown by: its own, with '-' for each character that has no place in
    one."""
    return _NOT_OF_HOSTNAME.sub("-", text).lstrip(".-")[:HOSTNAME_MAX] or "unnamed"
