"""Nodes are asked what they use by turns, once for all who want to know, and believed of their own tasks only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from skep.manager.dispatcher import usage as module
from skep.manager.dispatcher.usage import UsageQuestions
from skep.manager.node_usage import NodeUsages
from skep.model.usage import HostUsage, NodesAsked, TaskUsage
from skep.rpc import messages
from skep.rpc.messages import UsageAsk, UsageSaid
from skep.runtime.clock import LoopClock
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task

HOST = HostUsage(1.5, 1 << 30, 0.5)


class Nodes:
    """Fulfils `NodeSessions`; nodes answer by `answer`, each after a while, unless they are `silent` or `old`."""

    def __init__(self, *node_ids: str) -> None:
        self.view = View()
        self.known = NodeUsages()
        self.questions = UsageQuestions(self.view, self, self.known, LoopClock(0))
        self.asked: list[tuple[float, str, bool]] = []
        self.silent: set[str] = set()
        self.old: set[str] = set()
        self.answer_s = 0.01
        self.answer: Callable[[str, UsageAsk], list[UsageSaid]] = lambda node_id, asked: [
            UsageSaid(asked.number, HOST)
        ]
        for node_id in node_ids:
            add_node(self.view, node_id)

    def has(self, node_id: str) -> bool:
        return True

    def understands(self, node_id: str, feature: str) -> bool:
        return feature == messages.USAGE and node_id not in self.old

    def send(self, node_id: str, message: messages.FromManager) -> None:
        assert isinstance(message, UsageAsk)
        loop = asyncio.get_running_loop()
        self.asked.append((loop.time(), node_id, message.tasks))
        if node_id not in self.silent:
            for said in self.answer(node_id, message):
                loop.call_later(self.answer_s, self.questions.said, node_id, said)

    async def ask(self, *node_ids: str, tasks: bool = False) -> NodesAsked:
        return await self.questions.ask(node_ids, tasks)


async def test_an_answer_is_known_and_asked_for_again_when_it_is_old() -> None:
    nodes = Nodes("a", "b")
    assert await nodes.ask("a", "b") == NodesAsked(2, 2)
    found = nodes.known.of("a")
    assert found is not None
    assert found.host == HOST
    await asyncio.sleep(module.FRESH_S / 2)
    assert await nodes.ask("a", "b") == NodesAsked(2, 2)
    assert len(nodes.asked) == 2
    await asyncio.sleep(module.FRESH_S)
    await nodes.ask("a")
    assert [node_id for _, node_id, _ in nodes.asked] == ["a", "b", "a"]


async def test_all_who_ask_at_once_share_one_question() -> None:
    nodes = Nodes("a")
    nodes.answer_s = 0.5
    found = await asyncio.gather(nodes.ask("a", tasks=True), nodes.ask("a"), nodes.ask("a", tasks=True))
    assert found == [NodesAsked(1, 1)] * 3
    assert [tasks for _, _, tasks in nodes.asked] == [True]


async def test_a_late_answer_is_taken_and_the_node_is_not_asked_meanwhile() -> None:
    nodes = Nodes("a")
    nodes.answer_s = 3.0
    assert await nodes.ask("a") == NodesAsked(1, 0)
    assert await nodes.ask("a") == NodesAsked(1, 0)
    assert await nodes.ask("a") == NodesAsked(1, 1)
    assert len(nodes.asked) == 1
    nodes.silent = {"a"}
    await asyncio.sleep(module.FRESH_S)
    await nodes.ask("a")
    await asyncio.sleep(module.LATE_S)
    await nodes.ask("a")
    assert len(nodes.asked) == 3  # what was never answered is asked again


async def test_who_wants_tasks_is_not_content_with_the_host() -> None:
    nodes = Nodes("a")
    await nodes.ask("a")
    await nodes.ask("a", tasks=True)
    assert [tasks for _, _, tasks in nodes.asked] == [False, True]


async def test_silent_nodes_and_old_ones_do_not_hold_up_the_others() -> None:
    nodes = Nodes("a", "b", "c")
    nodes.silent, nodes.old = {"b"}, {"c"}
    began = asyncio.get_running_loop().time()
    assert await nodes.ask("a", "b", "c") == NodesAsked(3, 1)
    assert asyncio.get_running_loop().time() - began <= module.ANSWER_S + 0.1
    assert [node_id for _, node_id, _ in nodes.asked] == ["a", "b"]
    assert nodes.known.of("b") is None


async def test_thousands_are_asked_by_turns_and_within_two_seconds() -> None:
    ids = [f"n{n}" for n in range(2300)]
    nodes = Nodes(*ids)
    nodes.silent = set(ids[2290:])
    began = asyncio.get_running_loop().time()
    assert await nodes.ask(*ids) == NodesAsked(2300, 2290)
    assert asyncio.get_running_loop().time() - began < 2.0
    at_once = [sum(1 for other, _, _ in nodes.asked if other == at) for at, _, _ in nodes.asked]
    assert max(at_once) == module.BATCH


async def test_a_node_speaks_of_its_own_tasks_only() -> None:
    nodes = Nodes("a", "b")
    add_service(nodes.view, replicas=0)
    add_task(nodes.view, "t1", "a", 1)
    add_task(nodes.view, "t2", "b", 2)
    said = [TaskUsage(task_id, 1.0, 1) for task_id in ("t1", "t2", "nobody's")]
    nodes.answer = lambda node_id, asked: [UsageSaid(asked.number, HOST, said)]
    await nodes.ask("a", tasks=True)
    assert [each.task_id for each in nodes.questions.tasks_of("a")] == ["t1"]


async def test_an_answer_in_parts_counts_when_all_are_there_and_is_dropped_by_and_by() -> None:
    nodes = Nodes("a")
    add_service(nodes.view, replicas=0)
    for n in (1, 2):
        add_task(nodes.view, f"t{n}", "a", n)
    parts = [([TaskUsage("t1", 1.0, 1)], True), ([TaskUsage("t2", 1.0, 1)], False)]
    nodes.answer = lambda node_id, asked: [UsageSaid(asked.number, HOST, *part) for part in parts]
    assert await nodes.ask("a", tasks=True) == NodesAsked(1, 1)
    assert [each.task_id for each in nodes.questions.tasks_of("a")] == ["t1", "t2"]
    await asyncio.sleep(2 * module.KEPT_S + 0.1)
    assert list(nodes.questions.tasks_of("a")) == []
    nodes.answer = lambda node_id, asked: [UsageSaid(asked.number, HOST, *parts[0])]
    assert await nodes.ask("a", tasks=True) == NodesAsked(1, 0)
    nodes.questions.stop()


@pytest.mark.parametrize("number", [0, 2, 99])
async def test_an_answer_to_no_question_is_not_heard(number: int) -> None:
    nodes = Nodes("a")
    nodes.answer = lambda node_id, asked: [UsageSaid(number, HOST)]
    assert await nodes.ask("a") == NodesAsked(1, 0)
    assert nodes.known.of("a") is None


async def test_a_session_that_ends_and_a_lead_that_is_lost_let_nobody_wait() -> None:
    nodes = Nodes("a", "b")
    nodes.silent = {"a", "b"}
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(0.1, nodes.questions.ended, "a")
    loop.call_later(0.2, nodes.questions.stop)
    assert await nodes.ask("a", "b") == NodesAsked(2, 0)
    assert loop.time() - began < 0.3
