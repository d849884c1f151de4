"""What the checkers allow, each thing alone. What they find, `test_seeds.py` shows with broken products."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from skep.model.container import RestartPolicy
from skep.model.service import Service, UpdateStatus
from skep.model.spec import UpdateConfig
from skep.model.states import COMPLETE, READY, RUNNING, SHUTDOWN
from skep.model.task import Task, TaskStatus
from skep.sim.checkers import Never
from skep.sim.history import History
from skep.sim.picture import Picture
from skep.sim.violation import Violation
from skep.sim.world import World
from skep.store.memory import MemoryState
from skep.store.view import View
from tests.unit.builders import add_service

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
