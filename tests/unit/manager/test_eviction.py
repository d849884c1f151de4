"""When a leader gives nodes up, and when it does not trust what it sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.manager.eviction import (
    ASK_BEATS,
    EVICT_EVERY_S,
    FEW,
    HAND_OVER_EVERY_S,
    HOLD_S,
    EvictionAct,
    Hold,
    Sight,
    decide,
)

NOW = 10_000.0
JUST = Hold(since=NOW)
ASKED = Hold(since=NOW - ASK_BEATS * 5.0)
LONG = Hold(since=NOW - HOLD_S)
LATELY = Hold(since=NOW, handed_over_at=NOW - HAND_OVER_EVERY_S / 2)


@pytest.mark.parametrize(
    ("here", "missing", "others"),
    [(1, 1, 0), (2, 1, 2), (1, 2, 0), (2, 2, 2), (1, 4, 0), (5, 4, 2), (2200, 100, 2), (46, 54, 2)],
)
def test_small_swarms_and_small_losses_are_as_in_docker(here: int, missing: int, others: int) -> None:
    """A manager and its only worker; three nodes of which one or two die; a rack of a large swarm."""
    assert decide(Sight(here, missing, others=others), Hold(), NOW).act is EvictionAct.EVICT


def test_most_of_a_few_are_given_up_after_the_other_managers_were_asked() -> None:
    lost = Sight(here=2, missing=3, others=1)
    assert decide(lost, Hold(), NOW).act is EvictionAct.HOLD
    assert decide(lost, JUST, NOW).act is EvictionAct.HOLD
    assert decide(lost, ASKED, NOW).act is EvictionAct.EVICT


def test_the_lead_goes_to_who_sees_more() -> None:
    verdict = decide(Sight(here=40, missing=60, elsewhere=58, others=2), JUST, NOW)
    assert verdict.act is EvictionAct.HAND_OVER
    assert verdict.why == "this manager hears nothing of 60 of 100 nodes, another one sees 58 of them"
    assert decide(Sight(here=3, missing=4, elsewhere=4, others=2), JUST, NOW).act is EvictionAct.HAND_OVER


def test_the_lead_is_not_handed_to_and_fro() -> None:
    cut_off = Sight(here=40, missing=60, elsewhere=58, others=2)
    assert decide(cut_off, LATELY, NOW).act is EvictionAct.HOLD
    assert decide(cut_off, LATELY, NOW + HAND_OVER_EVERY_S).act is EvictionAct.HAND_OVER


def test_the_lead_stays_where_others_see_less_or_are_not_there() -> None:
    assert decide(Sight(here=40, missing=60, elsewhere=30, others=2), JUST, NOW).act is EvictionAct.HOLD
    assert decide(Sight(here=1, missing=20), JUST, NOW).act is EvictionAct.HOLD


@pytest.mark.parametrize(
    "unsure",
    [
        Sight(here=1, missing=5),
        Sight(here=8, missing=12, others=2),  # they have not said whom they see
        Sight(here=8, missing=12, elsewhere=1, others=2, answered=2),
    ],
)
def test_most_of_many_go_faster_and_faster_after_a_minute_where_nobody_can_say(unsure: Sight) -> None:
    assert decide(unsure, ASKED, NOW).act is EvictionAct.HOLD
    now = NOW
    hold = LONG
    for some in (1, 2, 4, 8, 16):
        verdict = decide(unsure, hold, now)
        assert (verdict.act, verdict.some) == (EvictionAct.EVICT_SOME, some)
        assert verdict.why
        hold = Hold(LONG.since, evicted_at=now, steps=hold.steps + 1)
        assert decide(unsure, hold, now + EVICT_EVERY_S - 1).act is EvictionAct.HOLD
        now += EVICT_EVERY_S


@pytest.mark.parametrize(("here", "missing"), [(1, 5), (3, 5), (8, 12), (400, 600)])
def test_most_of_many_go_at_once_after_a_minute_where_no_other_manager_sees_them(
    here: int, missing: int
) -> None:
    gone = Sight(here, missing, others=2, answered=1)
    assert decide(gone, Hold(since=NOW - HOLD_S + 1), NOW).act is EvictionAct.HOLD
    assert decide(gone, LONG, NOW).act is EvictionAct.EVICT


def test_who_doubts_itself_gives_nobody_up() -> None:
    """Its clock is past its certificate's life: nodes that come back would be refused."""
    doubt = "this manager's clock is not in its certificate's time"
    assert decide(Sight(here=2, missing=1, others=2, doubt=doubt), Hold(), NOW).act is EvictionAct.HAND_OVER
    for hold in (Hold(), LONG, LATELY):
        verdict = decide(Sight(here=2, missing=1, doubt=doubt), hold, NOW)
        assert (verdict.act, verdict.why) == (EvictionAct.HOLD, doubt)


@given(
    here=st.integers(0, 3000),
    missing=st.integers(FEW + 1, 3000),
    elsewhere=st.integers(0, 3000),
    others=st.integers(0, 6),
    answered=st.integers(0, 6),
    held_s=st.floats(0, HOLD_S - 1),
)
def test_most_of_many_are_never_given_up_at_once(
    here: int, missing: int, elsewhere: int, others: int, answered: int, held_s: float
) -> None:
    verdict = decide(Sight(here, missing, elsewhere, others, answered), Hold(since=NOW - held_s), NOW)
    if missing > 0.55 * (here + missing):
        assert verdict.act in (EvictionAct.HOLD, EvictionAct.HAND_OVER)
        assert verdict.why
    else:
        assert verdict.act is EvictionAct.EVICT
