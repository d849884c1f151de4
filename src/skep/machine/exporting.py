"""A machine as one file for a colleague, sealed by a passphrase: what its clients need, and nothing that
changes it. Pure, but for the memory that scrypt takes."""

from __future__ import annotations

import re

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Struct
from msgspec.structs import replace

from skep.machine import certs
from skep.machine.certs import Pair
from skep.machine.record import Machine, from_config
from skep.runtime.errors import Corrupt, Denied, Invalid

MAGIC = b"skep machine export 1\n"
SALT_BYTES, NONCE_BYTES = 16, 12
# 128 MiB and a third of a second for each guess; the numbers belong to the format's version.
_N, _R, _P = 2**17, 8, 1
PASSPHRASE_CHARS_MIN, PASSPHRASE_CHARS_MAX = 8, 1024
FILE_BYTES_MAX = 1 << 20  # a config and three certificates have some 10 kB
IMPORTED = "imported"  # the driver's name
_HOST_KEY = re.compile(
    r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{16,2000}={0,2}"
)


class ExportedMachine(Struct, frozen=True, kw_only=True):
    """`config` is its config.json without what its driver knows (a cloud's numbers, a key's path).
    `certificate` and `key` are the colleague's own. `host_key`: empty where nobody has seen it."""

    name: str
    config: msgspec.Raw
    trusted: str
    certificate: str
    key: str
    host_key: str = ""


def seal(machine: ExportedMachine, passphrase: str, salt: bytes, nonce: bytes) -> bytes:
    """Returns the file. `salt` and `nonce`: random, of this file alone. Errors: `Invalid`."""
    head = MAGIC + salt + nonce
    return head + AESGCM(_key(passphrase, salt)).encrypt(nonce, msgspec.json.encode(machine), head)


def open_sealed(content: bytes, passphrase: str) -> ExportedMachine:
    """Errors: `Corrupt` where it is no export, or of another version; `Denied` for a wrong passphrase."""
    if not content.startswith(MAGIC) or len(content) > FILE_BYTES_MAX:
        raise Corrupt("it is no machine that this skep could import")
    head, sealed = (
        content[: len(MAGIC) + SALT_BYTES + NONCE_BYTES],
        content[len(MAGIC) + SALT_BYTES + NONCE_BYTES :],
    )
    salt, nonce = head[len(MAGIC) : -NONCE_BYTES], head[-NONCE_BYTES:]
    if len(nonce) != NONCE_BYTES or len(salt) != SALT_BYTES:
        raise Corrupt("the file ends before it should")
    try:
        opened = AESGCM(_key(passphrase, salt)).decrypt(nonce, sealed, head)
    except InvalidTag as error:
        raise Denied("the passphrase is another one, or the file was changed") from error
    try:
        return msgspec.json.decode(opened, type=ExportedMachine)
    except msgspec.DecodeError as error:
        raise Corrupt(f"the file cannot be read: {error}") from error


def imported(exported: ExportedMachine, name: str) -> tuple[Machine, Pair]:
    """Returns the machine as the colleague has it, under that name, and their certificate: checked, for
    whoever knows the passphrase may have written anything. Errors: `Corrupt`, `Invalid`."""
    found = from_config(bytes(exported.config), name)
    client = Pair(exported.certificate.encode(), exported.key.encode())
    if not certs.is_pair(client):
        raise Corrupt("the certificate in it and its key are no pair")
    certs.expires_at(exported.trusted.encode())
    if exported.host_key and not _HOST_KEY.fullmatch(exported.host_key):
        raise Corrupt("the host's SSH key in it cannot be read")
    return replace(found, driver=IMPORTED, details={}, ssh=replace(found.ssh, key="")), client


def _key(passphrase: str, salt: bytes) -> bytes:
    if not PASSPHRASE_CHARS_MIN <= len(passphrase) <= PASSPHRASE_CHARS_MAX:
        raise Invalid(f"a passphrase has {PASSPHRASE_CHARS_MIN} characters or more")
    return Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase.encode())
