"""A node's line to its managers: which it tries, what a lost one ends, and what an old one may still bring."""

from __future__ import annotations

import asyncio
import random

import pytest

from skep.agent.session import RETRY_MAX_S, Session
from skep.model.node import NodeDescription
from skep.model.task import TaskAddress
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.messages import (
    Attach,
    Attached,
    Goodbye,
    Manage,
    Managing,
    NotAttached,
    NotNow,
    Registered,
    Renew,
    Renewed,
    Role,
    TaskNetwork,
    encode,
)
from skep.runtime.errors import Conflict, Unavailable
from skep.sim.loop import VirtualLoop


class Line:
    """A connection whose other end takes what it is sent for granted."""

    identity: Identity | None = None
    remote_host = local_host = ""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def send(self, frame: bytes) -> None: ...

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self._handler.closed, "closed")


class HalfOpen(Line):
    """One that its opener gave up, for it took too long, and that goes on for a while."""

    def close(self) -> None: ...


class Node:
    """Its session; `answers` says what the managers that answer say, by address."""

    def __init__(self, managers: list[str]) -> None:
        self.answers: dict[str, Goodbye | Registered] = {}
        self.lines: list[Line] = []
        self.half_open: list[Handler] = []  # of connections that came too late
        self.late = 0  # how many are to come so
        self.tried: list[str] = []
        self.remembered: list[str] = []
        self.session = Session(
            connect=self._connect,
            managers=managers,
            rng=random.Random(1),
            on_managers=self._remember,
        )

    async def run(self, for_s: float) -> None:
        work = asyncio.ensure_future(self.session.run(self._describe))
        await asyncio.sleep(for_s)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    def _remember(self, managers: list[str]) -> None:
        self.remembered = managers

    async def _describe(self) -> NodeDescription:
        return NodeDescription(hostname="n")

    async def _connect(self, address: str, handler: Handler) -> Connection:
        self.tried.append(address)
        answer = self.answers.get(address)
        if self.late > 0:
            self.late -= 1
            self.half_open.append(handler)
            handler.connected(HalfOpen(handler))
            raise Unavailable(f"{address} did not answer within 15 s")
        if answer is None:
            raise Unavailable(f"{address}: connection refused")
        line = Line(handler)
        self.lines.append(line)
        handler.connected(line)
        asyncio.get_running_loop().call_soon(handler.frame, encode(answer))
        return line


def test_what_a_manager_says_that_does_not_lead_takes_the_place_of_nothing() -> None:
    """Found by the simulation's seed 501290: a manager that had been away named those of before, who were
    none any more; the node tried them, and its own address, for ever."""

    async def scenario() -> None:
        node = Node(["leads:1", "behind:1", "own:1"])
        node.answers["behind:1"] = Goodbye("not-leader", "", ["gone:1", "own:1"])
        await node.run(for_s=30)
        assert {"gone:1", "leads:1", "behind:1"} <= set(node.tried[-8:])
        node.answers["leads:1"] = Registered(5.0, ["leads:1", "behind:1"])
        node.tried.clear()
        await node.run(for_s=10)
        assert node.tried[-1] == "leads:1"
        assert node.session.managers == ["leads:1", "behind:1"]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_what_the_leader_says_is_remembered_also_where_another_has_said_it_before() -> None:
    async def scenario() -> None:
        node = Node(["a:1", "b:1"])
        said = ["b:1", "c:1"]
        node.answers["a:1"] = Goodbye("not-leader", "", said, "b:1")
        node.answers["b:1"] = Registered(5.0, said)
        await node.run(for_s=5)
        assert (node.session.managers, node.remembered) == (said, said)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_a_lost_line_ends_the_questions_under_way_at_once() -> None:
    """Each waited for ten seconds, for an answer that could not come."""

    async def scenario() -> None:
        node = Node(["a:1"])
        node.answers["a:1"] = Registered(5.0, [])
        work = asyncio.ensure_future(node.run(for_s=30))
        await node.session.ready.wait()
        loop = asyncio.get_running_loop()
        asking = [
            asyncio.ensure_future(node.session.ask(Renew(b"request"), Renewed)),
            asyncio.ensure_future(node.session.ask(Manage("n:1"), Managing, NotNow)),
        ]
        await asyncio.sleep(1)
        lost_at = loop.time()
        node.lines[-1].close()
        for each in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(each, Unavailable)
            assert "the line to the manager at a:1 was lost" in str(each)
        assert loop.time() - lost_at < 0.1
        work.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_an_answer_goes_to_the_question_that_it_answers() -> None:
    network, address = TaskNetwork("n", "n", "overlay"), TaskAddress("n", "10.0.0.5/24", "10.0.0.1/24")

    async def scenario() -> None:
        node = Node(["a:1"])
        node.answers["a:1"] = Registered(5.0, [])
        work = asyncio.ensure_future(node.run(for_s=60))
        await node.session.ready.wait()
        first, second, third = (
            asyncio.ensure_future(node.session.ask(Attach(n, "n"), Attached, NotAttached)) for n in (1, 2, 3)
        )
        await asyncio.sleep(0.1)
        for said in (NotAttached(2, "Conflict", "none is free"), Attached(1, network, address)):
            node.session.received(encode(said))
        assert (await first).address == address
        with pytest.raises(Conflict, match="none is free"):
            await second
        with pytest.raises(Unavailable, match="did not answer within 10 s"):
            await third
        node.session.received(encode(Attached(3, network, address)))  # nobody waits any more
        work.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_what_an_old_line_brings_does_not_touch_a_new_one() -> None:
    """A connection that was given up while it was being opened can still be heard of, when another stands."""

    async def scenario() -> None:
        node = Node(["a:1"])
        node.late = 1
        node.answers["a:1"] = Registered(5.0, [])
        heard: list[Role] = []
        node.session.on(Role, heard.append)
        work = asyncio.ensure_future(node.run(for_s=60))
        await node.session.ready.wait()
        (old,) = node.half_open
        old.frame(encode(Role("manager", False)))
        old.frame(encode(Goodbye("removed", "by a manager of before")))
        old.closed("at last")
        await asyncio.sleep(1)
        assert node.session.ready.is_set(), "the new session stands"
        assert not heard
        assert len(node.lines) == 1
        work.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_a_node_whose_word_is_refused_says_why_and_does_not_come_again_at_once() -> None:
    async def scenario() -> None:
        node = Node(["a:1", "b:1"])
        node.answers = dict.fromkeys(node.session.managers, Goodbye("refused", "it has 2^63 CPUs", []))
        await node.run(for_s=60)
        assert len(node.tried) < 60 / RETRY_MAX_S + 5
        assert node.session.trouble.endswith("it has 2^63 CPUs")

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
