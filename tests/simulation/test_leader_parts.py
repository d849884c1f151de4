"""NodeRunner of a leader by themselves, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from skep.manager.control.nodes import NodeControl
from skep.manager.dispatcher.presence import MISSED_BEATS
from skep.manager.dispatcher.sessions import SessionHandler, Sessions
from skep.manager.dispatcher.states import NodeStates
from skep.manager.dispatcher.tasks import TaskDispatcher
from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.manager.membership import DEFERRED_MAX, LOOK_S, MembershipKeeper
from skep.manager.node_writer import NodeWriter
from skep.manager.timers import ALARM_MIN_S, Timers
from skep.model.container import ContainerSpec
from skep.model.node import READY, Node, NodeDescription, NodeResources, NodeSpec
from skep.model.spec import TaskSpec
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc.interfaces import FRAME_MAX_BYTES, Identity
from skep.rpc.messages import (
    Assign,
    FromManager,
    NotNow,
    Register,
    Registered,
    Statuses,
    decode_from_manager,
    encode,
)
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Deposed, Invalid, OutcomeUnknown, Unavailable
from skep.sim.loop import Place, VirtualLoop
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Fence, Member, Put
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from skep.store.view import View
from tests.terms import term_for, term_of
from tests.unit.builders import add_service, add_task


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def new_node(node_id: str) -> Node:
    return Node(
        id=node_id,
        spec=NodeSpec(),
        description=NodeDescription(hostname=node_id),
        created_at=0,
        updated_at=0,
    )


async def nobody_else_leads() -> None:
    """The store says that this manager leads."""


class Line:
    """A connection that leads nowhere, and keeps what was sent."""

    remote_host = local_host = "127.0.0.1"

    def __init__(self, node_id: str) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")
        self.sent: list[FromManager] = []

    def send(self, frame: bytes) -> None:
        assert len(frame) <= FRAME_MAX_BYTES
        self.sent.append(decode_from_manager(frame))

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Desk:
    """The leader's side of sessions, and nobody who decides."""

    def __init__(self, view: View) -> None:
        states = NodeStates(term_for(view))
        self.sessions = Sessions(view, [], states)
        self.tasks = TaskDispatcher(view, self.sessions, lambda task, status, news: None, LoopClock(0))
        self.sessions.on(Register, self.tasks.began)
        self.sessions.on(Register, lambda node_id, said: states.came(node_id))
        self.sessions.start()

    def stop(self) -> None:
        self.tasks.stop()
        self.sessions.stop()


def register(sessions: Sessions, line: Line) -> SessionHandler:
    """Returns what receives the frames of the line, over which its node has registered."""
    handler = sessions.open(line)
    assert line.identity is not None
    handler.frame(encode(Register(NodeDescription(hostname=line.identity.node_id))))
    return handler


def start_desk(view: View) -> Desk:
    desk = Desk(view)
    for node_id in view.nodes:
        register(desk.sessions, Line(node_id))
    return desk


def test_a_leader_that_stood_still_does_not_take_its_nodes_for_down() -> None:
    """Found by the simulation's seed 17: it woke up, and placed every task anew."""

    async def scenario() -> None:
        view, place = View(), Place()
        view.put_node(new_node("a"))
        desk = place.run(start_desk, view)
        await asyncio.sleep(1)
        place.freeze()
        await asyncio.sleep(60)
        place.thaw()
        await asyncio.sleep(1)
        assert view.node_state("a").state == READY
        await asyncio.sleep((MISSED_BEATS + 1) * desk.sessions.heartbeat_s)
        assert view.node_state("a").state != READY  # it never came back: it is down after all
        desk.stop()

    run(scenario)


def test_who_adds_a_node_hears_that_the_leader_is_gone() -> None:
    """Found by the simulation: an enrolment waited for ever for a leader that led no more."""

    async def scenario() -> None:
        store = MemoryStore(MemoryState())
        store.isolate()
        writer = NodeWriter(term_of(store, Fence("/leader", 1), View()))
        running = asyncio.ensure_future(writer.run())
        adding = asyncio.ensure_future(writer.add(new_node("a")))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(OutcomeUnknown):
            await adding
        with pytest.raises(Deposed):
            await writer.add(new_node("b"))

    run(scenario)


