"""Who acts as a manager: what the leader wants, and what a node asks for that becomes one."""

from __future__ import annotations

from msgspec import Struct

from skep.runtime.errors import SkepError, Unavailable


class Role(Struct, frozen=True, tag="role"):
    """What the node is to act as; `is_member`: it holds a copy of the store."""

    role: str
    is_member: bool


class Manage(Struct, frozen=True, tag="manage"):
    """A node whose role is manager asks for a copy of the store, which it has not, or wants to lose."""

    manager_addr: str


class Managing(Struct, frozen=True, tag="managing"):
    """The node is a learner now; `managers` are all members by node id, with their addresses (host:port).
    `older`: more data keys, while the swarm's is changed (`DataKeys`)."""

    managers: dict[str, str]
    data_key: bytes = b""
    unlock_key: str = ""
    older: list[bytes] = []

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) shows neither key."""
        return f"Managing(managers={self.managers!r})"


class NotNow(Struct, frozen=True, tag="not-now"):
    """It cannot be done at the moment; ask again."""

    reason: str

    def as_error(self) -> SkepError:
        return Unavailable(self.reason)
