"""Looks for secrets in bytes and files, in every form in which they might have been written."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

MIN_BYTES = 12  # of what is looked for: less is found by chance


def forms_of(secret: bytes) -> list[bytes]:
    """Returns the secret as it is, in hex, and in base64 wherever in a longer text it begins."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for shift in range(3):
        # The characters that hold bits of the secret only.
        text = base64.b64encode(b"\0" * shift + secret).rstrip(b"=")
        whole = text[(shift * 8 + 5) // 6 : (shift + len(secret)) * 8 // 6]
        found += [whole, whole.replace(b"+", b"-").replace(b"/", b"_")]
    assert all(len(form) >= MIN_BYTES for form in found)
    return found


def private_key(pem: bytes) -> bytes:
    """Returns the private number itself: it is part of every encoding of the key."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def leaks_in(data: bytes, secrets: Mapping[str, bytes]) -> list[str]:
    """Returns the names of the secrets that `data` holds. PEM's line ends hide nothing."""
    joined = data.replace(b"\r", b"").replace(b"\n", b"").replace(b"\\n", b"")
    return [
        name for name, secret in secrets.items() if any(f in data or f in joined for f in forms_of(secret))
    ]


def leaks_below(paths: Iterable[Path], secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Returns (secret's name, file) for every file at or below `paths` that holds one."""
    found = []
    for top in paths:
        for path in [top, *top.rglob("*")]:
            if path.is_file():
                found += [(name, str(path)) for name in leaks_in(path.read_bytes(), secrets)]
    return found


def readable_by_others(top: Path) -> list[str]:
    """Returns what is at or below `top` and open to anyone but its owner."""
    return [
        f"{path} {path.lstat().st_mode & 0o777:o}"
        for path in [top, *top.rglob("*")]
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]
