"""Managers that lock themselves, move, are suspended, or expire, in whole simulated clusters: the product's own
manager and node run there, on files and certificates of their own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from skep.daemon.keys import KeyFiles
from skep.daemon.manager_links import ManagerLinks
from skep.manager.leader import Leader
from skep.sim.cluster import run
from skep.sim.loop import Stuck
from skep.sim.options import Options
from skep.sim.violation import Violation

pytestmark = pytest.mark.usefixtures("quiet")

WHAT = ("locks", "moves", "suspends", "expires")
SEEDS = 5  # to a test
FOUND = {
    830087: (
        "locks",
        "an update that starts first began again for ever: the history kept nothing of what had failed",
    ),
    830042: (
        "locks",
        "the checkers: what followed a task that was no more in the history counted as an update's step",
    ),
}


def play(what: str, seeds: Iterable[int]) -> None:
    for seed in seeds:
        try:
            run(Options(seed=seed, **{what: True}))  # type: ignore[arg-type]
        except (Violation, Stuck) as error:
            error.add_note(f"python -m skep.sim --seed {seed} --{what}")
            raise


@pytest.mark.parametrize("first", range(6000, 6010, SEEDS))
@pytest.mark.parametrize("what", WHAT)
def test_all_ends_well(what: str, first: int) -> None:
    play(what, range(first, first + SEEDS))


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_fixed(seed: int) -> None:
    play(FOUND[seed][0], [seed])


def test_all_of_it_together() -> None:
    """But for expiry: who is locked, or elsewhere, for longer than certificates last is none any more."""
    for seed in range(6100, 6104):
        run(Options(seed=seed, locks=True, moves=True, suspends=True, seals=True))


# The simulation finds what it is for.


def test_managers_that_do_not_seal_their_keys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyFiles, "_apply", lambda self, wanted: None)  # the files stay as they are
    with pytest.raises(Violation, match="the keys of"):
        play("locks", range(6000, 6003))


def test_managers_that_do_not_learn_where_others_are_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ManagerLinks, "learn", lambda self, node_id, address: None)
    with pytest.raises(Violation):
        play("moves", range(6000, 6005))


def test_a_leader_that_is_always_sure_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leader, "is_sure", True)
    with pytest.raises(Violation, match="all sure that they lead"):
        play("suspends", range(6000, 6005))


def test_certificates_that_are_not_renewed_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.agent.renewal.renew_at", lambda begin, end, chance: float("inf"))
    with pytest.raises(Violation):
        play("expires", range(6000, 6003))
