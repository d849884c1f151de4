"""Logs that are followed over crashes, restarts and changes of the leader: no line twice, none lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

import pytest
import structlog

from skep.manager.logs.broker import ANSWER_S, LogBroker
from skep.model.logs import LogOptions, LogSelection
from skep.model.node import READY, Node, NodeDescription, NodeSpec, NodeStatus
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc.messages import LOGS, FromManager, ReadLogs
from skep.runtime.clock import LoopClock
from skep.sim.cluster import Options, run
from skep.sim.loop import VirtualLoop
from skep.sim.violation import Violation
from skep.store.view import View

FOUND = {
    1024: "what an update before had made counted as this one's, where the clock had gone back",
    1072: "a node that had not answered was asked twice for a task that did something meanwhile",
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.mark.parametrize("seed", [*FOUND, *range(3000, 3006)])
def test_followers_get_every_line_once(seed: int) -> None:
    run(Options(seed=seed, follows=True))


def test_checkers_see_a_line_that_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that does not know how far it has come."""
    monkeypatch.setattr("skep.manager.logs.reader.after", lambda time: "")
    with pytest.raises(Violation, match="a follower got line"):
        follow_all(range(1000, 1020))


def follow_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run(Options(seed=seed, follows=True))


class Nodes:
    """A node that hears what it is asked for, and never answers."""

    def __init__(self) -> None:
        self.asked: list[ReadLogs] = []

    def has(self, node_id: str) -> bool:
        return True

    def understands(self, node_id: str, feature: str) -> bool:
        return feature == LOGS

    def answer(self, node_id: str, message: FromManager) -> None:
        assert isinstance(message, ReadLogs)
        self.asked.append(message)


def test_a_task_is_asked_for_once_at_a_time() -> None:
    """Found by the simulation's seed 1072 with a follower: a node that had not answered was to be asked again
    in a moment, and its task ended meanwhile: it was asked for twice, and all its lines came twice."""

    async def scenario() -> None:
        view, nodes = View(), Nodes()
        described = NodeDescription(hostname="a")
        view.put_node(Node(id="a", spec=NodeSpec(), description=described, created_at=0, updated_at=0))
        view.put_node_status("a", NodeStatus(READY))
        task = Task("t", "s", "a", 1, 1, RUNNING, 0, 0)
        view.put_task(task)
        view.put_status(task, TaskStatus(RUNNING, 0.0))
        broker = LogBroker(view, nodes, LoopClock(0), lambda: str(len(nodes.asked)))
        reader = broker.open(LogSelection("s", "t"), LogOptions(follow=True), "", False)

        async def read() -> None:
            async for _ in reader.parts():
                pass

        reading = asyncio.ensure_future(read())
        for _ in range(200):
            await asyncio.sleep(0.1)
            reader.task_changed(task)
        assert len(nodes.asked) == 20 // ANSWER_S  # one after the other
        reader.close()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
