"""What the checkers allow, each thing alone. What they find, `test_seeds.py` shows with broken products."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from skep.model.container import RestartPolicy
from skep.model.node import NodeSpec
from skep.model.service import Service, UpdateStatus
from skep.model.spec import UpdateConfig
from skep.model.states import COMPLETE, READY, RUNNING, SHUTDOWN
from skep.model.task import Task, TaskStatus
from skep.rpc.interfaces import Connection, Identity
from skep.sim.checkers import Never
from skep.sim.history import History
from skep.sim.hosts import Host
from skep.sim.loop import Place, VirtualLoop
from skep.sim.picture import Picture
from skep.sim.troubles import Troubles
from skep.sim.updates import Updating
from skep.sim.violation import Violation
from skep.sim.workload import demoted, value_of
from skep.sim.world import World
from skep.store.memory import MemoryState
from skep.store.view import View
from tests.unit.builders import add_node, add_service

LATER_S = 1000.0  # no machine has had trouble for as long


class Moments:
    """Pictures of one slot, one after the other. Without `in_slot` each of its tasks has a container that runs,
    and nothing else is looked at."""

    def __init__(self) -> None:
        self._never = Never(World(*(random.Random(n) for n in range(3))), History(), {})
        self._now = LATER_S
        first = UpdateConfig(order="start-first")
        service = add_service(View(), update=first)
        self.service = replace(service, spec=replace(service.spec, rollback_config=first))

    def pass_by(self, service: Service, *tasks: Task, in_slot: bool = False) -> None:
        """Errors: `Violation`."""
        picture = Picture(MemoryState())
        picture.services = {service.id: service}
        picture.tasks = {task.id: task for task in tasks}
        picture.slots = {("s", 1): list(tasks)} if in_slot else {}
        self._now += 1
        self._never._updating.check(picture, self._now)
        if not in_slot:
            self._never._no_slot_runs_twice(picture, dict.fromkeys(picture.tasks, "h1"), self._now)


OLD = Task("old", "s", "n", 1, 1, SHUTDOWN, 0, 0)
NEW = Task("new", "s", "m", 1, 1, RUNNING, 1, 1)
DONE = replace(OLD, result=TaskStatus(COMPLETE, 2))
WAITS = replace(NEW, desired_state=READY)
BACK = UpdateStatus(state="rollback_started", started_at=1)


def test_what_an_update_has_ended_may_stop_beside_what_it_started_first_also_when_the_update_is_gone() -> (
    None
):
    """Found by the simulation's seed 700132 with a follower: a rollback started the version of before again,
    first, while its old task still stopped; then the service was scaled, which takes the update away."""
    moments = Moments()
    moments.pass_by(replace(moments.service, update=BACK), OLD, NEW)
    moments.pass_by(moments.service, OLD, NEW)


def test_what_no_update_has_ended_may_not() -> None:
    moments = Moments()
    with pytest.raises(Violation, match="runs twice"):
        moments.pass_by(moments.service, OLD, NEW)


def with_policy(service: Service, condition: str) -> Service:
    task = replace(service.spec.task_template, restart_policy=RestartPolicy(condition=condition))
    return replace(service, templates=[replace(service.template, spec=task)])


def test_what_was_stopped_with_its_node_may_be_followed_before_it_is_known_to_have_ended_well() -> None:
    """Its node comes back; the manager hears a moment later that the task was complete before."""
    moments = Moments()
    service = with_policy(moments.service, "on-failure")
    moments.pass_by(service)
    moments.pass_by(service, OLD, in_slot=True)
    moments.pass_by(service, DONE, WAITS, in_slot=True)


def test_what_is_known_to_have_ended_well_may_not() -> None:
    moments = Moments()
    service = with_policy(moments.service, "on-failure")
    moments.pass_by(service)
    moments.pass_by(service, DONE, in_slot=True)
    with pytest.raises(Violation, match="was followed by"):
        moments.pass_by(service, DONE, WAITS, in_slot=True)


class Slots:
    """Two slots of a service whose update may have one under way, and which keeps no history."""

    def __init__(self) -> None:
        self._checker = Updating(cast("World", OneMachine()), {})
        service = add_service(View(), update=UpdateConfig(parallelism=1, order="start-first"))
        second = replace(service.template, version=2)
        update = UpdateStatus(state="updating", started_at=1)
        self._service = replace(service, templates=[second], update=update)
        self._now = LATER_S

    def pass_by(self, *slots: list[Task]) -> None:
        """Errors: `Violation`."""
        picture = Picture(MemoryState())
        picture.services = {"s": self._service}
        picture.nodes = {"m": add_node(View(), "m")}
        picture.tasks = {task.id: task for tasks in slots for task in tasks}
        picture.slots = {("s", number): tasks for number, tasks in enumerate(slots, 1)}
        self._now += 1
        self._checker.check(picture, self._now)


class OneMachine:
    """All tasks are on it, and none has run."""

    name = "h"
    executor = SimpleNamespace(state_of=lambda task_id: READY)

    def host(self, node_id: str) -> OneMachine:
        return self


FIRST = Task("old1", "s", "m", 1, 1, RUNNING, 0, 0), Task("old2", "s", "m", 2, 1, RUNNING, 0, 0)
SECOND = Task("new1", "s", "m", 1, 2, RUNNING, 2, 2), Task("new2", "s", "m", 2, 2, RUNNING, 2, 2)


def test_what_follows_one_of_its_version_that_has_ended_is_no_step_of_an_update() -> None:
    """Found by seeds 830042 and 830059: that one was no more in the history, whose limit was 0."""
    slots = Slots()
    slots.pass_by([FIRST[0]], [FIRST[1]])
    slots.pass_by([FIRST[0], replace(SECOND[0], attempt=1)], [FIRST[1], SECOND[1]])


def test_what_follows_one_of_the_version_before_is() -> None:
    slots = Slots()
    slots.pass_by([FIRST[0]], [FIRST[1]])
    with pytest.raises(Violation, match="2 slots of name-s are updated at once, not 1"):
        slots.pass_by([FIRST[0], SECOND[0]], [FIRST[1], SECOND[1]])


def test_a_machine_that_leaves_is_demoted_whatever_a_user_has_changed_of_its_node_meanwhile() -> None:
    """Found by seed 880062 with overlays: it was as if it had read its node when it began to leave."""
    manager = NodeSpec(role="manager", availability="active")
    drained = replace(manager, availability="drain")
    history = History()
    history.done(history.begin("node a", value_of(manager)))
    history.may_change("node a", demoted)
    drain = history.begin("node a", value_of(drained))
    assert not history.find_wrong({"node a": value_of(manager)})
    history.done(drain)
    wrong = history.find_wrong({"node a": value_of(replace(manager, role="worker"))})
    assert "was acknowledged as" in wrong, "what the user did is not lost"
    assert not history.find_wrong({"node a": value_of(replace(drained, role="worker"))})
    history.done(history.begin("node b", value_of(manager)))
    assert history.find_wrong({"node b": value_of(replace(manager, role="worker"))}), "that one stays"


def test_who_waits_at_a_machine_that_goes_without_a_word_has_trouble_and_nobody_else() -> None:
    """Found by seed 880062 with overlays: it had lost its leader's machine before, and was taken for down."""

    async def scenario() -> None:
        world = World(*(random.Random(n) for n in range(3)))
        for name in ("waits", "serves", "is served"):
            world.network.plug_in(name, Place())
            known = {"name": name, "ip": name, "node_id": name, "has_left": False, "is_up": True}
            host = SimpleNamespace(**known, has_session=name == "is served", is_lost=lambda managers: False)
            world.hosts[name] = cast("Host", host)
        world.network.listen("serves", lambda connection: Quiet())
        for name in ("waits", "is served"):
            await world.network.connect(name, Identity(name, "worker", ""), "serves:2377", Quiet())
        troubles = Troubles(world)
        troubles.look()
        assert not troubles.troubled
        world.network.crash("serves", silently=True)
        troubles.look()
        assert troubles.troubled.keys() == {"waits"}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


class Quiet:
    """Says nothing."""

    def connected(self, connection: Connection) -> None: ...

    def frame(self, data: bytes) -> None: ...

    def closed(self, reason: str) -> None: ...
