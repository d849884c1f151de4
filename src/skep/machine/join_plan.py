"""What becomes of a machine that is to be in a swarm, by what it is in now. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum

from msgspec import Struct

from skep.machine.swarm import NodeMembership
from skep.runtime.errors import Conflict, Unavailable


class JoinRole(StrEnum):
    MANAGER = "manager"
    WORKER = "worker"


class Outcome(StrEnum):
    JOINED = "joined"
    ALREADY = "already in it"
    FAILED = "failed"


class JoinResult(Struct, frozen=True):
    """What came of a machine; `text` is why it failed, or what its user should know."""

    name: str
    role: JoinRole
    outcome: Outcome
    text: str = ""

    @property
    def said(self) -> str:
        return f"{self.outcome.value}: {self.text}" if self.text else self.outcome.value


def must_join(own: NodeMembership, members: AbstractSet[str], name: str) -> bool:
    """Returns whether it is to join the swarm of those members; False where it is one of them. Errors:
    `Conflict` where it is in another swarm, or cannot be in any; `Unavailable`."""
    if own.state == "inactive":
        return True
    if own.node_id in members:
        return False
    if own.state == "locked":
        raise Conflict(f"its swarm is locked: docker --context {name} swarm unlock")
    why = f" ({own.error})" if own.error else ""
    if own.state == "active":
        raise Conflict(f"it is in another swarm: docker --context {name} swarm leave")
    raise Unavailable(
        f"it is in a swarm that it does not reach{why}: docker --context {name} swarm leave --force"
    )


def other_role(own: NodeMembership, role: JoinRole) -> str:
    """Returns what to say of a member that has another role than is wanted, empty where it has that."""
    if own.is_manager == (role is JoinRole.MANAGER):
        return ""
    return "it is a manager: docker node demote" if own.is_manager else "it is a worker: docker node promote"


def result_lines(results: list[JoinResult]) -> list[str]:
    """Returns the table."""
    rows = [("NAME", "ROLE", "RESULT"), *((each.name, each.role.value, each.said) for each in results)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name.ljust(widths[0])}   {role.ljust(widths[1])}   {said}" for name, role, said in rows]
