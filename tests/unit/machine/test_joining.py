"""Machines that join a swarm: which do, in which order, and what is said of those that do not."""

from __future__ import annotations

import asyncio

import pytest

from skep.client.api import ApiError
from skep.machine import joining as module
from skep.machine.join_plan import JoinResult, JoinRole, Outcome, must_join, other_role, result_lines
from skep.machine.joining import AT_A_TIME, Joining, first_manager
from skep.machine.swarm import NodeMembership, Tokens
from skep.runtime.errors import Conflict, SkepError, Unavailable

TOKENS = Tokens(worker="SWMTKN-w", manager="SWMTKN-m")


class Swarm:
    """Nodes by their names, and what was asked of them."""

    def __init__(self, *names: str) -> None:
        self.states = {name: NodeMembership() for name in names}
        self.failing: dict[str, list[SkepError]] = {}
        self.away: set[str] = set()
        self.joined: list[tuple[str, str, tuple[str, ...]]] = []
        self.busy = self.busiest = 0

    def member(self, name: str) -> Member:
        return Member(self, name)

    def found(self, name: str) -> None:
        managers = (f"{name}:2377",)
        self.states[name] = NodeMembership("active", f"id-{name}", True, managers)


class Member:
    def __init__(self, swarm: Swarm, name: str) -> None:
        self._swarm, self._name = swarm, name

    async def membership(self) -> NodeMembership:
        if self._name in self._swarm.away:
            raise Unavailable("nothing answers")
        return self._swarm.states[self._name]

    async def init(self) -> None:
        self._swarm.found(self._name)

    async def join(self, token: str, managers: tuple[str, ...]) -> None:
        swarm, name = self._swarm, self._name
        swarm.busy += 1
        swarm.busiest = max(swarm.busiest, swarm.busy)
        await asyncio.sleep(0)
        swarm.busy -= 1
        if swarm.failing.get(name):
            raise swarm.failing[name].pop(0)
        swarm.joined.append((name, token, managers))
        is_manager = token == TOKENS.manager
        swarm.states[name] = NodeMembership("active", f"id-{name}", is_manager, managers)
        if is_manager:
            for each, own in swarm.states.items():
                if own.is_manager:
                    swarm.states[each] = NodeMembership(
                        "active", own.node_id, True, (*managers, f"{name}:2377")
                    )

    async def tokens(self) -> Tokens:
        return TOKENS

    async def node_ids(self) -> frozenset[str]:
        return frozenset(each.node_id for each in self._swarm.states.values() if each.state == "active")


def joining(swarm: Swarm, attempts: int = 1, said: list[str] | None = None) -> Joining:
    return Joining(
        swarm.member, attempts, lambda name, line: (said if said is not None else []).append(f"{name} {line}")
    )


async def test_managers_join_first_and_workers_are_told_of_all_of_them() -> None:
    swarm = Swarm("mg0", "mg1", "w0", "w1")
    swarm.found("mg0")
    results = await joining(swarm).join("mg0", ["mg1"], ["w0", "w1"])
    assert [each.outcome for each in results] == [Outcome.JOINED] * 3
    assert swarm.joined[0] == ("mg1", "SWMTKN-m", ("mg0:2377",))
    assert sorted(swarm.joined[1:]) == [(each, "SWMTKN-w", ("mg0:2377", "mg1:2377")) for each in ("w0", "w1")]


async def test_run_again_it_tries_those_that_failed() -> None:
    swarm = Swarm("mg0", "w0", "w1")
    swarm.found("mg0")
    swarm.failing["w1"] = [ApiError("no address to advertise", 400)]
    first = await joining(swarm).join("mg0", [], ["w0", "w1"])
    assert first[1] == JoinResult("w1", JoinRole.WORKER, Outcome.FAILED, "no address to advertise")
    again = await joining(swarm).join("mg0", [], ["w0", "w1"])
    assert [each.outcome for each in again] == [Outcome.ALREADY, Outcome.JOINED]


async def test_what_another_command_has_had_join_meanwhile_is_in_it() -> None:
    swarm = Swarm("mg0", "w0", "w1", "w2")
    swarm.found("mg0")
    asked: list[frozenset[str]] = []

    class Old(Member):
        async def node_ids(self) -> frozenset[str]:
            asked.append(await super().node_ids())
            for each in ("w0", "w1"):
                swarm.states[each] = NodeMembership("active", f"id-{each}")
            swarm.states["w2"] = NodeMembership("active", "of-another")
            return asked[-1] - {"of-another"}

    joining = Joining(lambda name: Old(swarm, name), 1, lambda name, line: None)
    results = await joining.join("mg0", [], ["w0", "w1", "w2"])
    assert [each.outcome for each in results] == [Outcome.ALREADY, Outcome.ALREADY, Outcome.FAILED]
    assert len(asked) == 2, "once more for all of them"


