"""One slot: restarts, lost nodes, drains, history. The table of what may happen to a replica."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skep.manager.orchestrator.replicated import decide_scale
from skep.manager.orchestrator.slot import decide_removed_slot, decide_slot
from skep.model.change import DropTask, Plan, PutTask
from skep.model.container import RestartPolicy
from skep.model.node import NodeStatus
from skep.model.service import RemovedService, with_template
from skep.model.spec import Placement
from skep.model.states import COMPLETE, FAILED, READY, REJECTED, REMOVE, RUNNING, SHUTDOWN
from skep.model.task import PendingTask, TaskStatus
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service, add_task, apply, new_ids

NOW = 1000.0
SECOND_NS = 1_000_000_000


def decide(view: View, key: int | str = 1, now: float = NOW) -> Plan:
    return decide_slot(view, view.services["s"], key, now, new_ids())


def test_a_running_task_needs_nothing() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "t", "a")
    assert decide(view) == Plan()


def test_a_failed_task_gets_a_successor_that_waits_five_seconds() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "t", "a", observed=FAILED, at=NOW)
    plan = decide(view)
    (put,) = plan.changes
    assert isinstance(put, PutTask)
    assert put.task.result is not None
    assert put.task.desired_state == SHUTDOWN
    (wanted,) = plan.wanted
    assert (wanted.slot, wanted.run_at, wanted.desired_state) == (1, NOW + 5, READY)
    assert (wanted.attempt, wanted.avoid_node_id) == (1, "a")


def test_a_waiting_successor_runs_when_its_time_comes() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "old", "a", observed=FAILED, desired=SHUTDOWN)
    apply(view, decide(view).changes)
    add_task(view, "new", "a", desired=READY, observed=READY, run_at=NOW + 5, attempt=1)
    early = decide(view, now=NOW + 1)
    assert (early.changes, early.wanted, early.wake_at) == ((), (), NOW + 5)
    (put,) = decide(view, now=NOW + 5).changes
    assert isinstance(put, PutTask)
    assert (put.task.id, put.task.desired_state) == ("new", RUNNING)


@pytest.mark.parametrize(
    ("condition", "state", "again"),
    [
        ("any", COMPLETE, True),
        ("any", FAILED, True),
        ("on-failure", COMPLETE, False),
        ("on-failure", FAILED, True),
        ("none", COMPLETE, False),
        ("none", FAILED, False),
    ],
)
def test_the_restart_condition_decides(condition: str, state: int, again: bool) -> None:
    view = View()
    add_node(view, "a")
    add_service(view, policy=RestartPolicy(condition=condition))
    add_task(view, "t", "a", observed=state)
    assert bool(decide(view).wanted) == again


def test_max_attempts_bound_restarts() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, policy=RestartPolicy(max_attempts=2))
    add_task(view, "t", "a", observed=FAILED, attempt=1)
    assert decide(view).wanted
    view = View()
    add_node(view, "a")
    add_service(view, policy=RestartPolicy(max_attempts=2))
    add_task(view, "t", "a", observed=FAILED, attempt=2)
    assert not decide(view).wanted


def test_attempts_outside_the_window_do_not_count() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, policy=RestartPolicy(max_attempts=1, window=60 * SECOND_NS))
    add_task(view, "old", "a", observed=FAILED, attempt=1, at=NOW - 100)
    assert decide(view).wanted
    add_task(view, "new", "a", observed=FAILED, attempt=2, at=NOW - 10)
    assert not decide(view).wanted


def test_a_task_on_a_node_that_is_down_is_replaced_at_once() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "t", "a")
    view.put_node_status("a", NodeStatus("down"))
    plan = decide(view)
    (put,) = plan.changes
    assert isinstance(put, PutTask)
    assert put.task.desired_state == SHUTDOWN
    assert plan.wanted[0].run_at == 0


def test_an_unknown_node_is_given_its_grace() -> None:
    """After a change of leader nothing is replaced before the node could speak."""
    view = View()
    add_node(view, "a", state="unknown")
    add_service(view)
    add_task(view, "t", "a", observed=None)
    assert decide(view) == Plan()


def test_draining_waits_for_the_old_task_to_stop() -> None:
    view = View()
    add_node(view, "a", availability="drain")
    add_node(view, "b")
    add_service(view)
    add_task(view, "t", "a")
    plan = decide(view)
    assert plan.wanted[0].desired_state == READY
    apply(view, plan.changes)
    add_task(view, "new", "b", desired=READY, observed=READY, at=NOW)
    waiting = decide(view, now=NOW + 1)
    assert waiting.changes == ()
    assert waiting.wake_at == NOW + 60
    view.put_status(view.tasks["t"], TaskStatus(SHUTDOWN, NOW + 2))
    changed = {c.task.id: c.task for c in decide(view, now=NOW + 2).changes if isinstance(c, PutTask)}
    assert changed["new"].desired_state == RUNNING


def test_a_task_whose_node_no_longer_suits_it_is_rejected() -> None:
    """As Docker's: its container is stopped first, and something else takes its place."""
    view = View()
    add_node(view, "a", labels={"zone": "1"})
    add_service(view, placement=Placement(constraints=["node.labels.zone==1"]))
    add_task(view, "t", "a")
    assert decide(view) == Plan()
    add_node(view, "a")
    plan = decide(view)
    (put,) = plan.changes
    assert isinstance(put, PutTask)
    assert (put.task.desired_state, put.task.result) == (SHUTDOWN, None)
    assert [w.desired_state for w in plan.wanted] == [READY]
    apply(view, plan.changes)
    view.put_status(view.tasks["t"], TaskStatus(SHUTDOWN, NOW, "shutdown", container_id="c"))
    (put,) = decide(view).changes
    assert isinstance(put, PutTask)
    assert put.task.result is not None
    assert (put.task.result.state, put.task.result.error, put.task.result.container_id) == (
        REJECTED,
        "assigned node no longer meets constraints",
        "c",
    )