def test_a_node_that_asks_to_manage_stays_as_it_described_itself() -> None:
    """Found by the simulation's seed 20067: what it had said a moment before, and was not written yet, was written over
    with what it had been taken in with, for as long as its session stood."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        store = MemoryStore(state)
        fence = (await Campaign(store, "/leader", "b").win()).fence
        writer = NodeWriter(term_of(store, fence, view))
        running = asyncio.ensure_future(writer.run())
        await writer.add(new_node("a"))
        said = NodeDescription(hostname="a", resources=NodeResources(nano_cpus=1))
        writer.describe("a", said, "10.0.0.1")
        writer.manages("a", "10.0.0.1:2377")
        writer.describe("a", said, "10.0.0.1")  # by another session, which says nothing of a manager
        await asyncio.sleep(1)
        node = view.nodes["a"]
        assert (node.description, node.addr, node.manager_addr) == (said, "10.0.0.1", "10.0.0.1:2377")
        running.cancel()

    run(scenario)


def test_a_node_that_is_again_what_it_was_is_written_so() -> None:
    """What it said in between is not written yet when its next session says what is stored."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        store = MemoryStore(state)
        fence = (await Campaign(store, "/leader", "b").win()).fence
        writer = NodeWriter(term_of(store, fence, view))
        running = asyncio.ensure_future(writer.run())
        first = (await writer.add(new_node("a"))).description
        writer.describe("a", replace(first, hostname="other"), "")
        writer.describe("a", first, "")
        await asyncio.sleep(1)
        assert view.nodes["a"].description == first
        running.cancel()

    run(scenario)


def test_the_last_manager_that_stays_is_not_demoted() -> None:
    """Found by the simulation's seed 1139: a manager on its way out, and one that is none yet, were counted."""

    async def scenario() -> None:
        view = View()
        for node_id, role in (("a", "manager"), ("b", "worker"), ("c", "manager")):
            view.put_node(replace(new_node(node_id), spec=NodeSpec(role=role)))
        view.members = (Member(1, "a", False), Member(2, "b", False), Member(3, "c", True))
        view.reachable = frozenset("abc")
        store = MemoryStore(MemoryState())
        term = term_of(store, Fence("/leader", 1), view)
        control = NodeControl(term, NodeWriter(term))
        with pytest.raises(Invalid) as refused:
            await control.update("a", 0, NodeSpec(role="worker"))
        assert str(refused.value).partition("desc = ")[2] == (
            "attempting to demote the last manager of the swarm, of those that stay: b is demoted already; c is to"
            " be a manager and not one yet: try again in some seconds"
        )

    run(scenario)


def test_a_held_node_is_removed_as_one_that_is_down() -> None:
    """Its machine is gone, and who knows that, an autoscaler's hook, does not wait until the leader is sure."""

    async def scenario() -> None:
        view, state = View(), MemoryState()
        store = MemoryStore(state)
        fence = (await Campaign(store, "/leader", "b").win()).fence
        term = term_of(store, fence, view)
        writer = NodeWriter(term)
        running = asyncio.ensure_future(writer.run())
        control = NodeControl(term, writer)
        states = NodeStates(term)
        for node_id in ("ready", "unknown", "held", "held by a new leader", "back"):
            await writer.add(new_node(node_id))
        for node_id in ("ready", "held", "back"):
            states.came(node_id)
        for node_id in ("held", "held by a new leader", "back"):
            states.held(node_id)
        states.came("back")
        for node_id in ("ready", "unknown", "back"):
            with pytest.raises(Invalid, match="is not down"):
                await control.remove(node_id, force=False)
        for node_id in ("held", "held by a new leader"):
            await control.remove(node_id, force=False)
        assert sorted(view.nodes) == ["back", "ready", "unknown"]
        running.cancel()

    run(scenario)


