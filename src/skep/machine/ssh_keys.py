"""Keys of SSH: the user's, those that are made for machines, and the one that a host had when it was seen
first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh

from skep.machine.record import SshPlace
from skep.machine.ssh_config import configured, readable_keys
from skep.runtime.errors import Invalid, cause_of


def new_key(comment: str) -> tuple[bytes, bytes]:
    """Returns a private key and its public half, as OpenSSH's files have them."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    return key.export_private_key(), key.export_public_key()


def public_half(private: bytes) -> bytes:
    """Errors: `Invalid`."""
    try:
        return asyncssh.import_private_key(private).export_public_key()
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Invalid(f"it is no private key of SSH: {error}") from error


def pinned_public_key(text: str) -> asyncssh.SSHKey:
    """Returns a host's key that was kept, as OpenSSH writes it. Errors: `Invalid`."""
    try:
        return asyncssh.import_public_key(text)
    except asyncssh.KeyImportError as error:
        raise Invalid(f"the host key that was kept cannot be read: {error}") from error


def check_identity(place: SshPlace) -> None:
    """Looks whether the key that is named can be used. Errors: `Invalid`."""
    identity(place)


def identity(place: SshPlace) -> dict[str, Any]:
    """Returns asyncssh's options of who we are. Errors: `Invalid`."""
    if not place.key:
        files = configured(place.address).identities if place.address else None
        return {} if files is None else {"client_keys": readable_keys(files)}
    path = Path(place.key).expanduser()
    try:
        loaded = asyncssh.read_private_key(path)
    except FileNotFoundError as error:
        raise Invalid(f"SSH key does not exist: {path}") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        if "passphrase" in str(error).lower():
            raise Invalid(f"{path} has a passphrase: give it to ssh-agent, and name no key") from error
        raise Invalid(f"{path} is no private key of SSH: {error}") from error
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {cause_of(error)}") from error
    return {"client_keys": [loaded], "agent_path": None}
