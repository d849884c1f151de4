"""What goes and what stays when a node's swarm is over for it: the engine may refuse, and others share it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from skep.agent.executor import clearing
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.clearing import SWEEP_AGE_S, Clearing
from skep.agent.executor.container_config import NODE_LABEL, TASK_LABEL
from skep.agent.executor.refusals import EngineError
from skep.model.attachment import NODE_OPTION
from skep.model.network import COPY_LABEL
from skep.runtime.clock import SystemClock

Json = dict[str, Any]


class Engine:
    """Has containers, each on one network, and may refuse to remove some."""

    def __init__(self) -> None:
        self.there: dict[str, Json] = {}
        self.copies: list[Json] = []
        self.swallows: set[str] = set()  # whose removal is said to be under way, and never is done
        self.lists = 0
        self.refusals: dict[str, list[EngineError | None]] = {}  # container -> its answers; None: it is done

    def task(self, name: str, node: str, network: str = "", state: str = "running") -> None:
        labels = {NODE_LABEL: node, TASK_LABEL: name}
        self.there[name] = {
            "Id": name,
            "Names": ["/" + name],
            "Labels": labels,
            "State": state,
            "on": network,
        }

    def single(self, name: str, node: str, network: str, state: str = "running") -> None:
        self.there[name] = {"Id": name, "Names": ["/" + name], "State": state, "on": network, "by": node}

    def network(self, name: str, age_s: float = 3600.0) -> None:
        made = datetime.fromtimestamp(time.time() - age_s, UTC).isoformat()
        labels = {COPY_LABEL: "swarm-" + name}
        self.copies.append({"Id": "id-" + name, "Name": name, "Labels": labels, "Created": made})

    @property
    def left(self) -> list[str]:
        return sorted([*self.there, *(each["Name"] for each in self.copies)])

    # As the client

    async def containers(self, label: str) -> list[Json]:
        self.lists += 1
        name, _, value = label.partition("=")
        return [each for each in self.there.values() if (each.get("Labels") or {}).get(name) == value]

    async def remove(self, container: str) -> None:
        answers = self.refusals.get(container)
        answer = (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else None
        if answer is not None:
            raise answer
        if container in self.swallows:
            return
        self.there.pop(container, None)

    async def inspect(self, container: str) -> Json | None:
        each = self.there[container]
        options = {NODE_OPTION: each["by"]} if each.get("by") else None
        return {"NetworkSettings": {"Networks": {each["on"]: {"DriverOpts": options}}}}

    async def networks(self, label: str) -> list[Json]:
        return list(self.copies)

    async def containers_on(self, network: Json) -> list[Json]:
        return [each for each in self.there.values() if each["on"] == network["Name"]]

    async def disconnect(self, network: str, container: str) -> None:
        self.there[container]["on"] = ""

    async def remove_network(self, network: str) -> None:
        (copy,) = [each for each in self.copies if each["Id"] == network]
        if any(each["on"] == copy["Name"] and each["State"] == "running" for each in self.there.values()):
            raise EngineError(403, "network has active endpoints")
        self.copies.remove(copy)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(clearing, "GIVE_UP_S", 0.1)
    monkeypatch.setattr(clearing, "AGAIN_S", 0.01)
    return Engine()


async def clear(engine: Engine, sweeps: bool = True) -> list[str]:
    return await Clearing(engine, EngineCalls(), "n1", SystemClock(), sweeps).clear()  # type: ignore[arg-type]


async def test_a_refusal_that_passes_is_tried_again(engine: Engine) -> None:
    engine.task("a", "n1")
    engine.refusals["a"] = [EngineError(500, "could not kill"), EngineError(409, "could not kill"), None]
    assert await clear(engine) == []
    assert engine.left == []


async def test_what_the_engine_does_not_let_go_of_is_said_and_the_rest_goes(engine: Engine) -> None:
    engine.network("n")
    for name in ("a", "b", "c"):
        engine.task(name, "n1", "n")
    engine.refusals["b"] = [EngineError(500, "could not kill: no exit event")]
    left = await clear(engine)
    assert left == ["container b: could not kill: no exit event", "network n: network has active endpoints"]
    assert engine.left == ["b", "n"]


async def test_an_engine_that_says_that_it_is_removing_is_given_time(engine: Engine) -> None:
    engine.task("a", "n1")
    engine.swallows = {"a"}
    assert await clear(engine) == ["container a: the engine still lists it"]
    assert 3 <= engine.lists <= 0.1 / 0.01 + 3


async def test_what_is_others_stays(engine: Engine) -> None:
    for name in ("mine", "shared", "single", "theirs"):
        engine.network(name)
    engine.task("a", "n1", "mine")
    engine.task("b", "n1", "shared")
    engine.task("c", "n2", "shared")
    engine.task("d", "n1", "single")
    engine.single("e", "n2", "single", "exited")
    engine.task("f", "n2", "theirs", "created")
    engine.single("users", "", "elsewhere")
    assert await clear(engine) == []
    assert engine.left == ["c", "e", "f", "shared", "single", "theirs", "users"]


async def test_the_users_containers_are_taken_off_and_run_on(engine: Engine) -> None:
    engine.network("n")
    engine.network("m")
    engine.single("a", "n1", "n")
    engine.single("b", "n1", "m")
    engine.task("c", "n2", "m")
    assert await clear(engine) == []
    assert engine.left == ["a", "b", "c", "m"]
    assert (engine.there["a"]["on"], engine.there["b"]["on"]) == ("", "")


async def test_a_container_that_the_swarm_did_not_put_on_a_network_keeps_it(engine: Engine) -> None:
    engine.network("n")
    engine.network("other")
    engine.task("a", "n1", "n")
    engine.single("x", "", "n")
    engine.single("y", "", "other")
    assert await clear(engine) == ["network n: container x, which the swarm did not put there, is on it"]
    assert engine.left == ["n", "other", "x", "y"]


@pytest.mark.parametrize(("sweeps", "left"), [(True, []), (False, ["unused"])])
async def test_what_another_node_of_the_daemon_may_be_about_to_need_stays(
    engine: Engine, sweeps: bool, left: list[str]
) -> None:
    engine.network("n")
    engine.network("unused")
    engine.task("a", "n1", "n")
    assert await clear(engine, sweeps) == []
    assert engine.left == left


async def test_what_another_daemon_has_just_made_stays_and_what_this_node_made_goes(engine: Engine) -> None:
    for name in ("others", "mine", "empty"):
        engine.network(name, age_s=1.0)
    engine.network("old", age_s=SWEEP_AGE_S + 1)
    engine.task("a", "n1", "mine")
    made = frozenset({"swarm-empty"})
    clearing = Clearing(engine, EngineCalls(), "n1", SystemClock(), True, made)  # type: ignore[arg-type]
    assert await clearing.clear() == []
    assert engine.left == ["others"]
