"""What runs on a node whose daemon starts again, while its engine cannot inspect one of the containers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.container_config import SERVICE_LABEL, TASK_LABEL
from skep.agent.executor.engine import LOOK_S, Json
from skep.agent.executor.interfaces import Adopted, Observation
from skep.agent.executor.refusals import EngineError
from skep.agent.executor.watch import ADOPT_S, LOOK_AGAIN_S, ContainerWatch
from skep.model.states import COMPLETE, FAILED, READY, RUNNING, STARTING
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Unavailable
from skep.sim.loop import VirtualLoop

PORTS = [{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 81, "Type": "tcp"}]
SOON_S = 4.0  # a leader waits for five for a node whose line broke


class Engine:
    """Lists `t0` and `t1` and so on; of `stuck` ones an inspection is not answered."""

    def __init__(self, containers: int) -> None:
        self.listed = [_listed(f"t{number}") for number in range(containers)]
        self.stuck = {"t0"}
        self.refuses = False
        self.gone: set[str] = set()

    async def inspect(self, container: str) -> Json | None:
        if container in self.stuck:
            if self.refuses:
                raise EngineError(500, "its layer is broken")
            await asyncio.sleep(LOOK_S)
            raise Unavailable("it does not answer")
        if container in self.gone:
            return None
        state = {"Status": "running", "Running": True, "Pid": 7, "StartedAt": "2020-01-01T00:00:00Z"}
        return {"Id": container, "State": state}

    async def containers(self, *labels: str) -> list[Json]:
        return self.listed


def _listed(name: str) -> Json:
    labels = {TASK_LABEL: name, SERVICE_LABEL: "s"}
    return {"Id": name, "Labels": labels, "State": "running", "Status": "Up 2 hours", "Ports": PORTS}


class Node:
    def __init__(self, containers: int = 3) -> None:
        self.engine = Engine(containers)
        self.seen: list[Observation] = []
        self.joined: list[str] = []
        self.works: set[asyncio.Task[None]] = set()
        self.watch = ContainerWatch(
            self.engine,  # type: ignore[arg-type]
            EngineCalls(),
            SystemClock(),
            self._aside,
            lambda task_id: self.watch.forget(task_id),
        )
        self.watch.reports_to(self.seen.append)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        self.works.add(asyncio.ensure_future(work))

    async def adopt(self) -> dict[str, Adopted]:
        async with asyncio.timeout(SOON_S):
            found = await self.watch.adopt(self.engine.listed, lambda task_id, _: self.joined.append(task_id))
        return {each.task_id: each for each in found}


def run(scenario: Callable[[Node], Coroutine[Any, Any, None]], containers: int = 3) -> None:
    async def with_node() -> None:
        node = Node(containers)
        looking = asyncio.ensure_future(node.watch.look_again("label"))
        try:
            await scenario(node)
        finally:
            for work in (looking, *node.works):
                work.cancel()
            await asyncio.gather(looking, *node.works, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(with_node())


@pytest.mark.parametrize("refuses", [False, True], ids=["hangs", "refused"])
def test_one_that_cannot_be_inspected_does_not_hold_the_others(refuses: bool) -> None:
    async def scenario(node: Node) -> None:
        node.engine.refuses = refuses
        found = await node.adopt()
        assert {k: each.observation.state for k, each in found.items()} == dict.fromkeys(
            ("t0", "t1", "t2"), RUNNING
        )
        assert [found[k].observation.pid for k in ("t0", "t1", "t2")] == [0, 7, 7]
        assert (found["t0"].service_id, found["t0"].observation.ports) == ("s", (("tcp", 80, 8080),))
        assert sorted(node.joined) == ["t0", "t1", "t2"], "its networks stay"

    run(scenario)


def test_however_many_hang() -> None:
    async def scenario(node: Node) -> None:
        node.engine.stuck = {f"t{number}" for number in range(40)}
        began = asyncio.get_running_loop().time()
        assert len(await node.adopt()) == 60
        assert asyncio.get_running_loop().time() - began < ADOPT_S + 0.1

    run(scenario, containers=60)


@pytest.mark.parametrize(
    ("state", "status", "expected", "code"),
    [
        ("created", "Created", READY, 0),
        ("paused", "Up 2 hours (Paused)", RUNNING, 0),
        ("running", "Up 2 hours (healthy)", RUNNING, 0),
        ("running", "Up 2 seconds (health: starting)", STARTING, 0),
        ("running", "Up 2 hours (unhealthy)", STARTING, 0),
        ("exited", "Exited (0) 2 hours ago", COMPLETE, 0),
        ("exited", "Exited (137) 2 hours ago", FAILED, 137),
        ("dead", "Dead", FAILED, 0),
    ],
)
def test_it_is_what_the_listing_says(state: str, status: str, expected: int, code: int) -> None:
    async def scenario(node: Node) -> None:
        node.engine.listed[0].update(State=state, Status=status)
        seen = (await node.adopt())["t0"].observation
        assert (seen.state, seen.exit_code) == (expected, code)

    run(scenario)


def test_its_end_is_heard_of() -> None:
    async def scenario(node: Node) -> None:
        await node.adopt()
        attributes = {TASK_LABEL: "t0", "exitCode": "3"}
        node.watch._event({"Action": "die", "Actor": {"ID": "t0", "Attributes": attributes}})
        assert [(each.task_id, each.state, each.exit_code) for each in node.seen] == [("t0", FAILED, 3)]

    run(scenario)


def test_it_is_looked_at_later() -> None:
    """Also where the listing still says that all is well."""

    async def scenario(node: Node) -> None:
        await node.adopt()
        node.engine.stuck.clear()
        node.engine.gone.add("t0")
        await asyncio.sleep(LOOK_AGAIN_S + 1)
        assert [(each.task_id, each.state) for each in node.seen] == [("t0", FAILED)]

    run(scenario)
