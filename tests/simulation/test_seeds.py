"""The whole cluster under virtual time and seeded faults. `python -m skep.sim --seed N` replays one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import pytest
import structlog

from skep.agent.worker import Worker
from skep.manager.dispatcher.dispatcher import Dispatcher
from skep.sim.checkers import Violation
from skep.sim.cluster import Options, run
from skep.sim.loop import Stuck, VirtualLoop

FOUND = {  # seeds that once failed, and what they found
    1: "a successor that had to wait for a node forgot to wait for its predecessor",
    3: "a slot that a scale-down had emptied was filled again",
    5: "agents waited longer between tries to find a new leader than a leader waits for them",
    44: "a connection opened to a leader that had just lost the lead registered there for ever",
    45: "a machine that lost power began a task again whose end was heard of but not yet written",
    98: "an update never ended when the node of a slot under way was drained after a change of leader",
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.mark.parametrize("seed", [*FOUND, *range(1000, 1030)])
def test_what_must_hold_holds(seed: int) -> None:
    run(Options(seed=seed))


@pytest.mark.parametrize("seed", range(2000, 2005))
def test_many_incidents_on_few_machines(seed: int) -> None:
    run(Options(seed=seed, workers=4, incidents=60, period_s=120))


def test_a_seed_replays_exactly() -> None:
    assert run(Options(seed=7)).digest == run(Options(seed=7)).digest


def test_two_seeds_differ() -> None:
    assert run(Options(seed=7)).digest != run(Options(seed=8)).digest


def run_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run(Options(seed=seed))


def test_checkers_see_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that does not stop what it is no longer told to run is found out."""
    monkeypatch.setattr(Worker, "_reconcile", lambda self, message: None)
    with pytest.raises(Violation):
        run_all(range(1000, 1010))


def test_checkers_see_a_leader_that_gives_nodes_up_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.manager.dispatcher.dispatcher.FIRST_BEATS", 0)
    with pytest.raises(Violation):
        run_all(range(1000, 1010))


def test_checkers_see_a_dispatcher_that_forgets_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "publish_removing", lambda self, service_id, nodes: None)
    monkeypatch.setattr(Dispatcher, "publish", lambda self, changed: None)
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
