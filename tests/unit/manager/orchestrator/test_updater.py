"""Rolling updates, step by step."""

from __future__ import annotations

from typing import cast

import pytest
from msgspec.structs import replace

from skep.manager.commits import Committer
from skep.manager.orchestrator import updater
from skep.manager.orchestrator.slot import decide_slot
from skep.manager.reconcile import Reconciler
from skep.manager.rollouts import Rollouts
from skep.model.change import PutService, PutTask
from skep.model.container import RestartPolicy
from skep.model.service import Service, TaskTemplate, UpdateStatus
from skep.model.spec import GlobalMode, ServiceMode, UpdateConfig
from skep.model.states import FAILED, READY, RUNNING, SHUTDOWN
from skep.model.task import PendingTask, TaskStatus
from skep.runtime.clock import SystemClock
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service, add_task, apply, new_ids

NOW = 1000.0


def updated(view: View, config: UpdateConfig, replicas: int = 3) -> Service:
    """A service whose tasks run version 1, and whose spec says version 2."""
    add_node(view, "a")
    service = add_service(view, replicas=replicas, update=config)
    for slot in range(1, replicas + 1):
        add_task(view, f"old{slot}", "a", slot)
    second = TaskTemplate(version=2, spec=replace(service.template.spec, force_update=1))
    changed = replace(
        service,
        templates=[*service.templates, second],
        previous_spec=service.spec,
        update=UpdateStatus(state="updating", started_at=NOW),
        version=2,
    )
    view.put_service(changed)
    return changed


def step(view: View, progress: updater.Progress, touched: list[int | str], now: float) -> updater.UpdateStep:
    return updater.step(view, view.services["s"], progress, touched, now, new_ids(int(now)))


def run_new(view: View, slot: int, at: float, state: int = RUNNING) -> None:
    old = view.tasks[f"old{slot}"]
    view.put_status(old, TaskStatus(SHUTDOWN, at))
    add_task(view, f"new{slot}", "a", slot, version=2, observed=state, at=at, started_at=at)


def test_stop_first_stops_the_old_task_and_lets_the_new_one_wait() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=2))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    first = step(view, progress, [], NOW)
    assert [(w.slot, w.desired_state, w.spec_version) for w in first.wanted] == [(1, READY, 2), (2, READY, 2)]
    stopped = [c.task for c in first.changes if isinstance(c, PutTask)]
    assert [(t.id, t.desired_state) for t in stopped] == [("old1", SHUTDOWN), ("old2", SHUTDOWN)]
    assert step(view, progress, [], NOW + 1).wanted == ()


def test_the_next_slot_waits_for_the_delay_after_the_one_before_runs() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=1, delay=10_000_000_000))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    apply(view, step(view, progress, [], NOW).changes)
    run_new(view, 1, NOW + 1)
    waiting = step(view, progress, [1], NOW + 1)
    assert (waiting.wanted, waiting.wake_at) == ((), NOW + 11)
    assert [w.slot for w in step(view, progress, [], NOW + 11).wanted] == [2]


def test_start_first_leaves_the_old_task_alone() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=0, order="start-first"))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    first = step(view, progress, [], NOW)
    assert first.changes == ()
    assert [(w.slot, w.desired_state) for w in first.wanted] == [(1, RUNNING), (2, RUNNING), (3, RUNNING)]


def test_an_update_is_complete_after_watching_the_last_task() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=0))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    apply(view, step(view, progress, [], NOW).changes)
    for slot in (1, 2, 3):
        run_new(view, slot, NOW + 1)
    watching = step(view, progress, [1, 2, 3], NOW + 1)
    assert (watching.done, watching.wake_at) == (False, NOW + 6)
    last = step(view, progress, [], NOW + 6)
    assert last.done
    (put,) = [c for c in last.changes if isinstance(c, PutService)]
    assert put.service.update is not None
    assert put.service.update.state == "completed"


def test_a_failure_pauses() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=1))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    apply(view, step(view, progress, [], NOW).changes)
    run_new(view, 1, NOW + 1, FAILED)
    paused = step(view, progress, [1], NOW + 1)
    (put,) = [c for c in paused.changes if isinstance(c, PutService)]
    assert put.service.update is not None
    assert put.service.update.state == "paused"
    assert "task new1" in put.service.update.message
    view.put_service(replace(put.service, version=3))
    assert updater.begin(view, view.services["s"], NOW) is None


