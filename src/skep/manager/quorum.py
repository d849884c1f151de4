"""Who is to hold the store, and what to do about it next. Pure: `decide(view, leader) -> Step`.

A node is to be a manager when its spec says so; it is one when it holds a copy of the store with a vote.
Each step is safe by itself, so a change that was interrupted is finished, or undone, by whoever leads next.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from skep.store.interfaces import Member
from skep.store.view import View

LEARN_S = 60.0  # a learner that was not reached for as long is let go of: it may ask again


class Act(Enum):
    NOTHING = "nothing"
    PROMOTE = "promote"  # a learner gets its vote
    REMOVE = "remove"
    HAND_OVER = "hand over"  # the leader itself is to go: another one leads first


class MemberStep(Struct, frozen=True):
    """`why_not` says what keeps a change from being made."""

    act: Act = Act.NOTHING
    member: Member | None = None
    why_not: str = ""


def is_to_manage(view: View, node_id: str) -> bool:
    """True for a node that is to be a manager, or to stay one: nobody has demoted it."""
    node = view.nodes.get(node_id)
    return node is not None and node.spec.role == "manager"


def voters(view: View) -> list[Member]:
    return [member for member in view.members if not member.is_learner]


def keeps_quorum_without(view: View, node_id: str, answering: frozenset[str] | None = None) -> bool:
    """True when those who are left can decide: more than half of them are reached, or among `answering`."""
    left = [member for member in voters(view) if member.node_id != node_id]
    reached = view.reachable if answering is None else answering
    return sum(1 for member in left if member.node_id in reached) >= len(left) // 2 + 1


def decide(
    view: View, leader_id: str, silent_s: dict[str, float], answering: frozenset[str] | None = None
) -> MemberStep:
    """Returns the next step. `answering` are the members that have answered just now, which is stricter than
    reachable (taken where it is not given): what cannot be undone must not count on one that has just died.
    `silent_s` says for how long members have not been reached."""
    answering = view.reachable if answering is None else answering
    step = MemberStep()
    for member in view.members:
        found = _about(view, member, leader_id, answering, silent_s.get(member.node_id, 0.0))
        if found.act is not Act.NOTHING:
            return found
        step = found if found.why_not else step
    return step


def _about(
    view: View, member: Member, leader_id: str, answering: frozenset[str], silent_s: float
) -> MemberStep:
    is_wanted = is_to_manage(view, member.node_id)
    if member.is_learner:
        if not is_wanted or silent_s > LEARN_S:
            return MemberStep(Act.REMOVE, member)
        if member.node_id not in answering:
            return MemberStep()  # etcd gives a vote to who had caught up, whether it lives or not
        return MemberStep(Act.PROMOTE, member)
    if is_wanted:
        return MemberStep()
    if not keeps_quorum_without(view, member.node_id, answering):
        return MemberStep(member=member, why_not="the managers that are left would have no quorum")
    if member.node_id == leader_id:
        return MemberStep(Act.HAND_OVER, member)
    return MemberStep(Act.REMOVE, member)
