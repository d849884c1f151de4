"""Unhealthy containers that the engine does not stop, and exits whose event is lost, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skep.agent.executor.calls import STOP_TRIES, EngineCalls
from skep.agent.executor.container_config import TASK_LABEL
from skep.agent.executor.engine import Json
from skep.agent.executor.interfaces import Observation
from skep.agent.executor.refusals import EngineError
from skep.agent.executor.watch import LOOK_AGAIN_S, UNHEALTHY, UNHEALTHY_RETRY_S, ContainerWatch
from skep.model.states import FAILED
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Unavailable
from skep.sim.loop import VirtualLoop

STOP_S = 10.0


class Engine:
    """Has one container, which is unhealthy; stops it only where it `can_stop`."""

    def __init__(self) -> None:
        self.can_stop = False
        self.is_running = True
        self.health = "unhealthy"
        self.stops = 0
        self.inspections = 0
        self.answers = True

    async def inspect(self, container: str) -> Json:
        self.inspections += 1
        state = {
            "Status": "",
            "Running": self.is_running,
            "ExitCode": 0 if self.is_running else 137,
            "Pid": 1,
        }
        return {"Id": "c1", "State": {**state, "Health": {"Status": self.health}}}

    async def stop(self, container: str, grace_s: float | None) -> None:
        self.stops += 1
        await asyncio.sleep(STOP_S)
        if not self.can_stop:
            raise EngineError(500, "tried to kill container, but did not receive an exit event")
        self.is_running = False

    async def containers(self, *labels: str) -> list[Json]:
        if not self.answers:
            raise Unavailable("it does not answer")
        status = f"Up 2 minutes ({self.health})" if self.is_running else "Exited (137)"
        state = "running" if self.is_running else "exited"
        return [{"Id": "c1", "Labels": {TASK_LABEL: "t1"}, "State": state, "Status": status}]


class Node:
    """A watch over that container."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.failed: list[Observation] = []
        self.works: set[asyncio.Task[None]] = set()
        self.watch = ContainerWatch(
            self.engine,  # type: ignore[arg-type]
            EngineCalls(),
            SystemClock(),
            self._aside,
            lambda task_id: self.watch.forget(task_id),
        )
        self.watch.reports_to(lambda seen: self.failed.append(seen) if seen.state == FAILED else None)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.works.add(task)
        task.add_done_callback(lambda done: (self.works.discard(done), done.result()))

    async def start(self) -> None:
        with self.watch.starting("t1", "c1"):
            pass
        await self.watch.observe("t1")

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """While all is looked at now and then."""
        work = asyncio.ensure_future(self.watch.look_again("label"))
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def die(self) -> None:
        self.engine.is_running = False
        self.event("die", exitCode="137")

    def event(self, action: str, **attributes: str) -> None:
        self.watch._event(
            {"Action": action, "Actor": {"ID": "c1", "Attributes": {TASK_LABEL: "t1", **attributes}}}
        )