def test_a_failure_rolls_back_to_the_version_before() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=1, failure_action="rollback"))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    apply(view, step(view, progress, [], NOW).changes)
    run_new(view, 1, NOW + 1, FAILED)
    rolled = step(view, progress, [1], NOW + 1)
    (put,) = [c for c in rolled.changes if isinstance(c, PutService)]
    assert put.service.update is not None
    assert put.service.update.state == "rollback_started"
    assert put.service.template.version == 1
    assert put.service.previous_spec is None


def test_a_late_failure_is_not_the_updates() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=1))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    apply(view, step(view, progress, [], NOW).changes)
    run_new(view, 1, NOW + 1)
    step(view, progress, [1], NOW + 1)
    view.put_status(view.tasks["new1"], TaskStatus(FAILED, NOW + 60, started_at=NOW + 1))
    assert not [c for c in step(view, progress, [1], NOW + 60).changes if isinstance(c, PutService)]


def test_a_slot_whose_node_was_drained_meanwhile_is_settled() -> None:
    """Found by the simulation's seed 98: nothing would ever be observed there again."""
    view = View()
    updated(view, UpdateConfig(parallelism=1), replicas=1)
    progress = updater.Progress(2, [], [1])
    add_task(view, "new1", "a", 1, version=2, desired=SHUTDOWN, observed=RUNNING)
    step(view, progress, [1], NOW)
    assert not progress.waiting


def test_a_new_leader_counts_what_was_ended_and_not_yet_followed() -> None:
    """Found by the simulation's seed 1047: the leader died between the two writes, and the next one began with
    as many slots again."""
    view = View()
    service = updated(view, UpdateConfig(parallelism=1))
    view.put_task(replace(view.tasks["old1"], desired_state=SHUTDOWN))
    progress = updater.begin(view, service, NOW + 1)
    assert progress is not None
    assert progress.waiting == {1}
    assert step(view, progress, [], NOW + 1).wanted == ()
    view.put_status(view.tasks["old1"], TaskStatus(SHUTDOWN, NOW + 2))
    add_task(view, "new1", "a", 1, version=2, at=NOW + 2)
    assert [w.slot for w in step(view, progress, [1], NOW + 2).wanted] == [2]


def test_a_new_leader_does_not_wait_for_a_node_that_may_not_run_the_service() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=1))
    service = replace(service, spec=replace(service.spec, mode=ServiceMode(global_=GlobalMode())))
    for name in ("b", "c"):
        add_node(view, name, availability="drain" if name == "b" else "active", state="unknown")
        add_task(view, f"old-{name}", name, 0, desired=SHUTDOWN)
    progress = updater.begin(view, service, NOW + 1)
    assert progress is not None
    assert "b" not in progress.waiting
    assert "c" in progress.waiting


def test_a_task_that_is_to_start_first_and_finds_no_node_is_still_waited_for() -> None:
    """Found by the simulation's seed 1012: it was forgotten as the old one runs, and the update was completed
    and begun again and again."""
    view = View()
    service = updated(view, UpdateConfig(parallelism=1, order="start-first"), replicas=1)
    view.put_pending(PendingTask("new1", "s", 1, 2, NOW))
    assert [(w.id, w.spec_version) for w in decide_slot(view, service, 1, NOW, new_ids()).wanted] == [
        ("new1", 2)
    ]
    for update in (service.update, None):  # a new leader; somebody scaled the service
        progress = updater.begin(view, replace(service, update=update), NOW)
        assert progress is not None
        assert progress.waiting == {1}
    back = replace(service, templates=service.templates[:1])
    assert decide_slot(view, back, 1, NOW, new_ids()).wanted == ()


def test_a_task_that_found_no_node_is_the_updates_own_once_there_is_one() -> None:
    """Found by the simulation's seed 100708: it counted as made before the update, which began with its slot again
    when it had failed. And what was tried and waited for was the version before."""
    view = View()
    service = updated(view, UpdateConfig(order="start-first"), replicas=1)
    view.put_pending(PendingTask("new1", "s", 1, 1, NOW - 1, run_at=NOW + 50, attempt=4))
    (wanted,) = decide_slot(view, service, 1, NOW, new_ids()).wanted
    assert (wanted.id, wanted.spec_version, wanted.attempt, wanted.run_at) == ("new1", 2, 0, 0)
    assert wanted.created_at == NOW
    view.put_pending(PendingTask("new1", "s", 1, 2, NOW + 1, run_at=NOW + 50, attempt=4))
    (wanted,) = decide_slot(view, service, 1, NOW + 2, new_ids()).wanted
    assert (wanted.attempt, wanted.run_at, wanted.created_at) == (4, NOW + 50, NOW + 1)


