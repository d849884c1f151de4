"""`docker info` says where the leader holds nodes that it does not hear of, and why a new data key waits."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from skep.api.routes.system import WARNINGS, SystemRoutes
from skep.runtime.errors import NotManager
from skep.store.view import View

HELD = "nodes that are not heard of are not given up: this manager hears nothing of 8 of 12 nodes"
WAITS = "the swarm's data key is to be changed, which waits: x"


class Node:
    """What `/info` asks of the daemon; `leads` or another manager does."""

    def __init__(self, leads: bool) -> None:
        self._leads = leads

    def local(self) -> Any:
        return SimpleNamespace(
            node_id="n",
            addr="10.0.0.1",
            state="active",
            is_manager=True,
            error="",
            managers=[],
            safe_mode=False,
        )

    def leader_socket(self) -> str | None:
        return None if self._leads else "/run/leader"

    async def leader_says(self) -> dict[str, Any]:
        return {"Nodes": 12, "Managers": 3, WARNINGS: [HELD, WAITS]}

    def manager(self) -> Any:
        if not self._leads:
            raise NotManager("it does not lead")
        why = "this manager hears nothing of 8 of 12 nodes"
        key = SimpleNamespace(why_late="x")
        return SimpleNamespace(view=View(), why_nodes_are_held=why, safe_mode=False, data_key=key)


class Engine:
    """The local engine's own answer, with a warning of its own."""

    socket_path = "/run/docker.sock"

    async def latest(self, path: str) -> tuple[dict[str, Any], str]:
        return {"Warnings": ["WARNING: No swap limit support"]}, ""


@pytest.mark.parametrize("leads", [True, False])
def test_what_the_leader_waits_for_is_told_on_every_manager(leads: bool) -> None:
    routes: Any = SystemRoutes(Node(leads), Engine(), "h")  # type: ignore[arg-type]
    answer = asyncio.run(routes.info(None))
    said = json.loads(answer.body)
    assert said["Warnings"] == ["WARNING: No swap limit support", f"WARNING: {HELD}", f"WARNING: {WAITS}"]
    assert not {"Warnings", WARNINGS} & said["Swarm"].keys()
