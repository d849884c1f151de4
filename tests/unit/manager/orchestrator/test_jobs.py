"""Jobs: what is begun when, what counts as done, and what an update does to them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.orchestrator import jobs
from skep.model.change import DropTask, NewTask, Plan, PutTask
from skep.model.container import ContainerSpec, RestartPolicy
from skep.model.node import NodeStatus
from skep.model.service import Service, TaskTemplate, with_template
from skep.model.spec import GlobalJobMode, ReplicatedJobMode, ServiceMode, ServiceSpec, TaskSpec
from skep.model.states import COMPLETE, FAILED, READY, REMOVE, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import Task, TaskStatus
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_task, apply, new_ids

NOW = 1000.0


def add_job(
    view: View, concurrent: int | None, total: int = 0, policy: RestartPolicy | None = None
) -> Service:
    """A replicated job, or a global one where `concurrent` is None."""
    mode = ServiceMode(global_job=GlobalJobMode())
    if concurrent is not None:
        mode = ServiceMode(
            replicated_job=ReplicatedJobMode(max_concurrent=concurrent, total_completions=total)
        )
    task = TaskSpec(container_spec=ContainerSpec(image="busybox"), restart_policy=policy)
    service = Service(
        id="s",
        spec=ServiceSpec(name="job", mode=mode, task_template=task),
        templates=[TaskTemplate(version=1, spec=task)],
        created_at=0,
        updated_at=0,
        last_execution_at=10.0,
    )
    view.put_service(service)
    return service


def again(view: View, at: float = 20.0) -> Service:
    """The job is updated: it runs once more."""
    service = view.services["s"]
    templates = with_template(service.templates, service.spec)
    changed = replace(service, templates=templates, version=service.version + 1, last_execution_at=at)
    view.put_service(changed)
    return changed


def decide(view: View, key: int | str = 1, now: float = NOW) -> Plan:
    return jobs.decide_job_slot(view, view.services["s"], key, now, new_ids(int(now * 10)))


def begun(view: View, now: float = NOW) -> list[int]:
    service = view.services["s"]
    progress = jobs.JobProgress(view, service, now)
    return [new.slot for new in jobs.decide_job(view, service, progress, (), now, new_ids(), 1000)]


def test_no_more_are_begun_than_may_be_under_way() -> None:
    view = View()
    add_node(view, "a")
    add_job(view, 2, 5)
    assert begun(view) == [1, 2]
    add_task(view, "t1", "a", 1, observed=COMPLETE)
    add_task(view, "t2", "a", 2)
    assert begun(view) == [3]


def test_a_slot_that_waits_to_run_again_is_under_way_and_one_that_was_given_up_is_not() -> None:
    view = View()
    add_node(view, "a")
    add_job(view, 1, 3, RestartPolicy(max_attempts=1))
    add_task(view, "t1", "a", 1, observed=FAILED)
    assert begun(view) == []
    add_task(view, "t2", "a", 1, observed=FAILED, attempt=1, at=1.0)
    assert begun(view) == [2]
    assert not decide(view).wanted


@pytest.mark.parametrize("condition", ["", "any", "on-failure"])
def test_what_succeeded_is_not_run_again_and_what_failed_is(condition: str) -> None:
    view = View()
    add_node(view, "a")
    add_job(view, 1, 1, RestartPolicy(condition=condition))
    add_task(view, "t", "a", observed=COMPLETE)
    plan = decide(view)
    (put,) = plan.changes
    assert isinstance(put, PutTask)
    assert (put.task.desired_state, plan.wanted) == (COMPLETE, ())
    view = View()
    add_node(view, "a")
    add_job(view, 1, 1, RestartPolicy(condition=condition))
    add_task(view, "t", "a", observed=FAILED)
    (wanted,) = decide(view).wanted
    assert (wanted.desired_state, wanted.attempt) == (READY, 1)


def test_the_record_of_a_completion_outlives_history_and_node() -> None:
    view = View()
    add_cluster(view, history_limit=0)
    add_node(view, "a")
    add_job(view, 1, 1)
    add_task(view, "t", "a", observed=COMPLETE)
    apply(view, decide(view).changes)
    view.drop_node("a")
    apply(view, decide(view).changes)
    assert "t" in view.tasks
    assert begun(view) == []


def test_a_run_that_comes_back_complete_from_a_lost_node_ends_its_successor() -> None:
    view = View()
    add_node(view, "a", state="down")
    add_node(view, "b")
    add_job(view, 1, 1)
    add_task(view, "old", "a")
    plan = decide(view)
    assert [new.desired_state for new in plan.wanted] == [READY]
    apply(view, plan.changes)
    add_task(view, "new", "b", at=5.0)
    view.put_node_status("a", NodeStatus("ready"))
    view.put_status(view.tasks["old"], TaskStatus(COMPLETE, NOW))
    apply(view, decide(view).changes)
    assert view.tasks["new"].desired_state == REMOVE
    assert view.completed["s"][1] == 1


def test_an_update_waits_for_what_still_runs_and_runs_all_again() -> None:
    view = View()
    add_node(view, "a")
    add_job(view, 2, 2)
    add_task(view, "t1", "a", 1, observed=COMPLETE)
    add_task(view, "t2", "a", 2)
    again(view)
    assert begun(view) == [1]
    apply(view, decide(view, 2).changes)
    assert view.tasks["t2"].desired_state == REMOVE
    view.put_status(view.tasks["t2"], TaskStatus(SHUTDOWN, NOW))
    assert begun(view) == [1, 2]
    assert [type(c) for c in decide(view, 2).changes] == [DropTask]


def test_slots_beyond_the_last_are_emptied() -> None:
    view = View()
    add_node(view, "a")
    add_job(view, 1, 1)
    add_task(view, "t", "a", 2, observed=COMPLETE)
    assert [type(c) for c in decide(view, 2).changes] == [DropTask]


def test_a_drained_node_lets_a_job_end_and_begins_none() -> None:
    view = View()
    add_node(view, "a", availability="drain")
    add_job(view, None)
    add_task(view, "t", "a", 0)
    assert decide(view, "a") == Plan()
    assert jobs.nodes_to_look_at(view, view.services["s"]) == []


def test_a_global_job_runs_on_nodes_that_were_there_when_it_was_ordered() -> None:
    view = View()
    add_node(view, "a")
    view.put_node(replace(add_node(view, "late"), created_at=15.0, version=1))
    service = add_job(view, None)
    assert jobs.nodes_to_look_at(view, service) == ["a"]
    assert [new.node_id for new in decide(view, "a").wanted] == ["a"]
    assert decide(view, "late") == Plan()
    assert jobs.nodes_to_look_at(view, again(view)) == ["a", "late"]


class Machine:
    """A job on nodes that fail, are lost and come back; each step decides as the reconciler does."""

    def __init__(self, seed: int, concurrent: int, total: int) -> None:
        self.rng = random.Random(seed)
        self.view = View()
        self.new_id = new_ids(seed)
        self.now = NOW
        for name in "abc":
            add_node(self.view, name)
        self.service = add_job(self.view, concurrent, total, RestartPolicy(delay=0))
        self.concurrent, self.total = concurrent, total
        self.progress = jobs.JobProgress(self.view, self.service, self.now)

    def place(self, wanted: list[NewTask] | tuple[NewTask, ...]) -> None:
        ready = [n for n in "abc" if self.view.node_state(n).state == "ready"]
        for new in wanted:
            if not ready:
                return
            node_id = self.rng.choice(ready)
            self.view.put_task(
                Task(
                    new.id,
                    "s",
                    node_id,
                    new.slot,
                    new.spec_version,
                    new.desired_state,
                    new.created_at,
                    self.now,
                    new.run_at,
                    None,
                    new.attempt,
                )
            )

    def step(self, fails: bool) -> None:
        self.now += 1
        if self.rng.random() < 0.05:  # another manager leads
            self.progress = jobs.JobProgress(self.view, self.service, self.now)
        if fails and self.rng.random() < 0.1:
            name = self.rng.choice("abc")
            state = "down" if self.view.node_state(name).state == "ready" else "ready"
            self.view.put_node_status(name, NodeStatus(state))
        for task in list(self.view.tasks.values()):
            if self.view.node_state(task.node_id).state == "down" or task.result is not None:
                continue
            if task.desired_state > RUNNING:
                self.view.put_status(task, TaskStatus(SHUTDOWN, self.now))
            elif task.desired_state == RUNNING and self.rng.random() < 0.5:
                end = FAILED if fails and self.rng.random() < 0.3 else COMPLETE
                self.view.put_status(task, TaskStatus(end, self.now))
        self.place(
            jobs.decide_job(
                self.view, self.service, self.progress, range(1, self.total + 1), self.now, self.new_id, 100
            )
        )
        for slot in range(1, self.total + 1):
            plan = decide_at(self, slot)
            apply(self.view, plan.changes)
            self.place(plan.wanted)

    def running(self) -> int:
        return sum(
            self.view.node_state(t.node_id).state == "ready"
            and not is_terminal(status.state if (status := self.view.status_of(t)) else 0)
            for t in self.view.tasks.values()
        )


def decide_at(machine: Machine, slot: int) -> Plan:
    return jobs.decide_job_slot(machine.view, machine.service, slot, machine.now, machine.new_id)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), concurrent=st.integers(1, 4), total=st.integers(0, 8))
def test_a_job_ends_with_each_completion_done_once(seed: int, concurrent: int, total: int) -> None:
    machine = Machine(seed, concurrent, total)
    done = 0
    for _ in range(40):
        machine.step(fails=True)
        complete = {t.slot for t in machine.view.tasks.values() if _complete(machine.view, t)}
        assert len(complete) >= done, "completed work was lost"
        done = len(complete)
    for name in "abc":
        machine.view.put_node_status(name, NodeStatus("ready"))
    for _ in range(20 + 6 * total):
        machine.step(fails=False)
    assert {t.slot for t in machine.view.tasks.values() if _complete(machine.view, t)} == set(
        range(1, total + 1)
    )
    assert machine.running() == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), concurrent=st.integers(1, 4), total=st.integers(1, 8))
def test_never_more_run_than_may_where_no_node_is_lost(seed: int, concurrent: int, total: int) -> None:
    machine = Machine(seed, concurrent, total)
    for _ in range(10 + 4 * total):
        machine.step(fails=False)
        assert machine.running() <= concurrent


def _complete(view: View, task: Task) -> bool:
    status = view.status_of(task)
    return status is not None and status.state == COMPLETE
