"""Which etcd may be used. 3.5.0–3.5.2 can diverge when killed, 3.5.3–3.5.5 can lose a member's data."""

from __future__ import annotations

import re

from skep.runtime.errors import Invalid

HOW = "install it (Debian: apt-get install etcd-server) or name one with --etcd PATH"
MIN_34 = (3, 4, 22)
MIN_35 = (3, 5, 6)


def check_version(text: str) -> tuple[int, int, int]:
    """Returns the version in the output of `etcd --version`. Errors: `Invalid`, which says what to do."""
    found = re.search(r"etcd Version:\s*(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        raise Invalid(f"this does not look like etcd (it says {text[:80]!r}): {HOW}")
    version = (int(found[1]), int(found[2]), int(found[3]))
    minimum = MIN_34 if version[:2] == (3, 4) else MIN_35
    if version < minimum:
        have, need = (".".join(map(str, v)) for v in (version, minimum))
        raise Invalid(f"etcd {have} is not safe to use, {need} or later is needed: {HOW}")
    return version
