"""Pairs of SSH keys, for machines that are made: one for each."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from skep.runtime.errors import Corrupt


def new_private_key() -> bytes:
    """Returns an Ed25519 key, as OpenSSH keeps it."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def public_line(private_key: bytes, comment: str) -> str:
    """Returns its public half, as authorized_keys has it. Errors: `Corrupt`."""
    try:
        public = load_ssh_private_key(private_key, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise Corrupt(f"a machine's SSH key cannot be read: {error}") from error
    return f"{public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"


def md5_fingerprint(line: str) -> str:
    """Returns the fingerprint of a public key as clouds name keys: sixteen bytes, colons between. Errors:
    `Corrupt`."""
    try:
        key = base64.b64decode(line.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise Corrupt(f"that is no public key of SSH: {error}") from error
    return hashlib.md5(key, usedforsecurity=False).digest().hex(":")