def test_a_task_that_was_ended_for_another_reason_is_not_rejected() -> None:
    """Its node is drained, or is none that may run what comes after it."""
    view = View()
    add_node(view, "a", availability="drain")
    add_service(view, placement=Placement(constraints=["node.labels.zone==1"]))
    add_task(view, "t", "a", desired=SHUTDOWN, observed=SHUTDOWN)
    (put,) = decide(view).changes
    assert isinstance(put, PutTask)
    assert put.task.result is not None
    assert put.task.result.state == SHUTDOWN


def test_history_is_trimmed_to_the_limit_and_never_what_runs() -> None:
    view = View()
    add_cluster(view, history_limit=3)
    add_node(view, "a")
    add_service(view)
    for n in range(6):
        add_task(view, f"t{n}", "a", observed=FAILED, desired=SHUTDOWN, at=float(n))
    add_task(view, "live", "a", at=10.0)
    dropped = {c.task.id for c in decide(view).changes if isinstance(c, DropTask)}
    assert dropped == {"t0", "t1", "t2", "t3"}


def test_a_retired_slot_is_emptied_when_its_task_ends() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "t", "a", desired=REMOVE)
    assert decide(view) == Plan()
    view.put_status(view.tasks["t"], TaskStatus(SHUTDOWN, NOW))
    assert [type(c) for c in decide(view).changes] == [DropTask]
    assert not decide(view).wanted


def test_a_service_that_grows_again_takes_the_numbers_it_had() -> None:
    """What was retired still stops: who comes waits for that. With other numbers it would have other volumes."""
    view = View()
    add_node(view, "a")
    service = add_service(view, replicas=3)
    add_task(view, "t1", "a", 1)
    for slot in (2, 3):
        add_task(view, f"t{slot}", "a", slot, desired=REMOVE)
    plan = decide_scale(view, service, NOW, new_ids(), 100)
    assert [(w.slot, w.desired_state) for w in plan.wanted] == [(2, READY), (3, READY)]
    view.put_pending(PendingTask("new2", "s", 2, 1, NOW))
    assert [w.id for w in decide(view, 2).wanted] == ["new2"], "also where it found no node at first"
    add_task(view, "new3", "a", 3, desired=READY, observed=READY, at=NOW)
    assert not decide(view, 3).changes
    view.put_status(view.tasks["t3"], TaskStatus(SHUTDOWN, NOW))
    changes = decide(view, 3).changes
    assert [c.task.id for c in changes if isinstance(c, DropTask)] == ["t3"]
    assert [(c.task.id, c.task.desired_state) for c in changes if isinstance(c, PutTask)] == [
        ("new3", RUNNING)
    ]