async def test_what_may_pass_is_tried_again_and_what_will_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    swarm = Swarm("mg0", "w0", "w1")
    swarm.found("mg0")
    swarm.failing = {"w0": [Unavailable("lost")] * 2, "w1": [Conflict("no")] * 2}
    results = await joining(swarm, attempts=3).join("mg0", [], ["w0", "w1"])
    assert [each.outcome for each in results] == [Outcome.JOINED, Outcome.FAILED]
    assert len(swarm.failing["w1"]) == 1


async def test_thousands_join_and_no_more_than_some_at_a_time() -> None:
    names = [f"w{number}" for number in range(2300)]
    swarm = Swarm("mg0", *names)
    swarm.found("mg0")
    said: list[str] = []
    results = await joining(swarm, said=said).join("mg0", [], names)
    assert [each.name for each in results] == names
    assert {each.outcome for each in results} == {Outcome.JOINED}
    assert len(said) == 2300
    assert swarm.busiest <= AT_A_TIME


async def test_who_is_no_manager_is_joined_by_nobody() -> None:
    with pytest.raises(Conflict, match="mg0 is no manager of a swarm: docker --context mg0 swarm init"):
        await joining(Swarm("mg0", "w0")).join("mg0", [], ["w0"])


async def test_the_first_manager_makes_a_swarm_where_none_is() -> None:
    swarm, said = Swarm("mg0", "mg1"), list[str]()
    assert await first_manager(swarm.member, ["mg0", "mg1"], said.append) == "mg0"
    assert said == ["docker swarm init on mg0"]
    swarm = Swarm("mg0", "mg1")
    swarm.found("mg1")
    assert await first_manager(swarm.member, ["mg0", "mg1"], said.append) == "mg1", "one is there"
    assert len(said) == 1
    swarm.states["mg1"] = NodeMembership("error", "x", error="its certificate has expired")
    with pytest.raises(Conflict, match="mg1 is in a swarm, and no manager that answers: its certificate"):
        await first_manager(swarm.member, ["mg0", "mg1"], said.append)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (NodeMembership("active", "other"), "in another swarm: docker --context w0 swarm leave"),
        (NodeMembership("locked", "other"), "docker --context w0 swarm unlock"),
        (NodeMembership("error", "x", error="no route"), r"does not reach \(no route\)"),
    ],
)
def test_what_is_in_another_swarm_says_what_to_do(own: NodeMembership, why: str) -> None:
    with pytest.raises(SkepError, match=why):
        must_join(own, {"mine"}, "w0")


def test_a_member_stays_what_it_is() -> None:
    own = NodeMembership("active", "mine", is_manager=True)
    assert not must_join(own, {"mine"}, "w0")
    assert other_role(own, JoinRole.MANAGER) == ""
    assert "docker node demote" in other_role(own, JoinRole.WORKER)
    assert "docker node promote" in other_role(NodeMembership("active", "mine"), JoinRole.MANAGER)


async def test_a_manager_that_is_away_keeps_nobody_from_a_swarm_that_is_there() -> None:
    swarm = Swarm("mg0", "mg1", "mg2")
    swarm.found("mg1")
    swarm.away = {"mg0"}
    assert await first_manager(swarm.member, ["mg0", "mg1", "mg2"], print) == "mg1"
    # It may be in one; a second swarm is not made beside it.
    swarm.away = {"mg1"}
    with pytest.raises(Unavailable, match="mg1: nothing answers"):
        await first_manager(swarm.member, ["mg0", "mg1", "mg2"], print)
    assert not swarm.states["mg0"].is_manager


def test_the_table_has_a_line_for_each() -> None:
    results = [
        JoinResult("mg1", JoinRole.MANAGER, Outcome.JOINED),
        JoinResult("worker10", JoinRole.WORKER, Outcome.FAILED, "nothing answers"),
    ]
    assert result_lines(results) == [
        "NAME       ROLE      RESULT",
        "mg1        manager   joined",
        "worker10   worker    failed: nothing answers",
    ]
