"""The next step about the managers: safe by itself, whoever takes it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.manager.quorum import LEARN_S, Act, decide, keeps_quorum_without, voters
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.store.interfaces import Member
from skep.store.view import View

NAMES = ("a", "b", "c", "d", "e")


def view_of(roles: dict[str, str], learners: str = "", members: str = "", reached: str = "") -> View:
    """Members are all nodes whose name is in `members`, voters but for `learners`."""
    view = View()
    for number, (name, role) in enumerate(roles.items()):
        view.put_node(
            Node(
                id=name,
                spec=NodeSpec(role=role),
                description=NodeDescription(hostname=name),
                created_at=0,
                updated_at=0,
                version=number + 1,
            )
        )
    view.members = tuple(Member(ord(name), name, name in learners) for name in members)
    view.reachable = frozenset(reached)
    return view


def test_nothing_is_done_where_all_is_as_wanted() -> None:
    view = view_of(dict.fromkeys("abc", "manager"), members="abc", reached="abc")
    assert decide(view, "a", {}).act is Act.NOTHING


def test_a_learner_that_answers_gets_its_vote() -> None:
    view = view_of(dict.fromkeys("abc", "manager"), learners="c", members="abc", reached="abc")
    step = decide(view, "a", {})
    assert (step.act, step.member and step.member.node_id) == (Act.PROMOTE, "c")


def test_a_learner_that_is_silent_gets_none_and_is_let_go_of_in_the_end() -> None:
    view = view_of(dict.fromkeys("ab", "manager"), learners="b", members="ab", reached="a")
    assert decide(view, "a", {"b": LEARN_S / 2}).act is Act.NOTHING
    assert decide(view, "a", {"b": LEARN_S + 1}).act is Act.REMOVE


def test_a_demoted_member_is_removed_where_the_others_can_decide() -> None:
    view = view_of({"a": "manager", "b": "worker", "c": "manager"}, members="abc", reached="abc")
    step = decide(view, "a", {})
    assert (step.act, step.member and step.member.node_id) == (Act.REMOVE, "b")


def test_a_demoted_member_stays_while_the_others_cannot_decide() -> None:
    view = view_of({"a": "manager", "b": "worker", "c": "manager"}, members="abc", reached="ab")
    step = decide(view, "a", {})
    assert step.act is Act.NOTHING
    assert "no quorum" in step.why_not


def test_a_leader_that_is_demoted_hands_over_and_does_not_remove_itself() -> None:
    view = view_of({"a": "worker", "b": "manager", "c": "manager"}, members="abc", reached="abc")
    assert decide(view, "a", {}).act is Act.HAND_OVER


def test_a_node_that_is_gone_holds_no_copy_for_long() -> None:
    view = view_of({"a": "manager", "b": "manager"}, members="abz", reached="abz")
    step = decide(view, "a", {})
    assert (step.act, step.member and step.member.node_id) == (Act.REMOVE, "z")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_quorum_of_those_who_are_left(count: int) -> None:
    names = "abcde"[:count]
    for reached in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(count + 1)):
        view = view_of(dict.fromkeys(names, "manager"), members=names, reached="".join(reached))
        left = set(names) - {"a"}
        assert keeps_quorum_without(view, "a") == (len(left & set(reached)) > len(left) / 2)


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["worker", "manager"])),
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES), max_size=1),
)
def test_no_step_costs_a_quorum_that_there_is(
    roles: dict[str, str], members: set[str], reached: set[str], learners: set[str]
) -> None:
    view = view_of(roles, "".join(learners), "".join(sorted(members)), "".join(reached))
    step = decide(view, sorted(members)[0], {})
    before = {m.node_id for m in voters(view)}
    after = set(before)
    if step.member is not None and step.act is Act.REMOVE:
        after.discard(step.member.node_id)
        assert step.member.node_id != sorted(members)[0] or step.member.is_learner
    if step.member is not None and step.act is Act.PROMOTE:
        after.add(step.member.node_id)
    if len(before & reached) > len(before) / 2 and after:
        assert len(after & reached) > len(after) / 2


def test_nobody_is_removed_whose_place_only_the_dead_could_take() -> None:
    """Found by the simulation: d had left half a second before, and still counted as reachable."""
    roles = {**dict.fromkeys("abcde", "manager"), "b": "worker"}
    view = view_of(roles, members="abcde", reached="abcde")
    assert decide(view, "a", {}, frozenset("abde")).act is Act.REMOVE
    assert decide(view, "a", {}, frozenset("abe")).act is Act.NOTHING


def test_who_has_just_died_gets_no_vote() -> None:
    view = view_of(dict.fromkeys("ab", "manager"), learners="b", members="ab", reached="ab")
    assert decide(view, "a", {}, frozenset("ab")).act is Act.PROMOTE
    assert decide(view, "a", {}, frozenset("a")).act is Act.NOTHING
