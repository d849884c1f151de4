"""The unlock key of a swarm whose managers lock themselves; format as Docker's. Randomness is an argument."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from skep.model.cluster import Cluster, SwarmSpec
from skep.runtime.errors import Invalid
from skep.store.seal import KEY_BYTES

_FORM = re.compile(r"^SWMKEY-1-([A-Za-z0-9+/]{43})$")  # 32 bytes in base64 without padding


def unlock_key(random_bytes: bytes) -> str:
    """Returns the key as users see it, from 32 random bytes."""
    return "SWMKEY-1-" + base64.b64encode(random_bytes).decode().rstrip("=")


def parse_unlock_key(text: str) -> bytes:
    """Returns the key's 32 bytes. Errors: `Invalid`, in Docker's words, which do not repeat the text."""
    found = _FORM.match(text.strip())
    if found is None:
        raise Invalid("invalid key string")
    try:
        key = base64.b64decode(found[1] + "=", validate=True)
    except binascii.Error:
        raise Invalid("invalid key string") from None
    if len(key) != KEY_BYTES:
        raise Invalid("invalid key string")
    return key


def unlock_key_after(
    cluster: Cluster, spec: SwarmSpec, rotate: bool, random_bytes: Callable[[int], bytes]
) -> str:
    """Returns the unlock key that goes with the new spec: an empty text where managers do not lock.

    As SwarmKit: turning autolock on makes a key, turning it off forgets it; rotating does nothing while
    it is off.
    """
    if not spec.encryption_config.auto_lock_managers:
        return ""
    if rotate or not cluster.unlock_key:
        return unlock_key(random_bytes(KEY_BYTES))
    return cluster.unlock_key