def test_what_was_to_start_first_and_failed_is_not_begun_again() -> None:
    """Found by the simulation's seeds 1020 and 1027: a new leader, and the end of the update, took the slot for
    one that was not updated yet, as the old task still runs there."""
    view = View()
    config = UpdateConfig(parallelism=1, order="start-first", failure_action="continue")
    service = updated(view, config, replicas=1)
    add_task(view, "new1", "a", 1, version=2, desired=SHUTDOWN, observed=FAILED, at=NOW + 1)
    progress = updater.begin(view, service, NOW + 2)
    assert progress is not None
    assert (list(progress.remaining), progress.waiting, progress.failed) == ([], set(), {1})
    assert service.update is not None
    done = replace(service, update=replace(service.update, state="completed"))
    assert updater.begin(view, done, NOW + 2) is None
    assert done.update is not None
    later = replace(
        done, update=replace(done.update, started_at=NOW + 2)
    )  # somebody scaled it after the failure
    assert updater.begin(view, later, NOW + 3) is None
    assert updater.begin(view, replace(service, update=None), NOW + 2) is not None  # a user's next try


def test_what_was_to_start_first_and_failed_for_good_is_kept_whatever_the_historys_limit() -> None:
    """Found by the simulation's seed 830087 with locks: nothing said any more that the slot had been updated, and
    the update began with it again as soon as it was done, for ever."""
    view = View()
    add_cluster(view, history_limit=0)
    service = updated(view, UpdateConfig(order="start-first", failure_action="continue"), replicas=1)
    never = RestartPolicy(condition="none")
    templates = [
        replace(each, spec=replace(each.spec, restart_policy=never, force_update=each.version))
        for each in service.templates
    ]
    service = replace(service, templates=templates)
    view.put_service(service)
    add_task(view, "new1", "a", 1, version=2, observed=FAILED, at=NOW + 1)
    plan = decide_slot(view, service, 1, NOW + 1, new_ids())
    assert plan.wanted == ()
    apply(view, plan.changes)
    assert [task.id for task in view.slot("s", 1)] == ["old1", "new1"]
    assert decide_slot(view, service, 1, NOW + 2, new_ids()).changes == ()
    assert service.update is not None
    done = replace(service, update=replace(service.update, state="completed"))
    view.put_service(done)
    assert updater.begin(view, done, NOW + 2) is None
    # It goes with the next that runs.
    add_task(view, "next1", "a", 1, version=2, at=NOW + 3)
    apply(view, decide_slot(view, done, 1, NOW + 4, new_ids()).changes)
    assert [task.id for task in view.slot("s", 1)] == ["old1", "next1"]
    assert view.tasks["old1"].desired_state == SHUTDOWN


def test_a_service_that_is_scaled_while_it_is_updated_goes_on_with_it() -> None:
    """Found by the simulation's seed 1065: as many slots were begun with again."""
    view = View()
    service = updated(view, UpdateConfig(parallelism=1, order="start-first"))
    add_task(view, "new1", "a", 1, version=2, observed=READY, at=NOW)
    progress = updater.begin(view, replace(service, update=None), NOW + 1)
    assert progress is not None
    assert progress.waiting == {1}


def rolling_back(view: View, order: str) -> Service:
    """A rollback to the version of a task that is about to start, beside the one that it was to replace."""
    service = updated(view, UpdateConfig(order="start-first"), replicas=1)
    add_task(view, "new1", "a", 1, version=2, desired=SHUTDOWN, observed=READY)
    add_task(view, "new2", "a", 1, version=2, observed=READY)
    assert service.update is not None
    back = replace(
        service,
        spec=replace(service.spec, rollback_config=UpdateConfig(order=order)),
        update=replace(service.update, state="rollback_started", started_at=NOW + 1),
    )
    view.put_service(back)
    return back


def test_a_rollback_waits_for_a_task_that_is_about_to_start() -> None:
    """Found by the simulation's seed 1097: it was completed with both versions in the slot."""
    view = View()
    progress = updater.begin(view, rolling_back(view, "start-first"), NOW + 1)
    assert progress is not None
    assert progress.waiting == {1}


