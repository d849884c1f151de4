"""The leader's side of sessions where something raises: one session ends, or one node waits, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from skep.manager.dispatcher.observer import NodeObserver
from skep.manager.dispatcher.presence import FIRST_BEATS, Presence
from skep.manager.dispatcher.sessions import OURS, SessionHandler, Sessions
from skep.manager.dispatcher.tasks import TaskDispatcher
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.interfaces import Identity
from skep.rpc.messages import (
    Described,
    FromManager,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Register,
    Statuses,
    encode,
)
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Invalid
from skep.sim.loop import VirtualLoop
from skep.store.view import View

HERE = NodeDescription(hostname="h")


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


class Line:
    """A connection that keeps what was sent."""

    remote_host = local_host = "127.0.0.1"
    is_closed = False

    def __init__(self, node_id: str) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")
        self.sent: list[FromManager] = []

    def send(self, frame: bytes) -> None:
        self.sent.append(messages.decode_from_manager(frame))

    def close(self) -> None:
        self.is_closed = True


class Swarm:
    """Two nodes with a session each."""

    def __init__(self) -> None:
        self.view = View()
        self.sessions = Sessions(self.view, ["10.0.0.1:2377"], NodeObserver())
        self.lines: dict[str, Line] = {}
        self.handlers: dict[str, SessionHandler] = {}
        for node_id in "ab":
            self.view.put_node(
                Node(id=node_id, spec=NodeSpec(), description=HERE, created_at=0, updated_at=0)
            )

    def start(self) -> None:
        self.sessions.start()
        for node_id in "ab":
            self.register(node_id)

    def register(self, node_id: str) -> None:
        line = self.lines[node_id] = Line(node_id)
        handler = self.handlers[node_id] = self.sessions.open(line)
        handler.frame(encode(Register(HERE)))

    def require_refused(self, node_id: str, reason: str) -> None:
        """Its session has ended, with the reason; it may come again, and the other's stands."""
        line, other = self.lines[node_id], "ab".replace(node_id, "")
        assert line.is_closed
        assert line.sent[-1] == Goodbye("refused", reason, ["10.0.0.1:2377"])
        assert not self.sessions.has(node_id)
        self.handlers[other].frame(encode(Heartbeat()))
        assert isinstance(self.lines[other].sent[-1], HeartbeatAck)
        self.register(node_id)
        assert self.sessions.has(node_id)


@pytest.mark.parametrize(
    ("error", "said"),
    [(Invalid("it has 2^63 CPUs"), "it has 2^63 CPUs"), (KeyError("a bug"), OURS)],
)
def test_a_message_that_cannot_be_taken_ends_its_session(error: Exception, said: str) -> None:
    async def scenario() -> None:
        swarm = Swarm()

        def refuse(node_id: str, message: Described) -> None:
            raise error

        swarm.sessions.on(Described, refuse)
        swarm.start()
        swarm.handlers["a"].frame(encode(Described(HERE)))
        swarm.require_refused("a", said)
        swarm.sessions.stop()

    run(scenario)


def test_a_register_that_cannot_be_taken_leaves_no_session() -> None:
    async def scenario() -> None:
        swarm = Swarm()

        def refuse(node_id: str, message: Register) -> None:
            if node_id == "a":
                raise Invalid("no")

        swarm.sessions.on(Register, refuse)
        swarm.start()
        assert (swarm.sessions.has("a"), swarm.sessions.has("b")) == (False, True)
        assert swarm.lines["a"].sent[-1] == Goodbye("refused", "no", ["10.0.0.1:2377"])
        swarm.sessions.stop()

    run(scenario)


def test_a_report_that_cannot_be_taken_ends_its_session_and_the_others_are_read() -> None:
    """Those of a moment are read together: what was behind it was left unread until somebody reported again."""

    async def scenario() -> None:
        swarm = Swarm()
        for task_id, node_id in (("t", "a"), ("u", "b")):
            swarm.view.put_task(Task(task_id, "s", node_id, 1, 1, RUNNING, 0, 0))

        def observed(task: Task, status: TaskStatus, news: bool) -> None:
            if task.node_id == "a":
                raise KeyError("a bug")

        tasks = TaskDispatcher(swarm.view, swarm.sessions, observed, LoopClock(0))
        swarm.start()
        for task_id, node_id in (("t", "a"), ("u", "b")):
            swarm.handlers[node_id].frame(encode(Statuses([(task_id, TaskStatus(RUNNING, 1.0))])))
        await asyncio.sleep(0.1)
        assert swarm.view.status["u"].state == RUNNING
        swarm.require_refused("a", OURS)
        tasks.stop()
        swarm.sessions.stop()

    run(scenario)


def test_the_watch_for_silence_goes_on_where_one_node_cannot_be_given_up() -> None:
    """It ended for ever: no node was down any more, as long as this manager led."""

    async def scenario() -> None:
        given_up: list[str] = []
        fails = {"b"}

        def gone(node_id: str) -> None:
            if node_id in fails:
                raise KeyError("a bug")
            given_up.append(node_id)

        presence = Presence(lambda: 1.0, lambda node_id: None, gone)
        presence.start(["a", "b", "c"], 0.0)
        presence.came("c")
        await asyncio.sleep(FIRST_BEATS + 3)
        assert sorted(given_up) == ["a", "c"]
        fails.clear()
        await asyncio.sleep(2)
        assert given_up[2:] == ["b"], "it was set aside, not forgotten"
        presence.stop()

    run(scenario)


def test_the_watch_for_silence_goes_on_where_one_session_cannot_be_ended() -> None:
    async def scenario() -> None:
        given_up: list[str] = []

        def silent(node_id: str) -> None:
            if node_id == "a":
                raise OSError("the connection is in a state that nobody thought of")

        presence = Presence(lambda: 1.0, silent, given_up.append)
        presence.start(["a", "b"], 0.0)
        presence.came("a")
        presence.came("b")
        await asyncio.sleep(5)
        assert sorted(given_up) == ["a", "b"]
        presence.stop()

    run(scenario)


def test_how_long_tasks_took_to_run_is_counted_once_and_of_this_leaders_only() -> None:
    async def scenario() -> None:
        swarm, clock = Swarm(), LoopClock(0)
        led_since = clock.now()
        swarm.view.begin(led_since, "i", "m", ())
        tasks = TaskDispatcher(swarm.view, swarm.sessions, lambda task, status, news: None, clock)
        (delay,) = tasks.metrics
        for task_id, made_at in (("new", led_since + 1), ("earlier", led_since - 1)):
            swarm.view.put_task(Task(task_id, "s", "a", 1, 1, RUNNING, made_at, made_at))
        swarm.start()
        await asyncio.sleep(4.0)
        for port in (1, 2):  # it runs still, and says something else of it
            statuses = [
                (task_id, TaskStatus(RUNNING, 5000.0, ports=(("tcp", 80, port),)))
                for task_id in ("new", "earlier")
            ]
            swarm.handlers["a"].frame(encode(Statuses(statuses)))
            await asyncio.sleep(0.1)
        found = {each.suffix: each.value for each in delay.samples()}
        assert found["_count"] == 1
        assert 2.9 < found["_sum"] < 3.3, "by the leader's clock, whatever the node's is"
        tasks.stop()
        swarm.sessions.stop()

    run(scenario)