def run(scenario: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    async def with_node() -> None:
        await scenario(Node())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(with_node())


async def tried_in_vain(node: Node) -> None:
    await node.start()
    await asyncio.sleep(STOP_TRIES * STOP_S + 1)
    assert (node.engine.stops, node.failed) == (STOP_TRIES, [])


def assert_failed_once(node: Node) -> None:
    (seen,) = node.failed
    assert (seen.error, seen.exit_code) == (f"task: non-zero exit (137): {UNHEALTHY}", 137)


@pytest.mark.parametrize("is_heard", [True, False])
def test_one_that_could_not_be_stopped_is_seen_to_die(is_heard: bool) -> None:
    """By its event, or after a gap in the events."""

    async def scenario(node: Node) -> None:
        await tried_in_vain(node)
        if is_heard:
            node.die()
        else:
            node.engine.is_running = False
            await node.watch._look_at_all("label")
        await asyncio.sleep(0.1)
        assert_failed_once(node)
        await asyncio.sleep(10 * UNHEALTHY_RETRY_S)
        assert_failed_once(node)
        assert node.engine.stops == STOP_TRIES

    run(scenario)


def test_one_that_dies_during_the_last_try_is_seen() -> None:
    async def scenario(node: Node) -> None:
        await node.start()
        await asyncio.sleep(STOP_TRIES * STOP_S - 1)
        node.die()
        await asyncio.sleep(5)
        assert_failed_once(node)

    run(scenario)


def test_it_is_tried_again_and_not_too_often() -> None:
    async def scenario(node: Node) -> None:
        await tried_in_vain(node)
        for _ in range(100):  # whatever is heard of it meanwhile
            node.event("health_status: unhealthy")
            await asyncio.sleep(0.1)
        assert node.engine.stops == STOP_TRIES
        await asyncio.sleep(600)
        rounds = 600 / (UNHEALTHY_RETRY_S + STOP_TRIES * STOP_S)
        assert STOP_TRIES * (rounds - 1) <= node.engine.stops <= STOP_TRIES * (rounds + 2)
        node.engine.can_stop = True
        await asyncio.sleep(2 * UNHEALTHY_RETRY_S)
        assert_failed_once(node)

    run(scenario)


def test_one_that_is_healthy_again_is_left_alone() -> None:
    async def scenario(node: Node) -> None:
        await tried_in_vain(node)
        node.engine.health = "healthy"
        node.event("health_status: healthy")
        await asyncio.sleep(10 * UNHEALTHY_RETRY_S)
        assert (node.engine.stops, node.failed) == (STOP_TRIES, [])
        node.die()
        assert [seen.error for seen in node.failed] == ["task: non-zero exit (137)"]

    run(scenario)


def test_what_the_swarm_stops_is_tried_no_more_from_here() -> None:
    async def scenario(node: Node) -> None:
        await tried_in_vain(node)
        node.watch.stopping("t1")
        node.die()
        await asyncio.sleep(10 * UNHEALTHY_RETRY_S)
        assert (node.engine.stops, node.failed) == (STOP_TRIES, []), "who stops it says how it ended"

    run(scenario)


def test_an_exit_whose_event_was_lost_is_found() -> None:
    async def scenario(node: Node) -> None:
        node.engine.health = "healthy"
        await node.start()
        async with node.looking():
            await asyncio.sleep(LOOK_AGAIN_S * 2.5)
            assert (node.failed, node.engine.inspections) == ([], 1), "one listing says that all is well"
            node.engine.is_running = False
            await asyncio.sleep(LOOK_AGAIN_S + 1)
        assert [seen.error for seen in node.failed] == ["task: non-zero exit (137)"]

    run(scenario)


def test_the_look_goes_on_when_an_engine_does_not_answer() -> None:
    async def scenario(node: Node) -> None:
        node.engine.health = "healthy"
        await node.start()
        node.engine.is_running = False
        node.engine.answers = False
        async with node.looking():
            await asyncio.sleep(LOOK_AGAIN_S * 5)
            assert node.failed == []
            node.engine.answers = True
            await asyncio.sleep(LOOK_AGAIN_S + 1)
        assert len(node.failed) == 1

    run(scenario)


@pytest.mark.parametrize("is_given_up", [True, False])
def test_what_starts_after_it_was_given_up_is_stopped(is_given_up: bool) -> None:
    """An engine that froze starts it when it thaws; what a user starts again by hand is left alone."""

    async def scenario(node: Node) -> None:
        node.engine.health, node.engine.can_stop, node.engine.is_running = "healthy", True, False
        if is_given_up:
            node.watch.doubt("t1")
        async with node.looking():
            await asyncio.sleep(LOOK_AGAIN_S + 1)
            node.engine.is_running = True
            await asyncio.sleep(LOOK_AGAIN_S + STOP_S)
            assert node.engine.is_running is not is_given_up
            node.engine.is_running = True
            await asyncio.sleep(LOOK_AGAIN_S * 3)
        assert node.engine.stops == int(is_given_up), "and it is not looked for for ever"

    run(scenario)