def test_a_rollback_that_stops_first_stops_what_an_update_left_beside() -> None:
    """Found by the simulation's seed 100529: where the task that was there failed, both versions stayed."""
    view = View()
    progress = updater.begin(view, rolling_back(view, "stop-first"), NOW + 1)
    assert progress is not None
    assert list(progress.remaining) == [1]
    taken = step(view, progress, [], NOW + 1)
    assert [c.task.id for c in taken.changes if isinstance(c, PutTask)] == ["old1"]
    assert (taken.wanted, progress.waiting) == ((), {1})


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_new_leader_stops_what_is_beside_the_right_task_also_where_a_newer_one_failed(order: str) -> None:
    """Found by the simulation's seed 6019 with frozen engines: the version that was taken back had failed in the
    slot, and whoever came to lead then took the slot for done. The rollback ended, and both tasks stayed."""
    view = View()
    back = rolling_back(view, order)
    third = TaskTemplate(version=3, spec=replace(back.template.spec, force_update=2))
    back = replace(back, templates=[third, *back.templates])
    view.put_service(back)
    newest = add_task(view, "new3", "a", 1, version=3, desired=SHUTDOWN, observed=FAILED, at=NOW)
    assert view.slot("s", 1)[-1] is newest
    progress = updater.begin(view, back, NOW + 1)
    assert progress is not None
    taken = step(view, progress, [], NOW + 1)
    assert [c.task.id for c in taken.changes if isinstance(c, PutTask)] == ["old1"]
    assert (taken.wanted, taken.done, progress.waiting) == ((), False, {1})
    apply(view, taken.changes)
    view.put_status(view.tasks["new2"], TaskStatus(RUNNING, NOW + 2, started_at=NOW + 2))
    step(view, progress, [1], NOW + 2)
    assert step(view, progress, [], NOW + 2 + updater.MONITOR_S).done


def test_a_new_leader_starts_also_on_nodes_it_has_not_heard_of_yet() -> None:
    """Found by the simulation's seed 1112: what the restart policy does not start again was taken for done, and
    the update was begun a second time."""
    view = View()
    never = RestartPolicy(condition="none")
    add_node(view, "a", state="unknown")
    service = add_service(view, replicas=None, policy=never)
    second = TaskTemplate(version=2, spec=replace(service.template.spec, force_update=1))
    update = UpdateStatus(state="updating", started_at=NOW)
    service = replace(service, templates=[*service.templates, second], update=update, version=2)
    view.put_service(service)
    add_task(view, "old", "a", 0, desired=SHUTDOWN)
    progress = updater.begin(view, service, NOW + 1)
    assert progress is not None
    assert [w.node_id for w in step(view, progress, [], NOW + 1).wanted] == ["a"]


def test_what_is_lost_after_an_update_does_not_begin_it_again() -> None:
    """Found by the simulation's seed 1090: a node was removed with the only task that was rolled back to."""
    view = View()
    service = updated(view, UpdateConfig(), replicas=1)
    template = replace(service.template.spec, restart_policy=RestartPolicy(condition="none"))
    first = replace(service.templates[0], spec=template)
    assert service.update is not None
    done = replace(
        service, templates=[first, service.templates[1]], update=replace(service.update, state="completed")
    )
    view.put_service(replace(done, version=3))
    view.put_task(replace(view.tasks["old1"], desired_state=SHUTDOWN, result=TaskStatus(SHUTDOWN, NOW)))
    assert updater.begin(view, done, NOW + 1) is None
    assert updater.begin(view, replace(done, update=None), NOW + 1) is not None


def test_an_update_tells_its_own_tasks_from_those_before_also_where_the_clock_went_back() -> None:
    """Found by the simulation's seed 1024 with a follower: what an update before had made counted as this one's."""
    view = View()
    service = updated(view, UpdateConfig(order="start-first"), replicas=1)
    add_task(view, "new1", "a", 1, version=2, desired=SHUTDOWN, observed=FAILED, at=NOW + 500)
    progress = updater.begin(view, replace(service, update=None), NOW)
    assert progress is not None
    view.put_service(replace(service, update=None, version=3))
    (put,) = step(view, progress, [], NOW).changes
    assert isinstance(put, PutService)
    assert put.service.update is not None
    assert put.service.update.started_at > NOW + 500
    again = updater.begin(view, put.service, NOW)
    assert again is not None
    assert list(again.remaining) == [1]
    view.put_service(replace(put.service, version=4))
    (wanted,) = step(view, again, [], NOW).wanted
    assert wanted.created_at >= put.service.update.started_at


def test_what_has_failed_is_written_with_what_follows_it() -> None:
    """Found by the simulation's seeds 91043 and 93470 (a job's): what it had held was given to the new one, and a
    next leader would have found both with it."""
    view = View()
    service = updated(view, UpdateConfig(order="start-first"), replicas=1)
    view.put_status(view.tasks["old1"], TaskStatus(FAILED, NOW))
    first = Rollouts(view, new_ids(1)).take(service, NOW, 100)
    assert [w.slot for w in first.wanted] == [1]
    assert [(c.task.id, c.task.result) for c in first.changes if isinstance(c, PutTask)] == [
        ("old1", TaskStatus(FAILED, NOW))
    ]