def test_a_removed_services_tasks_go_as_they_end_or_with_their_node() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b", state="down")
    service = add_service(view, replicas=2)
    add_task(view, "t1", "a", 1)
    add_task(view, "t2", "b", 2)
    view.remove_service(RemovedService(id="s", name="x", templates=service.templates, removed_at=NOW))
    assert decide_removed_slot(view, "s", 1, NOW) == Plan()
    assert [type(c) for c in decide_removed_slot(view, "s", 2, NOW).changes] == [DropTask]
    view.put_status(view.tasks["t1"], TaskStatus(SHUTDOWN, NOW))
    assert [type(c) for c in decide_removed_slot(view, "s", 1, NOW).changes] == [DropTask]


def test_a_global_services_task_leaves_with_its_node_and_history_stays_on_drain() -> None:
    view = View()
    add_node(view, "a", availability="drain")
    add_service(view, replicas=None)
    add_task(view, "t", "a", 0)
    (put,) = decide(view, "a").changes
    assert isinstance(put, PutTask)
    assert put.task.desired_state == SHUTDOWN
    view.drop_node("a")
    assert [type(c) for c in decide(view, "a").changes] == [DropTask]


def test_a_slot_that_was_emptied_is_not_filled_again() -> None:
    """How many slots there are is for scaling to say (found by the simulation's seed 3)."""
    view = View()
    add_node(view, "a")
    add_service(view, replicas=0)
    assert decide(view) == Plan()


def test_a_pending_successor_still_waits_for_its_predecessor() -> None:
    """Found by the simulation's seed 1: the old task's node was away while the new one was placed."""
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "old", "a", desired=SHUTDOWN)
    view.put_pending(PendingTask("new", "s", 1, 1, NOW))
    (wanted,) = decide(view).wanted
    assert (wanted.id, wanted.desired_state) == ("new", READY)


@pytest.mark.parametrize("limit", [0, 2])
def test_what_ended_for_good_holds_its_slot_whatever_the_limit(limit: int) -> None:
    view = View()
    add_cluster(view, history_limit=limit)
    add_node(view, "a")
    add_service(view, policy=RestartPolicy(condition="none"))
    add_task(view, "t", "a", observed=COMPLETE)
    plan = decide(view)
    assert [type(c) for c in plan.changes] == [PutTask]
    assert not plan.wanted


def test_a_history_without_limit_keeps_as_many_as_may_be() -> None:
    view = View()
    add_cluster(view, history_limit=-1)
    add_node(view, "a")
    add_service(view)
    for n in range(99):
        add_task(view, f"t{n}", "a", observed=FAILED, desired=SHUTDOWN, at=float(n))
    add_task(view, "live", "a", at=200.0)
    assert not [c for c in decide(view).changes if isinstance(c, DropTask)]
    for n in (100, 101):
        add_task(view, f"t{n}", "a", observed=FAILED, desired=SHUTDOWN, at=float(n))
    dropped = [c.task.id for c in decide(view).changes if isinstance(c, DropTask)]
    assert dropped == ["t0", "t1"]


def test_a_crash_loop_without_a_delay_is_slowed_down() -> None:
    """The first five come at once, then each waits twice as long, up to Docker's default of five seconds."""
    waits = []
    for attempt in range(10):
        view = View()
        add_node(view, "a")
        add_service(view, policy=RestartPolicy(delay=0))
        add_task(view, "t", "a", observed=FAILED, attempt=attempt, at=NOW)
        (wanted,) = decide(view).wanted
        waits.append(wanted.run_at - NOW)
    assert waits == [0.0] * 5 + [0.5, 1.0, 2.0, 4.0, 5.0]


def test_one_that_ran_for_a_while_is_no_crash_loop() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, policy=RestartPolicy(delay=0))
    add_task(view, "t", "a", observed=FAILED, attempt=100, at=NOW - 10)
    (wanted,) = decide(view).wanted
    assert wanted.run_at == NOW


def test_an_outdated_task_that_ended_for_good_is_the_updates_to_replace() -> None:
    view = View()
    add_node(view, "a")
    service = add_service(view, policy=RestartPolicy(condition="none"))
    add_task(view, "t", "a", observed=COMPLETE)
    task = replace(service.spec.task_template, force_update=1)
    spec = replace(service.spec, task_template=task)
    view.put_service(replace(service, spec=spec, templates=with_template(service.templates, spec), version=1))
    assert not decide(view).wanted
