"""Which managers a node tries whose session is lost."""

from __future__ import annotations

import asyncio
import random

from skep.agent.session import Session
from skep.model.node import NodeDescription
from skep.rpc.messages import Goodbye, Registered, encode
from skep.rpc.port import Connection, Handler, Identity
from skep.runtime.errors import Unavailable
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


class Node:
    """Its session; `answers` says what the managers that answer say, by address."""

    def __init__(self, managers: list[str]) -> None:
        self.answers: dict[str, Goodbye | Registered] = {}
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
        if answer is None:
            raise Unavailable(f"{address}: connection refused")
        line = Line(handler)
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
