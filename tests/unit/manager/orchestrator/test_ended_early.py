"""Tasks that end before their turn to run comes: their image or a directory they mount is missing. Their slot
keeps them until then, as Docker's swarm does: one attempt per delay, and always one task that is wanted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.explain import explain_task
from skep.manager.orchestrator import jobs, updater
from skep.manager.orchestrator.replicated import decide_scale
from skep.manager.orchestrator.slot import decide_slot
from skep.model.change import DropTask, NewTask, Plan, PutService, PutTask
from skep.model.container import RestartPolicy
from skep.model.node import NodeSpec
from skep.model.service import Service, TaskTemplate, UpdateStatus
from skep.model.spec import Placement, ReplicatedJobMode, ServiceMode, UpdateConfig
from skep.model.states import FAILED, READY, REJECTED, RUNNING, SHUTDOWN
from skep.model.task import PendingTask, Task, TaskStatus
from skep.store.view import SlotKey, View
from tests.unit.builders import add_cluster, add_node, add_service, add_task, apply, new_ids

NOW = 1000.0
DELAY_S = 5.0  # the default's


def decide(view: View, key: SlotKey = 1, now: float = NOW) -> Plan:
    return decide_slot(view, view.services["s"], key, now, new_ids(int(now * 10)))


def rejected(view: View, slots: int = 1, node_id: str = "a") -> Service:
    """A service whose first tasks were rejected, and their successors, too, while they waited."""
    add_node(view, "a")
    service = add_service(view, replicas=slots or None)
    for slot in range(1, slots + 1) if slots else (0,):
        old = add_task(view, f"old{slot}", node_id, slot, desired=SHUTDOWN, observed=None)
        view.put_task(replace(old, result=TaskStatus(REJECTED, NOW)))
        waits = add_task(view, f"new{slot}", node_id, slot, desired=READY, observed=None, attempt=1)
        view.put_task(replace(waits, run_at=NOW + DELAY_S))
        view.put_status(view.tasks[waits.id], TaskStatus(REJECTED, NOW, error="No such image: x:1"))
        apply(view, decide(view, slot or node_id).changes)
    return service


def to_version_2(view: View, config: UpdateConfig | None = None) -> Service:
    """The user gives the service another image."""
    service = view.services["s"]
    second = TaskTemplate(version=2, spec=replace(service.template.spec, force_update=1))
    spec = replace(service.spec, update_config=config)
    changed = replace(service, spec=spec, templates=[*service.templates, second], version=2)
    view.put_service(changed)
    return changed


def test_it_stays_the_slots_wanted_one_until_its_turn_comes() -> None:
    view = View()
    rejected(view)
    (early,) = [t for t in view.tasks.values() if t.desired_state == READY]
    assert early.result is not None
    assert (early.id, early.result.state, early.result.error) == ("new1", REJECTED, "No such image: x:1")
    again = decide(view, now=NOW + 4)
    assert (again.changes, again.wanted, again.wake_at) == ((), (), NOW + 5)


def test_it_is_followed_once_when_its_turn_comes_after_a_whole_delay() -> None:
    view = View()
    rejected(view)
    plan = decide(view, now=NOW + 5)
    (put,) = plan.changes
    assert isinstance(put, PutTask)
    assert (put.task.id, put.task.desired_state) == ("new1", SHUTDOWN)
    (wanted,) = plan.wanted
    assert (wanted.attempt, wanted.run_at, wanted.desired_state) == (2, NOW + 10, READY)


def test_a_global_services_is_followed_as_well_and_ended_with_its_node() -> None:
    view = View()
    rejected(view, slots=0)
    assert decide(view, "a", NOW + 4) == Plan(wake_at=NOW + 5)
    assert [w.run_at for w in decide(view, "a", NOW + 5).wanted] == [NOW + 10]
    node = view.nodes["a"]
    view.put_node(replace(node, spec=NodeSpec(availability="pause"), version=node.version + 1))
    (put,) = decide(view, "a", NOW + 1).changes
    assert isinstance(put, PutTask)
    assert put.task.desired_state == SHUTDOWN


def test_its_turn_comes_when_its_predecessor_has_stopped() -> None:
    view = View()
    add_node(view, "a", availability="drain")
    add_node(view, "b")
    add_service(view)
    view.led_since = NOW - 1
    old = add_task(view, "old", "a", desired=SHUTDOWN, at=NOW)
    add_task(view, "new", "b", desired=READY, observed=REJECTED, at=NOW)
    early = decide(view)
    assert (early.wanted, early.wake_at) == ((), NOW + 60)
    apply(view, early.changes)
    view.put_status(old, TaskStatus(SHUTDOWN, NOW + 2))
    assert [w.run_at for w in decide(view, now=NOW + 2).wanted] == [NOW + 7]


def test_a_turn_that_the_clock_has_put_far_off_has_come() -> None:
    view = View()
    rejected(view)
    assert decide(view, now=NOW - 3600).wanted


def test_a_job_does_the_same() -> None:
    view = View()
    service = rejected(view)
    mode = ServiceMode(replicated_job=ReplicatedJobMode(max_concurrent=1, total_completions=1))
    service = replace(service, spec=replace(service.spec, mode=mode), version=1)
    view.put_service(service)
    again = jobs.decide_job_slot(view, service, 1, NOW + 4, new_ids())
    assert (again.changes, again.wanted, again.wake_at) == ((), (), NOW + 5)
    plan = jobs.decide_job_slot(view, service, 1, NOW + 5, new_ids())
    assert [c.task.desired_state for c in plan.changes if isinstance(c, PutTask)] == [SHUTDOWN]
    assert [w.run_at for w in plan.wanted] == [NOW + 10]


def test_a_scale_down_forgets_it_and_explain_says_when_it_is_followed() -> None:
    view = View()
    service = rejected(view)
    said = explain_task(view, view.tasks["new1"], NOW, {}).sentences
    assert "It ended before its turn to run came." in said
    assert any("in 5.0 s: the restart delay" in sentence for sentence in said)
    service = replace(service, spec=replace(service.spec, mode=ServiceMode()), version=1)
    view.put_service(service)
    dropped = {c.task.id for c in decide_scale(view, service, NOW, new_ids(), 9).changes}  # type: ignore[union-attr]
    assert dropped == {"old1", "new1"}


def test_a_repair_is_an_update_slot_by_slot() -> None:
    """Deployment tools wait for the word that it is done: it was never said, and all slots began at once."""
    view = View()
    rejected(view, slots=3)
    service = to_version_2(view, UpdateConfig(parallelism=1))
    progress = updater.begin(view, service, NOW + 1)
    assert progress is not None
    (begun,) = updater.step(view, service, progress, (), NOW + 1, new_ids()).changes
    assert isinstance(begun, PutService)
    view.put_service(begun.service)
    assert [decide(view, slot, NOW + 1).wanted for slot in (1, 2, 3)] == [(), (), ()]
    first = updater.step(view, begun.service, progress, (), NOW + 1, new_ids())
    assert [(w.slot, w.spec_version) for w in first.wanted] == [(1, 2)]
    assert [(c.task.id, c.task.desired_state) for c in first.changes if isinstance(c, PutTask)] == [
        ("new1", SHUTDOWN)
    ]


def test_good_bad_good_again_is_an_update() -> None:
    """The first version's tasks are right again; the slot that could not be updated is the update's."""
    view = View()
    rejected(view, slots=1)
    service = to_version_2(view)
    for slot in (2, 3):
        add_task(view, f"good{slot}", "a", slot, version=2)
    progress = updater.begin(view, service, NOW + 1)
    assert progress is not None
    assert list(progress.remaining) == [1]


def test_the_update_of_what_has_failed_and_found_no_node_since_is_one() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "old", "a", observed=FAILED, desired=SHUTDOWN)
    apply(view, decide(view).changes)
    view.put_pending(PendingTask("next", "s", 1, 1, NOW))
    progress = updater.begin(view, to_version_2(view), NOW + 1)
    assert progress is not None
    assert progress.waiting == {1}


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_the_history_limit_takes_none_that_still_has_its_turn(limit: int) -> None:
    """With start-first the old task runs on beside it: were it dropped, nothing would follow it."""
    view = View()
    rejected(view)
    add_cluster(view, history_limit=limit)
    view.put_task(replace(view.tasks["old1"], desired_state=RUNNING, result=None))
    plan = decide(view, now=NOW + 1)
    assert [change for change in plan.changes if isinstance(change, DropTask)] == []
    assert plan.wake_at == NOW + DELAY_S


def test_a_change_that_updates_nothing_begins_no_update_where_one_has_just_failed() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    service = replace(to_version_2(view), update=UpdateStatus(state="paused", started_at=NOW))
    old = add_task(view, "old", "a", desired=SHUTDOWN, observed=SHUTDOWN)
    view.put_task(replace(old, result=TaskStatus(SHUTDOWN, NOW)))
    add_task(view, "new", "a", version=2, desired=READY, observed=None, at=NOW, run_at=NOW + 5)
    assert updater.begin(view, replace(service, update=None), NOW + 1) is None


def test_a_node_that_fits_again_has_its_global_task_at_once() -> None:
    view = View()
    node = add_node(view, "a", labels={"zone": "1"})
    place = Placement(constraints=["node.labels.zone==1"])
    add_service(view, replicas=None, placement=place, policy=RestartPolicy(delay=8_000_000_000))
    add_task(view, "t", "a", 0)
    view.put_node(replace(node, spec=NodeSpec(), version=2))
    apply(view, decide(view, "a").changes)
    view.put_status(view.tasks["t"], TaskStatus(SHUTDOWN, NOW))
    apply(view, decide(view, "a").changes)
    assert view.tasks["t"].result is not None
    assert view.tasks["t"].result.state == REJECTED
    view.put_node(replace(node, version=3))
    assert [(w.run_at, w.desired_state) for w in decide(view, "a").wanted] == [(0.0, RUNNING)]


class Hopeless:
    """A slot whose tasks are all rejected some time after they were made; the leader may be another one, and
    some of what is reported comes late."""

    def __init__(self, seed: int, delay_s: float) -> None:
        self.rng = random.Random(seed)
        self.view = View()
        self.now = NOW
        self.made: list[Task] = []
        self._new_id = new_ids(seed)
        add_node(self.view, "a")
        add_service(self.view, policy=RestartPolicy(delay=int(delay_s * 1e9)))
        self.place(NewTask("first", "s", 1, 1, NOW))

    def place(self, new: NewTask) -> None:
        task = Task(new.id, "s", "a", 1, 1, new.desired_state, new.created_at, self.now, new.run_at)
        self.made.append(task)
        self.view.put_task(task)

    def step(self) -> None:
        self.now += 0.25
        for task in list(self.view.tasks.values()):
            if task.result is None and self.rng.random() < 0.5:
                self.view.put_status(task, TaskStatus(REJECTED, self.now))
        if self.rng.random() < 0.1:
            self.view.status.clear()  # who leads now has not heard yet
        plan = decide_slot(self.view, self.view.services["s"], 1, self.now, self._new_id)
        apply(self.view, tuple(c for c in plan.changes if not isinstance(c, DropTask)))
        for new in plan.wanted:
            self.place(new)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), delay_s=st.sampled_from((1.0, 2.0, 6.0)))
def test_there_is_one_attempt_per_delay_and_always_one_wanted_task(seed: int, delay_s: float) -> None:
    slot = Hopeless(seed, delay_s)
    for _ in range(100):
        slot.step()
        assert [t.desired_state <= RUNNING for t in slot.view.slot("s", 1)].count(True) == 1
    assert len(slot.made) <= 2 + (slot.now - NOW) / delay_s, "the first one's successor comes with it"
    assert len(slot.made) >= 1 + (slot.now - NOW) / (delay_s + 3), "and they do come"
