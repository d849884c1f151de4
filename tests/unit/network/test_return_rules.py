"""The rules of ways back, asked as the kernel asks them (fib_rules_lookup): by priority, then as they were
made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.network.marks import NUMBER_MASK, OURS, TUNNELLED
from skep.network.objects import ReturnRule
from skep.network.return_rules import TABLES, return_rules

MAIN = 254
OTHERS = [ReturnRule(32766, 0, 0, table=MAIN), ReturnRule(32767, 0, 0, table=253)]


def _asked(numbers: list[int], mark: int) -> tuple[int, int]:
    """Returns the table that a packet with the mark takes, and how many rules of ours it has passed."""
    ours = list(return_rules(numbers))
    rules = sorted([*ours, *OTHERS], key=lambda each: each.priority)
    at = passed = 0
    while True:
        rule = rules[at]
        passed += rule not in OTHERS
        if mark & rule.mask != rule.mark:
            at += 1
        elif rule.goto:
            assert rule.goto > rule.priority, "the kernel takes no jump back"
            at = next(n for n, each in enumerate(rules) if each.priority >= rule.goto)
            assert rules[at].priority == rule.goto, "a jump to a priority without a rule is passed over"
        else:
            return rule.table, passed


@given(st.sets(st.integers(1, NUMBER_MASK), max_size=200), st.integers(1, NUMBER_MASK))
def test_each_node_has_its_table_and_others_the_main_one(numbers: set[int], other: int) -> None:
    for number in numbers:
        assert _asked(list(numbers), OURS | number)[0] == TABLES + number
    for mark in {OURS | other} - {OURS | each for each in numbers} | {OURS, TUNNELLED, 7, 0}:
        assert _asked(list(numbers), mark)[0] == MAIN


@pytest.mark.parametrize("nodes", [1, 64, 2300, 10_000])
def test_few_rules_are_passed(nodes: int) -> None:
    numbers = list(range(1, nodes + 1))
    assert _asked(numbers, 0)[1] == _asked(numbers, 7)[1] == 1
    most = max(_asked(numbers, OURS | each)[1] for each in (1, nodes // 2 + 1, nodes))
    assert most <= 1 + nodes // 64 + 1 + 64


def test_nobody_s_own_rules_are_jumped_over() -> None:
    """But for packets that are the mesh's."""
    for each in return_rules([1, 5000]):
        assert each.mark & OURS == OURS
        assert not each.goto or each.goto > OTHERS[-1].priority


def test_without_nodes_there_are_none() -> None:
    assert not list(return_rules([]))
