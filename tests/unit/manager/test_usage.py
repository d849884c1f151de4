"""Which tasks and services take most, by what their nodes say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skep.manager.dispatcher.usage import UsageQuestions
from skep.manager.node_usage import NodeUsages
from skep.manager.usage import RECENT_S, SwarmUsage
from skep.model.usage import CPU, MEMORY, RESTARTS, HostUsage, NodesAsked, TaskUsage
from skep.rpc.messages import UsageAsk, UsageSaid
from skep.runtime.clock import LoopClock
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task


class Swarm:
    """Two nodes that answer at once: task `tN` takes N processors, and the less memory."""

    def __init__(self) -> None:
        self.view = view = View()
        known = NodeUsages()
        self.questions = UsageQuestions(view, self, known, LoopClock(0))
        self.usage = SwarmUsage(view, self.questions, known, LoopClock(0))
        for node_id in ("a", "b"):
            add_node(view, node_id)
        add_node(view, "lost", state="down")
        add_service(view, "s", replicas=3)
        add_service(view, "idle", replicas=0)
        add_service(view, "z", replicas=1)
        for n, node_id, service_id in ((1, "a", "s"), (2, "b", "s"), (3, "a", "s"), (4, "b", "z")):
            add_task(view, f"t{n}", node_id, n, service_id=service_id, attempt=n % 3)

    def has(self, node_id: str) -> bool:
        return True

    def understands(self, node_id: str, feature: str) -> bool:
        return True

    def send(self, node_id: str, asked: Any) -> None:
        assert isinstance(asked, UsageAsk)
        assert node_id != "lost"
        ids = [task.id for task in self.view.tasks_of_node(node_id)]
        said = [TaskUsage(id, float(id[1:]), 100 - int(id[1:])) for id in ids]
        self.questions.said(node_id, UsageSaid(asked.number, HostUsage(1.0, 1, 1.0), said))


@pytest.mark.parametrize(
    ("sort", "order"),
    [(CPU, ["t4", "t3", "t2", "t1"]), (MEMORY, ["t1", "t2", "t3", "t4"]), (RESTARTS, ["t2", "t1"])],
)
async def test_tasks_in_order(sort: str, order: list[str]) -> None:
    found = await Swarm().usage.tasks(None, None, sort, 4)
    assert (found.asked, found.total) == (NodesAsked(2, 2), 4)
    assert [each.task.id for each in found.tasks][: len(order)] == order or sort == RESTARTS
    if sort == RESTARTS:
        assert [each.task.attempt for each in found.tasks] == [2, 1, 1, 0]


async def test_some_of_them() -> None:
    swarm = Swarm()
    found = await swarm.usage.tasks(["a"], None, CPU, 1)
    assert (found.asked, found.total, [each.task.id for each in found.tasks]) == (NodesAsked(1, 1), 2, ["t3"])
    found = await swarm.usage.tasks(None, ["z"], CPU, 9)
    assert (found.asked, [each.task.id for each in found.tasks]) == (NodesAsked(1, 1), ["t4"])
    assert (await swarm.usage.tasks(["lost"], None, CPU, 9)).asked == NodesAsked(0, 0)


async def test_services_are_what_their_tasks_are() -> None:
    swarm = Swarm()
    found = await swarm.usage.services(None, CPU, 9)
    rows = [(e.service.id, e.tasks, e.cpu_cores, e.memory_bytes, e.restarts) for e in found.services]
    assert rows == [("s", 3, 6.0, 294, 3), ("z", 1, 4.0, 96, 1), ("idle", 0, 0.0, 0, 0)]
    assert (await swarm.usage.services(["z", "gone"], MEMORY, 9)).total == 1


async def test_a_task_that_is_gone_meanwhile_is_not_shown() -> None:
    swarm = Swarm()
    await swarm.usage.tasks(None, None, CPU, 9)
    swarm.view.drop_task(swarm.view.tasks["t4"])
    assert (await swarm.usage.tasks(None, None, CPU, 9)).total == 3


async def test_what_was_said_long_ago_is_known_and_not_recent() -> None:
    swarm = Swarm()
    assert swarm.usage.recent("a") is None
    assert await swarm.usage.ask_nodes() == NodesAsked(2, 2)
    await asyncio.sleep(RECENT_S / 2)
    assert await swarm.usage.ask_nodes(RECENT_S) == NodesAsked(2, 2)  # nobody is asked for that
    assert swarm.usage.recent("a") is swarm.usage.of("a") is not None
    await asyncio.sleep(RECENT_S / 2 + 1.0)
    assert swarm.usage.recent("a") is None
    assert swarm.usage.of("a") is not None