def test_a_new_leader_tells_of_all_managers_at_once() -> None:
    """Found by the simulation's seed 10200: it told of itself only until it had looked at the others, died
    before that, and nodes that had come to it knew no manager any more."""

    async def scenario() -> None:
        state = MemoryState()
        nodes = [replace(new_node(name), manager_addr=f"10.0.0.{n}:1") for n, name in enumerate("ab")]
        schema = Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode())
        state.write([schema, *(Put(codec.node_key(n.id), codec.encode_object(n)) for n in nodes)])
        state.members = {name: Member(n, name, False) for n, name in enumerate("ab")}
        store, clock = MemoryStore(state), LoopClock(0)
        leadership = await Campaign(store, codec.LEADER_KEY, "b").win()

        async def probe(node_id: str) -> bool:
            return True

        team = ManagerIdentity("b", MemoryMembers(store, state), probe)
        leader = await Leader.start(
            store,
            leadership,
            LeaderContext(clock, str, str, EventHub(clock), ["10.0.0.1:1"], lambda *asked: b"", team),
        )
        line = Line("a")
        register(leader.sessions, line)
        registered = next(message for message in line.sent if isinstance(message, Registered))
        assert sorted(registered.managers) == ["10.0.0.0:1", "10.0.0.1:1"]
        leader.sessions.stop()
        await leadership.resign()

    run(scenario)


def test_a_service_and_its_slots_may_be_due_at_one_time() -> None:
    """Found by the simulation's seed 95176 with a follower: the two could not be put in order, and the leader ended."""

    async def scenario() -> None:
        alarms = Timers(LoopClock(0))
        keys = (None, 2, None, 1)
        for service_id in ("s", "s", "t"):
            for key in keys:
                alarms.set(0.0, service_id, key)
        assert alarms.next_s() == pytest.approx(ALARM_MIN_S)
        await asyncio.sleep(2 * ALARM_MIN_S)
        assert list(alarms.ring()) == [(service_id, key) for service_id in "st" for key in (None, 2, 1)]
        assert alarms.next_s() is None

    run(scenario)


class Leading(MemoryMembers):
    """One member has etcd's lead and keeps it (fulfils `store.interfaces.Members`)."""

    looks = 0

    async def holds_lead(self, member: Member) -> bool:
        self.looks += 1
        return member.node_id == "b"


def test_each_demotion_waits_anew_for_etcds_lead_to_move() -> None:
    async def scenario() -> None:
        view, state = View(), MemoryState()
        for node_id in "abc":
            view.put_node(replace(new_node(node_id), spec=NodeSpec(role="manager")))
            state.members[node_id] = Member(ord(node_id), node_id, False)

        async def probe(node_id: str) -> bool:
            return True

        members = Leading(MemoryStore(state), state)
        membership = MembershipKeeper(
            term_for(view), members, "a", probe, lambda node_id: (), nobody_else_leads
        )
        running = asyncio.ensure_future(membership.run())
        for _ in range(2):
            members.looks = 0
            view.put_node(new_node("b"))
            await asyncio.sleep(2 * DEFERRED_MAX * LOOK_S)
            assert ("b" in state.members, members.looks) == (False, DEFERRED_MAX + 1)
            view.put_node(replace(new_node("b"), spec=NodeSpec(role="manager")))
            state.members["b"] = Member(ord("b"), "b", False)
            await asyncio.sleep(2 * LOOK_S)
        view.put_node(new_node("b"))
        await asyncio.sleep((DEFERRED_MAX - 1) * LOOK_S)
        view.put_node(replace(new_node("b"), spec=NodeSpec(role="manager")))
        await asyncio.sleep(2 * LOOK_S)
        assert "b" in state.members, "who is a manager again stays, and is waited for as long the next time"
        view.put_node(new_node("b"))
        await asyncio.sleep((DEFERRED_MAX - 1) * LOOK_S)
        assert "b" in state.members
        running.cancel()

    run(scenario)


