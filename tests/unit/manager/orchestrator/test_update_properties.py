"""Rolling updates, drawn at random: never too many slots down, always an end, never a mix at the end."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.orchestrator import updater
from skep.manager.orchestrator.slot import decide_slot
from skep.model.change import NewTask, PutService
from skep.model.container import RestartPolicy
from skep.model.service import Service, UpdateStatus, with_template
from skep.model.spec import Placement, ReplicatedMode, ServiceMode, UpdateConfig
from skep.model.states import FAILED, READY, RUNNING, SHUTDOWN
from skep.model.task import Task, TaskStatus
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task, apply, new_ids

NOW = 1000.0


class Rolling:
    """A service under update; each step decides as the reconciler does, a second apart."""

    def __init__(self, seed: int, replicas: int, config: UpdateConfig) -> None:
        self.rng = random.Random(seed)
        self.view = View()
        self.new_id = new_ids(seed)
        self.now = NOW
        self.replicas = replicas
        add_node(self.view, "a", cpus=1000)
        add_service(self.view, replicas=replicas, update=config, policy=RestartPolicy(delay=0))
        for slot in range(1, replicas + 1):
            add_task(self.view, f"old{slot}", "a", slot, at=1.0, started_at=1.0)
        self.progress: updater.Progress | None = None
        self.order()

    @property
    def service(self) -> Service:
        return self.view.services["s"]

    def order(self) -> None:
        """The user changes what runs."""
        service = self.service
        task = service.spec.task_template
        spec = replace(service.spec, task_template=replace(task, force_update=task.force_update + 1))
        self.write(
            replace(
                service,
                spec=spec,
                previous_spec=service.spec,
                update=None,
                templates=with_template(service.templates, spec),
            )
        )

    def write(self, service: Service) -> None:
        self.view.put_service(replace(service, version=service.version + 1))
        self.progress = None

    def place(self, wanted: tuple[NewTask, ...]) -> None:
        for new in wanted:
            self.view.put_task(
                Task(
                    new.id,
                    "s",
                    "a",
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

    def step(self, fail_rate: float = 0.0, bad: int = 0) -> None:
        """Of new tasks so many fail, and all of the version that is `bad`; what came between that and the first
        one takes its time."""
        self.now += 1
        if self.rng.random() < 0.1:
            self.progress = None  # another manager leads
        for task in list(self.view.tasks.values()):
            status = self.view.status_of(task)
            if task.result is not None or self.rng.random() < (0.9 if 1 < task.spec_version < bad else 0.3):
                continue
            if task.desired_state > RUNNING:
                self.view.put_status(task, TaskStatus(SHUTDOWN, self.now))
            elif task.desired_state == RUNNING and (status is None or status.state < RUNNING):
                fails = task.id[:3] != "old" and self.rng.random() < fail_rate
                fails = fails or task.spec_version == bad
                self.view.put_status(
                    task, TaskStatus(FAILED if fails else RUNNING, self.now, started_at=self.now)
                )
        decided = self.update()
        for slot in range(1, self.replicas + 1):
            if slot not in decided:
                plan = decide_slot(self.view, self.service, slot, self.now, self.new_id)
                apply(self.view, plan.changes)
                self.place(plan.wanted)

    def update(self) -> set[int | str]:
        if self.progress is None:
            self.progress = updater.begin(self.view, self.service, self.now)
        if self.progress is None:
            return set()
        touched = range(1, self.replicas + 1)
        done = updater.step(self.view, self.service, self.progress, touched, self.now, self.new_id)
        apply(self.view, done.changes)
        self.place(done.wanted)
        for change in done.changes:
            if isinstance(change, PutService):
                progress = None if done.done else self.progress
                self.write(change.service)
                self.progress = progress
        return set(done.started)

    def down(self) -> int:
        up = {t.slot for t in self.view.tasks.values() if self.runs(t) and t.desired_state <= RUNNING}
        return self.replicas - len(up)

    def runs(self, task: Task) -> bool:
        status = self.view.status_of(task)
        return status is not None and status.state == RUNNING

    @property
    def state(self) -> str:
        return self.service.update.state if self.service.update else ""


CONFIGS = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 4),
    delay=st.sampled_from((0, 2_000_000_000)),
    monitor=st.just(3_000_000_000),
    order=st.sampled_from(("stop-first", "start-first")),
    failure_action=st.sampled_from(("continue", "pause", "rollback")),
)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 1 << 30), replicas=st.integers(1, 8), config=CONFIGS)
def test_an_update_ends_and_takes_no_more_slots_down_than_it_may(
    seed: int, replicas: int, config: UpdateConfig
) -> None:
    rolling = Rolling(seed, replicas, config)
    for _ in range(replicas * 15 + 20):
        rolling.step()
        most = config.parallelism or replicas
        assert rolling.down() <= (0 if config.order == "start-first" else most)
        if rolling.state == "completed":
            break
    assert rolling.state == "completed"
    running = [t for t in rolling.view.tasks.values() if rolling.runs(t) and t.desired_state <= RUNNING]
    versions = {t.spec_version for t in running}
    assert versions == {rolling.service.template.version}


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    replicas=st.integers(1, 6),
    config=CONFIGS,
    fail_rate=st.sampled_from((0.2, 1.0)),
)
def test_an_update_that_fails_ends_too_and_each_slot_has_one_live_task(
    seed: int, replicas: int, config: UpdateConfig, fail_rate: float
) -> None:
    rolling = Rolling(seed, replicas, config)
    for n in range(replicas * 30 + 60):
        rolling.step(fail_rate if n < replicas * 15 else 0.0)
    wanted = {"continue": {"completed"}, "pause": {"completed", "paused"}}
    rolled_back = {"completed", "rollback_completed", "rollback_paused"}
    assert rolling.state in wanted.get(config.failure_action, rolled_back)
    if rolling.state.endswith("paused"):
        return
    live = [t for t in rolling.view.tasks.values() if t.result is None and t.desired_state <= RUNNING]
    assert sorted(t.slot for t in live) == list(range(1, replicas + 1))
    assert {t.spec_version for t in live} == {rolling.service.template.version}


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    replicas=st.integers(1, 4),
    configs=st.lists(CONFIGS, min_size=2, max_size=2),
    steps=st.lists(st.integers(0, 4), min_size=2, max_size=3),
)
def test_a_rollback_of_what_overtook_other_updates_leaves_one_task_in_each_slot(
    seed: int, replicas: int, configs: list[UpdateConfig], steps: list[int]
) -> None:
    """Tasks of several versions may be beside each other then, and the one that is right need not be the
    newest. Who leads changes often."""
    config, back = configs
    rolling = Rolling(seed, replicas, replace(config, failure_action="rollback", order="start-first"))
    rolling.write(replace(rolling.service, spec=replace(rolling.service.spec, rollback_config=back)))
    for count in steps:
        for _ in range(count):
            rolling.step()
        rolling.order()
    bad = rolling.service.template.version
    for _ in range(replicas * 100 + 100):
        rolling.step(bad=bad)
        if rolling.state not in ("", *updater.UNDER_WAY):
            break
    assert rolling.state == "rollback_completed"
    live = [t for t in rolling.view.tasks.values() if t.result is None and t.desired_state <= RUNNING]
    assert sorted(t.slot for t in live) == list(range(1, replicas + 1))
    assert {t.spec_version for t in live} == {rolling.service.template.version}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), replicas=st.integers(2, 6), config=CONFIGS, scale=st.integers(1, 6))
def test_a_new_order_in_the_middle_of_an_update_wins(
    seed: int, replicas: int, config: UpdateConfig, scale: int
) -> None:
    rolling = Rolling(seed, replicas, config)
    for _ in range(scale):
        rolling.step()
    rolling.order()
    spec = replace(rolling.service.spec, mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)))
    rolling.write(replace(rolling.service, spec=spec))
    for _ in range(replicas * 20 + 30):
        rolling.step()
    assert rolling.state == "completed"
    live = [t for t in rolling.view.tasks.values() if rolling.runs(t) and t.desired_state <= RUNNING]
    assert {t.spec_version for t in live} == {3}


def test_a_change_of_placement_that_a_node_satisfies_leaves_its_tasks_alone() -> None:
    rolling = Rolling(1, 2, UpdateConfig(parallelism=1))
    service = rolling.service
    fits = replace(service.spec.task_template, placement=Placement(constraints=["node.hostname==host-a"]))
    spec = replace(service.spec, task_template=fits)
    rolling.write(
        replace(
            service,
            spec=spec,
            update=None,
            templates=with_template(
                service.templates[:1], replace(spec, task_template=replace(fits, force_update=0))
            ),
        )
    )
    assert updater.begin(rolling.view, rolling.service, NOW) is None
    unfit = replace(fits, force_update=0, placement=Placement(constraints=["node.hostname==other"]))
    spec = replace(spec, task_template=unfit)
    rolling.write(
        replace(rolling.service, spec=spec, templates=with_template(rolling.service.templates, spec))
    )
    assert updater.begin(rolling.view, rolling.service, NOW) is not None


def test_what_ended_for_good_is_started_by_an_update_and_by_a_rollback() -> None:
    view = View()
    add_node(view, "a")
    service = add_service(view, policy=RestartPolicy(condition="none"))
    add_task(view, "t", "a", observed=FAILED, desired=SHUTDOWN, at=1.0)
    assert updater.begin(view, service, NOW) is None
    back = UpdateStatus(state="rollback_started", started_at=NOW)
    rolling = replace(service, update=back, version=1)
    view.put_service(rolling)
    progress = updater.begin(view, rolling, NOW)
    assert progress is not None
    (wanted,) = updater.step(view, rolling, progress, (), NOW, new_ids()).wanted
    assert wanted.desired_state == READY
