"""The whole cluster under virtual time and seeded faults. `python -m skep.sim --seed N` replays one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence

import pytest
from msgspec.structs import replace

from skep.agent.worker import Worker
from skep.manager.certificates import Certificates
from skep.manager.confirmed_commit import commit_changed, commit_confirmed
from skep.manager.dispatcher.tasks import TaskDispatcher
from skep.manager.membership import MembershipKeeper
from skep.manager.orchestrator import slot, updater
from skep.manager.orchestrator.updater import UpdateStage
from skep.model.service import Service
from skep.model.task import Task
from skep.sim.cluster import run
from skep.sim.etcd_line import EtcdLine
from skep.sim.loop import Stuck, VirtualLoop
from skep.sim.options import Options
from skep.sim.violation import Violation
from skep.store.interfaces import Fence, Put, Store, Txn
from skep.store.view import SlotKey, View

# Seeds that once failed, and what they found. Their runs are others since the simulation runs the product's own
# manager and node; each has a unit test where it could be shown alone.
FOUND = {
    1012: "a task that was to start first and found no node was forgotten, and its update begun again and again",
    1027: "a new leader began again with what was to start first and had failed, as the old task still ran",
    1047: "a new leader did not count what the one before had ended and not yet followed: too many at once",
    1065: "a service that was scaled while it was updated was updated by twice as many at once",
    1090: "a task that was lost after a rollback was taken for one that the rollback had still to start",
    1097: "a rollback was completed with both versions in a slot, as the one to stay had not run yet",
    1112: "a new leader took what was to be started on nodes it had not heard of for done",
    91043: "an update that starts first gave what a task had held that had failed, and left the task as it was",
    93470: "a job did the same",
    93682: "what was to start first went with its node: the update was completed without it, and began anew",
    92093: "a manager that had lost its disk did not ask those who had become managers while its session was broken",
    92154: "after a rollback, the next update got the number of the one that had failed, which nodes still knew",
    100529: "what an update that starts first had left beside stayed after a rollback that stops first",
    100708: "a task that had found no node counted as made before the update: a new leader began with it again",
    100849: "what was to start first was stopped with its node, and never started again: the old version stayed",
    122094: "a task that had waited for a node came beside an old one that was to be stopped first, and failed",
    123521: "a rollback put a service on a network that had been removed",
    1287: "who was in doubt and then lost the lead said that nothing was done, and it was",
    501290: "a manager that came back named those of before, and a node forgot whom else the leader had named",
}
# With somebody who follows logs: `test_following.py`.
# In runs that are others by now: a leader that had stood still took all nodes for down; who added a node to a
# leader that lost the lead waited for ever; a manager that was demoted before its first vote waited for the vote
# for ever; a removal that counted on a manager which had died half a second before took the quorum with it; a
# look at the members that ended after a change of them had a manager let go of its copy of the store; the last
# manager that was to stay could be demoted; a new leader that soon died had told nodes of itself only, and they
# tried nobody else for ever; what a removed node's tasks hold was counted below zero; what a node said that asked
# to be a manager at once was written over with what it had been taken in with; a simulated command never ended
# where its agent had been restarted.
# Before the simulation had a model of etcd, whose runs are others, it found: a successor that had to wait for a
# node forgot to wait for its predecessor; a slot that a scale-down had emptied was filled again; agents waited
# longer between tries to find a new leader than a leader waits for them; a connection opened to a leader that
# had just lost the lead registered there for ever; a machine that lost power began a task again whose end was
# heard of but not yet written; an update never ended when the node of a slot under way was drained after a
# change of leader. Each has a test of its own where it could be shown alone.


pytestmark = pytest.mark.usefixtures("quiet")


CHUNK = 20  # seeds to a test: enough to keep the report short, few enough to name what failed
SEEDS = int(os.environ.get("SKEP_SIM_SEEDS", "120"))


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_fixed(seed: int) -> None:
    run(Options(seed=seed))


@pytest.mark.parametrize("first", range(1000, 1000 + SEEDS, CHUNK))
def test_what_must_hold_holds(first: int) -> None:
    run_all(range(first, first + CHUNK))


@pytest.mark.parametrize("seed", range(2000, 2005))
def test_many_incidents_on_few_machines(seed: int) -> None:
    run(Options(seed=seed, hosts=5, incidents=50))


@pytest.mark.parametrize("first", range(5000, 5040, CHUNK))
def test_what_must_hold_holds_where_images_are_missing(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run(Options(seed=seed, images_missing=True))


def test_a_seed_replays_exactly() -> None:
    assert run(Options(seed=7)).digest == run(Options(seed=7)).digest


def test_two_seeds_differ() -> None:
    assert run(Options(seed=7)).digest != run(Options(seed=8)).digest


def run_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        try:
            run(Options(seed=seed))
        except (Violation, Stuck) as error:
            error.add_note(f"python -m skep.sim --seed {seed}")
            raise


def test_checkers_see_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that does not stop what it is no longer told to run is found out."""
    monkeypatch.setattr(Worker, "_reconcile", lambda self, message: None)
    with pytest.raises(Violation):
        run_all(range(1064, 1079))


