"""Agents that are told who is on their overlay networks, and what the checkers see of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from skep.manager.dispatcher import overlay_views
from skep.manager.dispatcher.sessions import Sessions
from skep.manager.reactions import Reactions
from skep.manager.signals import TasksCommitted
from skep.model.task import Task
from skep.rpc import messages
from skep.rpc.messages import OverlaysHeld, OverlayTold
from skep.sim.cluster import run
from skep.sim.loop import Stuck
from skep.sim.options import Options
from skep.sim.violation import Violation
from skep.store.view import View

pytestmark = pytest.mark.usefixtures("quiet")

CHUNK = 10
SEEDS = int(os.environ.get("SKEP_SIM_SEEDS", "120")) // 3


def of(seed: int) -> Options:
    """Half of them have many troubles, the others many changes."""
    options = Options(seed=seed, overlays=True)
    return options if seed % 2 else replace(options, incidents=6, steps=60)


def run_all(seeds: Iterable[int], is_large: bool = False) -> None:
    for seed in seeds:
        options = replace(of(seed), large_overlays=is_large)
        try:
            run(options)
        except (Violation, Stuck) as error:
            error.add_note(repr(options))
            raise


@pytest.mark.parametrize("first", range(7000, 7000 + SEEDS, CHUNK))
def test_all_on_a_network_know_the_same_and_nobody_leads_to_who_is_to_stop(first: int) -> None:
    run_all(range(first, first + CHUNK))


@pytest.mark.parametrize("first", range(7100, 7100 + SEEDS // 2, CHUNK))
def test_so_it_is_on_large_networks_of_which_each_knows_a_part(first: int) -> None:
    """7124: what a node kept from before a change of leader had an address that another service had by then.
    7115: the same, where it was by then the service's own address."""
    run_all(range(first, first + CHUNK), is_large=True)


FOUND = {
    880062: "the checkers: a manager that left was to be demoted by what it had read; two losses hurt nobody",
}
FOUND_LARGE = {
    890016: "the checkers: a leader was to know what a node kept before its question had come",
}


@pytest.mark.parametrize("seed", [*FOUND, *FOUND_LARGE])
def test_what_was_found_stays_fixed(seed: int) -> None:
    run_all([seed], is_large=seed in FOUND_LARGE)


def test_checkers_see_who_leads_to_a_task_that_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    right = overlay_views.takes_connections

    def for_ever(view: View, task: Task, deaf: Collection[str]) -> bool | None:
        return None if right(view, task, deaf) is None else True

    monkeypatch.setattr(overlay_views, "takes_connections", for_ever)
    with pytest.raises(Violation, match="was told to stop"):
        run_all(range(7000, 7010))


def test_checkers_see_a_task_that_is_assigned_before_its_network_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(self: Reactions, said: TasksCommitted) -> None:
        self._tasks.publish(said.changed)
        self._overlays.publish(said.changed)

    monkeypatch.setattr(Reactions, "_committed", late)
    with pytest.raises(Violation, match="knows nothing of"):
        run_all(range(7000, 7010))


def _but(frame: bytes, change: Callable[[Any], Any]) -> bytes:
    said = messages.decode_from_manager(frame)
    return messages.encode(change(said)) if isinstance(said, OverlayTold) else frame


def test_checkers_see_two_with_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Sessions.send_frame

    def twice(self: Sessions, node_id: str, frame: bytes) -> None:
        def change(said: OverlayTold) -> OverlayTold:
            return replace(
                said, services=[*said.services, *(replace(s, id=s.id + "x") for s in said.services)]
            )

        right(self, node_id, _but(frame, change))

    monkeypatch.setattr(Sessions, "send_frame", twice)
    with pytest.raises(Violation, match="have one address"):
        run_all(range(7000, 7010))


@pytest.mark.parametrize("what", ["nodes", "gone_nodes", "services", "gone_services"])
def test_checkers_see_who_was_not_told(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    right = Sessions.send_frame

    def less(self: Sessions, node_id: str, frame: bytes) -> None:
        right(self, node_id, _but(frame, lambda said: replace(said, **{what: getattr(said, what)[1:]})))

    monkeypatch.setattr("skep.sim.cluster.CONVERGE_S", 30.0)
    monkeypatch.setattr(Sessions, "send_frame", less)
    with pytest.raises(Violation, match=r"not within|was told to stop|have one address"):
        run_all(range(7000, 7010))


def test_checkers_see_who_has_networks_that_nobody_of_its_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Sessions.send

    def less(self: Sessions, node_id: str, message: messages.FromManager) -> None:
        if not isinstance(message, OverlaysHeld) or message.network_ids:
            right(self, node_id, message)

    monkeypatch.setattr("skep.sim.cluster.CONVERGE_S", 30.0)
    monkeypatch.setattr(Sessions, "send", less)
    with pytest.raises(Violation, match=r"knows of networks|was told to stop"):
        run_all(range(7000, 7010))
