"""How long a new leader waits for the nodes."""

from __future__ import annotations

import asyncio

import pytest

from skep.manager.dispatcher import presence as module
from skep.manager.dispatcher.sessions import Sessions
from skep.manager.dispatcher.states import NodeStates
from skep.model.node import DOWN, READY
from skep.rpc import messages
from skep.rpc.interfaces import Identity
from skep.store.view import View
from tests.terms import term_for
from tests.unit.builders import add_node

BEAT_S = 0.2


class Line:
    """A node's connection."""

    remote_host = local_host = ""

    def __init__(self, node_id: str) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")

    def send(self, frame: bytes) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_S", BEAT_S / 10)
    monkeypatch.setattr(Sessions, "heartbeat_s", BEAT_S)


def led(nodes: int) -> tuple[Sessions, View]:
    view = View()
    for n in range(nodes):
        add_node(view, f"n{n}")
        view.node_status.pop(f"n{n}", None)
    states = NodeStates(term_for(view))
    made = Sessions(view, [], states)
    made.on(messages.Register, lambda node_id, said: states.came(node_id))
    made.start()
    return made, view


async def come(sessions: Sessions, view: View, n: int) -> None:
    node = view.nodes[f"n{n}"]
    sessions.open(Line(node.id)).frame(messages.encode(messages.Register(node.description)))


async def test_a_node_that_never_comes_is_down_after_its_grace(short: None) -> None:
    sessions, view = led(2)
    await come(sessions, view, 0)
    await asyncio.sleep((module.FIRST_BEATS + 1) * BEAT_S)
    assert view.node_state("n1").state == DOWN
    sessions.stop()


async def test_nobody_is_given_up_while_nodes_still_come_but_not_for_ever(short: None) -> None:
    sessions, view = led(60)
    began = asyncio.get_running_loop().time()
    for n in range(30):
        await come(sessions, view, n)
        if asyncio.get_running_loop().time() - began < (module.LATE_BEATS - 2) * BEAT_S:
            assert view.node_state("n59").state != DOWN
        await asyncio.sleep(BEAT_S * 0.5)
    assert asyncio.get_running_loop().time() - began > (module.LATE_BEATS + 1) * BEAT_S
    assert view.node_state("n59").state == DOWN
    assert view.node_state("n0").state in (READY, DOWN)
    sessions.stop()
