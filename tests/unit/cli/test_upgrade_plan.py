"""What an upgrade of the managers does next, by what the swarm says of them."""

from __future__ import annotations

from typing import Any

import pytest

from skep.cli import upgrade_plan as plan
from skep.cli.upgrade import needs_another_host


def seat(name: str, **changes: Any) -> plan.Seat:
    values = {"is_ready": True, "is_member": True, "is_leader": False, "is_reachable": True}
    return plan.Seat(
        **{"id": f"id-{name}", "name": name, "addr": "10.0.0.1", "role": "manager", **values, **changes}
    )


THREE = [seat("a", is_leader=True), seat("b"), seat("c"), seat("w", role="worker", is_member=False)]


def test_followers_come_first_and_the_leader_last() -> None:
    assert [s.name for s in plan.planned(THREE)] == ["b", "c", "a"]


def test_what_was_begun_is_finished_before_anything_new() -> None:
    begun = [
        seat("a", stage=plan.PLANNED),
        seat("b", stage=plan.DONE),
        seat("c", stage=plan.DEMOTED, role="worker", is_member=False),
        seat("d", stage=plan.PROMOTED, is_reachable=False),
    ]
    assert [s.name for s in plan.planned(begun)] == ["b", "d", "c", "a"]
    found = plan.next_seat(begun)
    assert found is not None
    assert found.name == "d"


def test_all_done_is_nothing_next() -> None:
    assert plan.next_seat([seat("a", stage=plan.DONE), seat("b", stage=plan.FINISHED)]) is None


def test_the_claim_stays_where_it_is() -> None:
    assert plan.keeper_of(THREE).name == "a"
    assert plan.keeper_of([*THREE[:2], seat("c", claim="run 3")]).name == "c"


@pytest.mark.parametrize(("count", "word"), [(1, "1 manager,"), (2, "2 managers,"), (3, "")])
def test_one_can_be_spared_of_three(count: int, word: str) -> None:
    found = plan.too_few(THREE[3 - count :])
    assert word in found
    assert bool(found) == (count < 3)


def test_a_manager_that_is_missed_is_named() -> None:
    learner = seat("c", is_reachable=False)
    assert plan.away([*THREE[:2], learner], THREE[1]) == "not every manager is reachable: c"
    assert plan.away(THREE, THREE[1]) == ""


def test_the_demoted_one_itself_is_not_missed() -> None:
    demoted = seat("c", role="worker", stage=plan.DEMOTED, is_member=True, is_reachable=False)
    assert plan.away([*THREE[:2], demoted], demoted) == ""


def test_the_commands_fields_are_quoted_for_a_shell() -> None:
    odd = seat("a; rm -r /")
    assert plan.filled("up {name} {addr} ${X}", odd) == "up 'a; rm -r /' 10.0.0.1 ${X}"
    assert not plan.names_the_node("apt install skep")


def test_one_managers_address_alone_does_not_do() -> None:
    assert "another" in needs_another_host(THREE, {"unix:///a": "id-a", "unix:///w": "id-w", "unix:///x": ""})
    assert needs_another_host(THREE, {"unix:///a": "id-a", "unix:///b": "id-b"}) == ""