def test_nothing_is_remembered_of_a_service_that_is_no_more() -> None:
    view = View()
    service = updated(view, UpdateConfig(parallelism=1), replicas=2)
    reconciler = Reconciler(view, cast("Committer", None), SystemClock(), new_ids())
    steps = reconciler._updating
    steps.take(service, NOW, 100)
    reconciler.enqueue_slot("s", 1)
    assert steps._touched == {"s": {1}}
    reconciler.enqueue_removed("s")
    reconciler.enqueue_slot("s", 2)  # its tasks end after it
    assert (steps._updates, steps._jobs, steps._touched) == ({}, {}, {})


def test_what_was_to_start_first_and_is_gone_with_its_node_is_begun_with_again() -> None:
    """Found by the simulation's seed 93682: the slot counted as done, and the update began anew after its end."""
    view = View()
    service = updated(view, UpdateConfig(parallelism=1, order="start-first"), replicas=1)
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    assert [w.slot for w in step(view, progress, [], NOW).wanted] == [1]
    new = add_task(view, "new1", "b", 1, version=2, observed=READY, at=NOW)
    view.drop_task(new)
    assert [w.slot for w in step(view, progress, [1], NOW + 1).wanted] == [1]


def test_what_was_to_start_first_and_was_stopped_with_its_node_is_begun_with_again() -> None:
    """Found by the simulation's seed 100849: the policy starts nothing again, and the old version stayed for good."""
    view = View()
    service = updated(view, UpdateConfig(parallelism=1, order="start-first"), replicas=1)
    spec = replace(service.spec.task_template, restart_policy=RestartPolicy(condition="none"))
    service = replace(service, templates=[replace(t, spec=spec) for t in service.templates])
    view.put_service(service)
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    step(view, progress, [], NOW)
    add_task(view, "new1", "b", 1, version=2, desired=SHUTDOWN, observed=READY, at=NOW)
    next_leaders = updater.begin(view, service, NOW + 1)
    assert next_leaders is not None
    assert list(next_leaders.remaining) == [1]
    again = step(view, progress, [1], NOW + 1)
    assert [w.slot for w in again.wanted] == [1]
    assert again.changes == (), "what runs is left alone"
    add_task(view, "new2", "b", 1, version=2, desired=SHUTDOWN, observed=FAILED, at=NOW + 2)
    assert step(view, progress, [1], NOW + 2).wanted == (), "it has failed: that is an answer"


def test_a_service_that_has_found_no_node_is_updated_too() -> None:
    """Who waits for `UpdateStatus` waited for ever."""
    view = View()
    add_node(view, "a")
    service = add_service(view, replicas=2)
    second = TaskTemplate(version=2, spec=replace(service.template.spec, force_update=1))
    service = replace(service, templates=[*service.templates, second], previous_spec=service.spec, version=2)
    view.put_service(service)
    for slot in (1, 2):
        view.put_pending(PendingTask(f"t{slot}", "s", slot, 1, NOW))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    assert progress.waiting == {1, 2}
    (begun,) = step(view, progress, [], NOW).changes
    assert isinstance(begun, PutService)
    view.put_service(begun.service)
    for slot in (1, 2):
        view.put_pending(PendingTask(f"t{slot}", "s", slot, 2, NOW))
    assert not step(view, progress, [1, 2], NOW + 60).done
    for slot in (1, 2):
        view.drop_pending("s", slot)
        add_task(view, f"t{slot}", "a", slot, version=2, at=NOW + 60)
    assert not step(view, progress, [1, 2], NOW + 61).done
    assert step(view, progress, [], NOW + 67).done


def test_an_update_that_stops_first_stops_what_waits_for_one_that_found_no_node() -> None:
    """Found by the simulation's seed 122094: the task that an update before was to start first came in the next one,
    failed, and the old version stayed."""
    view = View()
    service = updated(view, UpdateConfig(order="stop-first"), replicas=1)
    view.put_pending(PendingTask("new1", "s", 1, 1, NOW - 1))
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    taken = step(view, progress, [], NOW)
    assert [(c.task.id, c.task.desired_state) for c in taken.changes if isinstance(c, PutTask)] == [
        ("old1", SHUTDOWN)
    ]
    assert taken.wanted == (), "the one that waits is tried again"
    apply(view, taken.changes)
    assert [w.id for w in decide_slot(view, view.services["s"], 1, NOW, new_ids()).wanted] == ["new1"]
