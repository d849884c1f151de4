"""The data keys that managers have on their disks, while the swarm's is changed and after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec import Struct

from .session import Lead

# A feature of an agent: its manager keeps the data keys that it is told. An earlier one keeps that with which
# it began, and could open nothing after a change.
DATA_KEYS = "data-keys"


class DataKeys(Struct, frozen=True, tag="data-keys"):
    """The data keys that a manager is to have, and no others: all open, the first seals what the manager
    keeps for itself. They are on its disk as `unlock_key` seals them, plain where that is empty."""

    keys: list[bytes]
    unlock_key: str = ""
    lead: Lead | None = None

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) shows no key."""
        return f"DataKeys(count={len(self.keys)})"


class HasDataKeys(Struct, frozen=True, tag="has-data-keys"):
    """Digests of the data keys that this manager has on its disk by now, in their order."""

    digests: list[bytes]


def digests_of(keys: Iterable[bytes]) -> list[bytes]:
    """Returns what may be said of keys: they are random, nobody finds one by trying."""
    return [hashlib.sha256(key).digest() for key in keys]
