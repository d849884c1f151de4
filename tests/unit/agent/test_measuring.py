"""What a node says of its usage: between two readings, in parts, and never unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from skep.agent import measuring
from skep.agent.executor.interfaces import Counted, RunningTask, UsageReading
from skep.agent.measuring import Measuring
from skep.agent.session import Session
from skep.model.usage import HostUsage, TaskUsage
from skep.rpc.messages import TASKS_SAID_MAX, USAGE, UsageAsk, UsageSaid
from skep.runtime.errors import Unavailable


class Manager:
    """Fulfils what `Measuring` needs of a session."""

    def __init__(self) -> None:
        self.said: list[UsageSaid] = []
        self.knows = True
        self.ask: Callable[[UsageAsk], None]

    def on(self, kind: type, take: Any, feature: str) -> None:
        assert (kind, feature) == (UsageAsk, USAGE)
        self.ask = take

    def manager_knows(self, feature: str) -> bool:
        return feature == USAGE and self.knows

    def send(self, said: UsageSaid) -> None:
        self.said.append(said)


class Node:
    """Its host uses two processors, each task as many as its name says, and a megabyte."""

    def __init__(self, *tasks: str) -> None:
        self.manager = Manager()
        self.tasks = list(tasks)
        self.readings = 0
        self.is_unreadable = False
        self.measuring = Measuring(cast("Session", self.manager), self.read, self.running)

    def running(self) -> list[RunningTask]:
        return [RunningTask(task_id, f"c{task_id}", 1) for task_id in self.tasks]

    async def read(self, tasks: Sequence[RunningTask]) -> UsageReading:
        self.readings += 1
        if self.is_unreadable:
            raise Unavailable("no /proc")
        now = asyncio.get_running_loop().time()
        used = {each.task_id: Counted(now, float(each.task_id) * now, 1 << 20, 5) for each in tasks}
        return UsageReading(Counted(now, 2.0 * now, 1 << 30), 0.5, used)

    async def asked(self, number: int, tasks: bool = True) -> float:
        """Returns how long the answer took."""
        began = asyncio.get_running_loop().time()
        count = len(self.manager.said)
        self.manager.ask(UsageAsk(number, tasks))
        while len(self.manager.said) == count or self.manager.said[-1].more:
            await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time() - began


def rounded(said: UsageSaid) -> dict[str, float]:
    return {each.task_id: round(each.cpu_cores, 3) for each in said.tasks}


async def test_the_first_answer_takes_a_moment_and_those_after_it_none() -> None:
    node = Node("0.5", "3")
    assert await node.asked(7) >= measuring.WINDOW_MIN_S
    (said,) = node.manager.said
    assert (said.number, said.more, rounded(said)) == (7, False, {"0.5": 0.5, "3": 3.0})
    assert said.host == HostUsage(2.0, 1 << 30, 0.5)
    assert said.tasks[0] == TaskUsage("0.5", 0.5, 1 << 20, 5)
    await asyncio.sleep(2.0)
    assert await node.asked(8) < 0.1
    assert (node.readings, rounded(node.manager.said[-1])) == (3, {"0.5": 0.5, "3": 3.0})


async def test_what_is_old_and_what_is_new_is_read_twice() -> None:
    node = Node("1")
    await node.asked(1)
    await asyncio.sleep(measuring.WINDOW_MAX_S + 1.0)
    assert await node.asked(2) >= measuring.WINDOW_MIN_S
    await asyncio.sleep(2.0)
    node.tasks.append("2")
    assert await node.asked(3) >= measuring.WINDOW_MIN_S
    assert rounded(node.manager.said[-1]) == {"1": 1.0, "2": 2.0}


async def test_a_question_for_the_host_alone_keeps_what_is_known_of_tasks() -> None:
    node = Node("1")
    await node.asked(1)
    await asyncio.sleep(2.0)
    assert await node.asked(2, tasks=False) < 0.1
    assert node.manager.said[-1].tasks == []
    await asyncio.sleep(2.0)
    assert await node.asked(3) < 0.1
    assert rounded(node.manager.said[-1]) == {"1": 1.0}


async def test_a_node_with_very_many_tasks_says_them_in_parts() -> None:
    node = Node(*(str(n) for n in range(2 * TASKS_SAID_MAX + 1)))
    await node.asked(1)
    assert [(len(each.tasks), each.more) for each in node.manager.said] == [
        (TASKS_SAID_MAX, True),
        (TASKS_SAID_MAX, True),
        (1, False),
    ]


async def test_two_questions_at_once_have_both_their_answer_and_only_the_last_of_a_kind() -> None:
    node = Node("1")
    for number, tasks in ((1, True), (2, False), (3, True)):
        node.manager.ask(UsageAsk(number, tasks))
    await asyncio.sleep(2.0)
    assert sorted(each.number for each in node.manager.said) == [2, 3]


async def test_nothing_is_said_where_nothing_can_be_read_or_nobody_understands() -> None:
    node = Node("1")
    node.is_unreadable = True
    node.manager.ask(UsageAsk(1))
    await asyncio.sleep(1.0)
    node.is_unreadable, node.manager.knows = False, False
    node.manager.ask(UsageAsk(2))
    await asyncio.sleep(1.0)
    assert node.manager.said == []
    await node.measuring.close()


@pytest.mark.parametrize("reading", [None, Counted(2.0, 9.0, 0)])
def test_one_reading_says_nothing_of_processors(reading: Counted | None) -> None:
    assert measuring.cores(reading, Counted(2.0, 9.0, 0)) == 0.0


async def test_a_counter_that_went_back_is_no_usage() -> None:
    assert measuring.cores(Counted(1.0, 9.0, 0), Counted(2.0, 8.0, 0)) == 0.0