def test_checkers_see_a_leader_that_gives_nodes_up_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.manager.dispatcher.presence.FIRST_BEATS", 0)
    monkeypatch.setattr("skep.manager.dispatcher.presence.LATE_BEATS", 0)
    with pytest.raises(Violation):
        run_all(range(1062, 1075))


def test_checkers_see_a_dispatcher_that_forgets_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskDispatcher, "publish_removing", lambda self, service_id, nodes: None)
    monkeypatch.setattr(TaskDispatcher, "publish", lambda self, changed: None)
    with pytest.raises(Violation):
        run(Options(seed=1000))


def test_a_simulation_that_cannot_go_on_says_so() -> None:
    async def waits_for_nothing() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="stuck"), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(waits_for_nothing())


def test_a_simulation_that_spins_says_so() -> None:
    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="rest"), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(spins())


# What the checkers of managers are for: products that are broken on purpose.


def test_checkers_see_two_leaders_that_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not look at fences."""
    apply = EtcdLine._apply
    monkeypatch.setattr(EtcdLine, "_apply", lambda self, txn: apply(self, replace(txn, fence=None)))
    with pytest.raises(Violation, match="wrote"):
        run_all(range(1001, 1020))


def test_checkers_see_a_write_without_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def careless(store: Store, txn: Txn) -> int:
        return await commit_confirmed(store, replace(txn, fence=None))

    monkeypatch.setattr("skep.manager.confirmed_commit.commit_confirmed", careless)
    with pytest.raises(Violation, match="without a fence"):
        run_all(range(1000, 1010))


def test_checkers_see_a_removal_that_costs_the_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither skep nor etcd asks whether those who are left can decide."""
    monkeypatch.setattr("skep.manager.quorum.keeps_quorum_without", lambda *asked: True)
    monkeypatch.setattr("skep.manager.control.nodes.keeps_quorum_without", lambda *asked: True)
    monkeypatch.setattr("skep.sim.etcd_line.check_may_change", lambda etcd, peer, member, act: None)
    with pytest.raises(Violation, match="long gone"):
        run_all(range(1000, 1020))


def test_checkers_see_a_member_that_comes_back_without_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    make_learner = MembershipKeeper._make_learner

    async def forgetful(self: MembershipKeeper, node_id: str) -> None:
        """The leader thinks that a member which asks may go on as the one it was."""
        if not self._view.is_member(node_id):
            await make_learner(self, node_id)

    monkeypatch.setattr(MembershipKeeper, "_make_learner", forgetful)
    with pytest.raises(Violation):
        run_all(range(1000, 1010))


def test_checkers_see_an_acknowledged_change_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that answers before it has written."""

    async def hasty(store: Store, fence: Fence, changed: Put, version: int, *also: tuple[Put, int]) -> int:
        writing = asyncio.ensure_future(commit_changed(store, fence, changed, version, *also))
        writing.add_done_callback(lambda done: done.exception())
        return 1 << 40

    monkeypatch.setattr("skep.manager.term.commit_changed", hasty)
    with pytest.raises(Violation, match="acknowledged"):
        run_all(range(1000, 1010))


# What the checkers of updates and secrets are for.


def test_checkers_see_an_update_of_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new leader that begins with as many slots as the one before had under way."""
    stage_of = updater._stage_of

    def forgetful(
        view: View, service: Service, key: SlotKey, tasks: Sequence[Task], now: float
    ) -> UpdateStage:
        stage = stage_of(view, service, key, tasks, now)
        return UpdateStage.NONE if stage is UpdateStage.UNDER_WAY else stage

    monkeypatch.setattr(updater, "_stage_of", forgetful)
    with pytest.raises(Violation, match=r"at once|its update is done"):
        run_all(range(1093, 1098))


def test_checkers_see_what_is_stopped_before_its_successor_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "_superseded", lambda view, current, now: hasty_superseded(current, now))
    with pytest.raises(Violation, match="stopped before another ran"):
        run_all(range(1025, 1040))


def hasty_superseded(current: list[Task], now: float) -> list[Task]:
    older = {task.id for task in [task for task in current if slot.is_live(task)][:-1]}
    return [slot.stopped(task, now) if task.id in older else task for task in current]


def test_checkers_see_a_paused_update_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = updater.begin

    def tireless(view: View, service: Service, now: float) -> updater.Progress | None:
        paused = service.update is not None and service.update.state == "paused"
        return begin(view, replace(service, update=None) if paused else service, now)

    monkeypatch.setattr(updater, "begin", tireless)
    with pytest.raises(Violation, match="from 'paused' to 'updating'"):
        run_all(range(1064, 1079))


def test_checkers_see_what_is_contained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A taker that raises ends one session only, which comes again: nobody would notice."""
    monkeypatch.setattr(Certificates, "began", lambda self, node_id, said: {}[node_id])
    with pytest.raises(Violation, match="failed over what a node said"):
        run(Options(seed=1000))


def test_checkers_see_a_secret_that_is_not_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.manager.dispatcher.tasks.withdrawn", lambda view, node_id, had: None)
    with pytest.raises(Violation, match="holds"):
        run_all(range(1010, 1020))


def test_checkers_see_a_secret_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.manager.dispatcher.tasks.given", lambda view, tasks, had: [])
    with pytest.raises(Violation, match="was not given"):
        run_all(range(1000, 1010))
