"""A scale-up of several slices while no node can take a task, as just after a change of leader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

import pytest

from skep.manager import reconcile
from skep.manager.commits import Committer
from skep.manager.reconcile import Reconciler
from skep.model.change import Change
from skep.model.node import READY, NodeStatus
from skep.runtime.clock import LoopClock
from skep.sim.loop import EPOCH_S
from skep.store.view import View
from tests.unit.builders import add_node, add_service, apply, new_ids


class AtOnce:
    """Commits without a store."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        apply(self._view, tuple(changes))
        return []


async def until(count: int, of: dict[str, object]) -> None:
    async with asyncio.timeout(10):
        while len(of) < count:
            await asyncio.sleep(0.01)


async def test_every_replica_is_pending_and_placed_when_a_node_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "SLICE", 40)
    view = View()
    add_node(view, "n", state="unknown")
    add_service(view, replicas=1000)
    made = Reconciler(view, cast("Committer", AtOnce(view)), LoopClock(EPOCH_S), new_ids())
    made.enqueue_everything()
    work = asyncio.ensure_future(made.run())
    try:
        await until(1000, cast("dict[str, object]", view.pending_ids))
        view.put_node_status("n", NodeStatus(READY))
        made.enqueue_node("n")
        await until(1000, cast("dict[str, object]", view.tasks))
        assert not view.pending_ids
    finally:
        work.cancel()
