"""A node and two managers that both take themselves for the leader: one was suspended while the other came to
lead. What the older one says must end nothing, however the node comes to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.agent.lead_fence import INCARNATIONS_MAX, LeadFence
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings
from skep.daemon.keys import KeyFiles
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import Running
from skep.daemon.state import Membership, StateDir
from skep.daemon.this_host import HostSettings, ThisHost
from skep.manager.dispatcher.observer import NodeObserver
from skep.manager.dispatcher.sessions import Sessions
from skep.manager.dispatcher.strangers import CONFIRMING_MAX
from skep.manager.dispatcher.tasks import TaskDispatcher
from skep.manager.events import EventHub
from skep.model.node import NodeDescription
from skep.rpc.certificates import NodeKeys
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.messages import (
    DATA_KEYS,
    NOT_LEADER,
    REMOVED,
    Goodbye,
    HasDataKeys,
    Lead,
    Register,
    decode_from_manager,
    encode,
)
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Unavailable
from skep.sim.loop import Place, VirtualLoop
from skep.sim.net import Network
from skep.store.view import View
from tests.simulation.test_leader_parts import new_node
from tests.unit.builders import add_service, add_task

pytestmark = pytest.mark.usefixtures("quiet")

OLD, NEW = Lead("x", 100), Lead("x", 200)
BOTH = ["old:2377", "new:2377"]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


class Manager:
    """Leads, as far as it knows. `knows` the node, or not; asked, it says that the node was removed."""

    def __init__(self, network: Network, name: str, lead: Lead | None, knows: bool = True) -> None:
        self.name, self._network = name, network
        self.view = View()
        if knows:
            self.view.put_node(new_node("n"))
        self.sessions = Sessions(self.view, BOTH, NodeObserver(), lead, self._is_removed)
        tasks = TaskDispatcher(self.view, self.sessions, lambda task, status, news: None, LoopClock(0))
        self.sessions.on(Register, tasks.began)
        self.sessions.start()
        network.plug_in(name, Place())
        self.listen()

    def listen(self) -> None:
        self._network.listen(self.name, self.sessions.open)

    def die(self) -> None:
        self._network.stop_listening(self.name)
        self._network.reset(self.name)

    async def _is_removed(self, node_id: str) -> bool:
        return True


class Node(AgentOwner):
    """The agent of one, and what it remembers over a restart."""

    def __init__(self, network: Network) -> None:
        network.plug_in("n", Place())
        self._network = network
        self.executor = SimulatedExecutor("n", SimulatedSettings(), random.Random(1), LoopClock(0))
        self.leads: dict[str, int] = {}
        self.said_removed: list[str] = []
        self.keys = NodeKeys(b"", b"", b"")

    def start(self, managers: list[str]) -> None:
        settings = AgentSettings("n", "n", managers, leads=self.leads)
        self.agent = AgentRunner(
            settings, self, AgentParts(self.executor, LoopClock(0), random.Random(1)), self
        )
        self.agent.start()

    def use(self, keys: NodeKeys) -> None:
        raise AssertionError("nothing renews them")

    def lead_followed(self, leads: dict[str, int]) -> None:
        self.leads = leads

    def removed(self, message: str) -> None:
        self.said_removed.append(message)

    async def connect_logs(self, address: str, handler: Handler) -> Connection:
        return await self.connect(address, handler)

    async def connect(self, address: str, handler: Handler) -> Connection:
        return await self._network.connect("n", Identity("n", "worker", "c"), address, handler)

    @property
    def running(self) -> int:
        return len(self.executor.running)


def newer_with_a_task(network: Network) -> Manager:
    manager = Manager(network, "new", NEW)
    add_service(manager.view, "s")
    add_task(manager.view, "t", "n", observed=None)
    return manager


@pytest.mark.parametrize("knows", [True, False], ids=["would stop its tasks", "would remove it"])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_leader_of_before_ends_nothing(knows: bool, restarts: bool) -> None:
    async def scenario() -> None:
        network = Network(random.Random(1))
        newer = newer_with_a_task(network)
        older = Manager(network, "old", OLD, knows)
        node = Node(network)
        node.start(["new:2377"])
        await asyncio.sleep(20)
        assert (node.running, node.leads) == (1, {"x": 200})
        newer.die()
        if restarts:
            await node.agent.stop()
            node.start(BOTH)
        await asyncio.sleep(20)
        assert (node.running, node.said_removed) == (1, [])
        assert not node.agent.session.ready.is_set()
        assert "older vote" in node.agent.session.trouble
        newer.listen()
        await asyncio.sleep(20)
        assert node.agent.session.ready.is_set()
        assert node.running == 1
        older.sessions.stop()
        await node.agent.stop()

    run(scenario)


def test_a_store_that_was_restored_is_another_history() -> None:
    """Its leads count from one again."""

    async def scenario() -> None:
        network = Network(random.Random(1))
        newer = newer_with_a_task(network)
        Manager(network, "old", Lead("restored", 7))
        node = Node(network)
        node.start(["new:2377"])
        await asyncio.sleep(20)
        newer.die()
        await asyncio.sleep(20)
        assert (node.running, node.leads) == (0, {"x": 200, "restored": 7})
        await node.agent.stop()

    run(scenario)


def test_a_manager_of_an_earlier_skep_is_followed() -> None:
    """While managers are upgraded one after the other, and it cannot say whose word it is."""

    async def scenario() -> None:
        network = Network(random.Random(1))
        newer = newer_with_a_task(network)
        Manager(network, "old", None)
        node = Node(network)
        node.start(["new:2377"])
        await asyncio.sleep(20)
        newer.die()
        await asyncio.sleep(20)
        assert node.agent.session.ready.is_set()
        await node.agent.stop()

    run(scenario)


def test_histories_that_are_remembered_are_bounded() -> None:
    remembered: list[dict[str, int]] = []
    fence = LeadFence({}, remembered.append)
    for n in range(2 * INCARNATIONS_MAX):
        fence.follow(Lead(f"i{n}", n))
    fence.follow(Lead("i15", 15))
    assert len(remembered) == 2 * INCARNATIONS_MAX
    assert list(remembered[-1]) == [f"i{n}" for n in range(INCARNATIONS_MAX, 2 * INCARNATIONS_MAX)]
    assert not fence.admits(Lead("i15", 14))
    assert fence.admits(Lead("i15", 15))


class Line:
    """A connection that keeps what was sent."""

    remote_host = local_host = "127.0.0.1"

    def __init__(self) -> None:
        self.identity: Identity | None = Identity("n", "worker", "c")
        self.said: list[str] = []

    def send(self, frame: bytes) -> None:
        message = decode_from_manager(frame)
        assert isinstance(message, Goodbye)
        assert message.lead == NEW
        self.said.append(message.kind)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("store_says", "kind"), [("removed", REMOVED), ("there", NOT_LEADER), ("away", NOT_LEADER)]
)
def test_only_the_store_says_that_a_node_was_removed(store_says: str, kind: str) -> None:
    """Not what the manager remembers: it may be the leader of before."""

    async def scenario() -> None:
        asked = asyncio.Event()

        async def is_removed(node_id: str) -> bool:
            await asked.wait()
            if store_says == "away":
                raise Unavailable("no quorum")
            return store_says == "removed"

        sessions = Sessions(View(), BOTH, NodeObserver(), NEW, is_removed)
        lines = [Line() for _ in range(CONFIRMING_MAX + 1)]
        for line in lines:
            sessions.open(line).frame(encode(Register(NodeDescription())))
        await asyncio.sleep(1)
        assert [line.said for line in lines] == [[]] * CONFIRMING_MAX + [[NOT_LEADER]]
        asked.set()
        await asyncio.sleep(1)
        assert all(line.said == [kind] for line in lines[:-1])

    run(scenario)


@pytest.mark.parametrize("features", [("",), (DATA_KEYS,)], ids=["earlier", "present"])
def test_a_leader_of_an_earlier_skep_is_told_nothing_of_data_keys(
    features: tuple[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end the session of each manager that says a word that it does not know."""

    async def scenario() -> None:
        network, heard = Network(random.Random(1)), list[str]()
        manager = Manager(network, "new", NEW)
        manager.sessions.on(HasDataKeys, lambda node_id, has: heard.append(node_id), *features)
        node, state = Node(network), StateDir(tmp_path)
        node.start(["new:2377"])
        await asyncio.sleep(20)
        files, clock = KeyFiles(state), LoopClock(0)
        host = ThisHost(tmp_path, HostSettings("n"), clock, random.Random(1), lambda: node.executor)
        parts = NodeRunner(host, state, files, EventHub(clock))
        membership = Membership(node_id="n", cluster_id="c", role="manager", managers=[])
        monkeypatch.setattr(parts, "_now", Running(membership, node.agent, node, 0.0))
        files.take(b"k" * 32, "")
        parts.data_keys.say()
        await asyncio.sleep(5)
        assert heard == (["n"] if any(features) else [])
        manager.sessions.stop()
        await node.agent.stop()
        state.close()

    run(scenario)