def test_a_node_that_is_demoted_while_it_is_taken_in_is_handed_no_key() -> None:
    """The key that comes into force may be made for its demotion."""

    async def scenario() -> None:
        view, state = View(), MemoryState()
        for node_id in "ab":
            view.put_node(replace(new_node(node_id), spec=NodeSpec(role="manager")))
        state.members["a"] = Member(1, "a", False)

        async def probe(node_id: str) -> bool:
            await asyncio.sleep(0.5)
            return True

        members = MemoryMembers(MemoryStore(state), state)
        membership = MembershipKeeper(
            term_for(view), members, "a", probe, lambda node_id: (b"k" * 32,), nobody_else_leads
        )
        taken_in = asyncio.ensure_future(membership.add("b"))
        while "b" not in state.members:
            await asyncio.sleep(0)
        view.put_node(new_node("b"))
        assert await taken_in == NotNow("node b is not to be a manager")

    run(scenario)


def test_answers_of_long_ago_are_not_counted_upon() -> None:
    """Found by the simulation's seed 96327 with a follower: a leader that had stood still for 20 s while it asked
    removed a manager by the answers of before."""

    async def scenario() -> None:
        view, state = View(), MemoryState()
        for n, node_id in enumerate("abc"):
            view.put_node(replace(new_node(node_id), spec=NodeSpec(role="manager")))
            state.members[node_id] = Member(n, node_id, False)

        async def probe(node_id: str) -> bool:
            await asyncio.sleep(0.5)
            return True

        members = MemoryMembers(MemoryStore(state), state)
        membership = MembershipKeeper(
            term_for(view), members, "a", probe, lambda node_id: (), nobody_else_leads
        )
        place = Place()
        looking = place.run(asyncio.ensure_future, membership.look())
        await asyncio.sleep(0.2)
        place.freeze()
        await asyncio.sleep(20)
        place.thaw()
        with pytest.raises(Unavailable, match="stood still"):
            await looking
        assert not view.members
        await membership.look()
        assert view.reachable == frozenset("abc")

    run(scenario)


def test_a_node_with_very_large_services_is_told_all_of_them() -> None:
    """When it registers, and by one commit."""

    async def scenario() -> None:
        view, line = View(), Line("a")
        view.put_node(new_node("a"))
        env = ["A=" + "x" * 6_500_000]
        tasks: list[Task] = []
        for n in range(6):
            add_service(view, f"s{n}", task=TaskSpec(container_spec=ContainerSpec(image="x", env=env)))
        desk = Desk(view)
        tasks += [add_task(view, f"t{n}", "a", service_id=f"s{n}", observed=None) for n in range(3)]
        register(desk.sessions, line)
        tasks += [add_task(view, f"t{n}", "a", service_id=f"s{n}", observed=None) for n in range(3, 6)]
        desk.tasks.publish({"a": (tasks[3:], [])})
        told = [each for each in line.sent if isinstance(each, Assign)]
        assert [t.service_id for each in told for t in each.templates] == [f"s{n}" for n in range(6)]
        assert [len(each.tasks) for each in told if each.complete] == [3]
        assert told[-1].tasks == [t for each in told[-4:-1] for t in each.tasks]
        desk.stop()

    run(scenario)


def test_reports_are_taken_in_a_moment_later_and_a_broken_one_ends_its_session() -> None:
    async def scenario() -> None:
        view, line = View(), Line("a")
        view.put_node(new_node("a"))
        view.put_task(Task("t", "s", "a", 1, 1, RUNNING, 0, 0))
        desk = Desk(view)
        handler = register(desk.sessions, line)
        report = encode(Statuses([("t", TaskStatus(RUNNING, 1.0))]))
        handler.frame(report)
        assert "t" not in view.status
        await asyncio.sleep(0)
        assert view.status["t"].state == RUNNING
        handler.frame(report[:-3])
        await asyncio.sleep(0)
        assert line.is_closed
        desk.stop()

    run(scenario)
