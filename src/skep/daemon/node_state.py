"""What a node is to its swarm at the moment: one value, of one of five kinds. `node_runner` alone writes it,
everybody else reads it.

    Outside  -> Starting -> Running         it founds a swarm, or joins one
    Locked   -> Starting -> Running         unlocked; where that fails, Locked again
    Running  -> Starting -> Running         forced to be the only manager; where that fails, Failed
    Starting -> Failed                      its certificate has expired: nobody would take it for a node
    any      -> Outside                     it leaves
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from skep.daemon import error_texts

if TYPE_CHECKING:
    from skep.daemon.agent_runner import AgentRunner, Line
    from skep.daemon.manager_runner import ManagerRunner
    from skep.daemon.state import Membership


class Outside(Struct, frozen=True):
    """It is in no swarm."""


class Locked(Struct, frozen=True):
    """A manager whose files are sealed: nothing runs until they are opened."""

    membership: Membership


class Starting(Struct, frozen=True):
    """What it remembers is taken up; nothing of it can be asked yet."""

    membership: Membership


class Running(Struct, frozen=True, eq=False):
    """The agent runs, and the manager where it is one; none while one of several does not come up, for the
    leader says what becomes of it. `misplaced` says why a manager cannot listen at its address, until it is
    told another; `removed`, that the swarm does not know this node any more. `not_after`: of its certificate,
    which is valid for `lifetime_s` in all.
    """

    membership: Membership
    agent: AgentRunner
    line: Line
    not_after: float
    manager: ManagerRunner | None = None
    misplaced: str = ""
    removed: str = ""
    lifetime_s: float = 0.0

    @property
    def error(self) -> str:
        """Returns what a person has to mend; an empty text where there is nothing."""
        return self.removed or self.misplaced


class Failed(Struct, frozen=True):
    """It is in a swarm and nothing runs: `why` says what a person is to do."""

    membership: Membership
    why: str


NodeState = Outside | Locked | Starting | Running | Failed


def why_no_manager(state: NodeState) -> str:
    """Returns why this node takes no orders as a manager; an empty text where it does."""
    if isinstance(state, Outside):
        return error_texts.NOT_IN_SWARM
    if why := why_not_running(state):
        return why
    return error_texts.WORKER if state.membership.role != "manager" else ""


def why_not_running(state: Locked | Starting | Running | Failed) -> str:
    """Returns what keeps a node of a swarm from working in it, for people; else an empty text."""
    if isinstance(state, Locked):
        return error_texts.LOCKED
    if isinstance(state, Failed):
        return state.why
    return state.error if isinstance(state, Running) else ""


def other_managers(state: NodeState) -> set[str]:
    """Returns the node ids of all managers but this one, as far as it knows."""
    if isinstance(state, Outside):
        return set()
    manager = state.manager if isinstance(state, Running) else None
    known = manager.members if manager is not None else state.membership.peers
    return set(known) - {state.membership.node_id}
