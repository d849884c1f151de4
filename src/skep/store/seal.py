"""Sealing: what is encrypted before it reaches a disk. AES-256-GCM; randomness is an argument.

A sealed value is `MAGIC version nonce(12) ciphertext tag(16)`. The first byte never begins a msgpack value,
so what is sealed and what is not can be told apart. What the value is about (its key in the store, its file)
is authenticated with it: a sealed value moved to another place does not open there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skep.runtime.errors import Corrupt

KEY_BYTES = 32
MAGIC = b"\xc1S"  # msgpack never uses 0xc1
VERSION = b"\x01"
NONCE_BYTES = 12  # random: 2**32 values may be sealed with one key before a repetition is thinkable
_PREFIX = MAGIC + VERSION

RandomBytes = Callable[[int], bytes]


class Sealer:
    """Seals with one key; opens what that, or an older one, has sealed. Its text form never shows a key."""

    def __init__(
        self, key: bytes, random_bytes: RandomBytes = os.urandom, older: Sequence[bytes] = ()
    ) -> None:
        """Errors: `ValueError` for a key that is not of 32 bytes."""
        if any(len(each) != KEY_BYTES for each in (key, *older)):
            raise ValueError(f"a key of {KEY_BYTES} bytes is needed")
        self._cipher = AESGCM(key)
        self._ciphers = [self._cipher, *(AESGCM(each) for each in older)]
        self._random_bytes = random_bytes

    def seal(self, plain: bytes, about: str) -> bytes:
        """Returns the sealed form of `plain`, which opens only for the same `about`."""
        nonce = self._random_bytes(NONCE_BYTES)
        return _PREFIX + nonce + self._cipher.encrypt(nonce, plain, _PREFIX + about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Returns what was sealed. Errors: `Corrupt` for another key, another `about`, damage, and for what
        a newer skep sealed; its text names the place and what to do, never data."""
        if not is_sealed(sealed):
            raise Corrupt(f"{about} is not sealed, as it should be: it was not written by skep")
        if not sealed.startswith(_PREFIX):
            raise Corrupt(f"{about} was sealed by a newer skep: install that")
        for cipher in self._ciphers:
            plain = _opened(cipher, sealed, about)
            if plain is not None:
                return plain
        raise Corrupt(
            f"{about} cannot be opened: it is damaged, or sealed with another key than this manager's"
            " (keys/data-key in the state directory, the same on every manager of the swarm: restore it)"
        )

    def is_current(self, sealed: bytes, about: str) -> bool:
        """True where the present key opens it; False for an older one's, and for damage."""
        return sealed.startswith(_PREFIX) and _opened(self._cipher, sealed, about) is not None


def _opened(cipher: AESGCM, sealed: bytes, about: str) -> bytes | None:
    start = len(_PREFIX)
    nonce, rest = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, rest, _PREFIX + about.encode())
    except (InvalidTag, ValueError):  # goes no further: it holds the arguments
        return None


def is_sealed(value: bytes) -> bool:
    """True for what a `Sealer` made, of any version."""
    return value.startswith(MAGIC)
