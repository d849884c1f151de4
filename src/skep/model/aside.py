"""What nothing is decided about: a service or node on which a decider fails, a stored value that cannot be
read. The rest of the swarm goes on."""

from __future__ import annotations

from msgspec import Struct

SERVICE, NODE = "service", "node"
REASON_MAX = 300  # characters: what somebody else wrote may be part of an error's text

AsideKey = tuple[str, str]  # kind, id


class Aside(Struct, frozen=True):
    """One service or node that is set aside. Times in epoch seconds."""

    kind: str
    id: str
    reason: str
    since: float
    again_at: float = 0.0  # when it is tried again by itself; 0: never, its stored value has to change
    tries: int = 1  # that failed, one after the other
    version: int = 0  # of the object that failed: another one is tried at once

    @property
    def is_unreadable(self) -> bool:
        """True where what is stored of it cannot be read, or of what it needs."""
        return self.again_at == 0.0

    @property
    def sentence(self) -> str:
        """Returns what users read."""
        what = f"This {self.kind} is set aside, what runs is left as it is"
        if self.is_unreadable:
            return f"{what}: {self.reason}"
        return f"{what}: the manager fails on it ({self.reason}). A change of it is tried at once"


class Unreadable(Struct, frozen=True, rename="pascal"):
    """A key of the store whose value cannot be read. It stays in the store as it is."""

    key: str
    reason: str


def reason_of(error: BaseException) -> str:
    """Returns an error as one line, cut to `REASON_MAX`."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= REASON_MAX else text[: REASON_MAX - 1] + "…"
