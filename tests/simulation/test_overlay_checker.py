"""What the checker of overlay networks allows, and what it does not, of one node that kept a service."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skep.agent.executor.interfaces import Action
from skep.agent.session import Session
from skep.model.overlay import OverlayEndpoint, OverlayNetwork, OverlayService
from skep.model.states import SHUTDOWN
from skep.model.task import Task, TaskAddress
from skep.rpc.messages import Lead, OverlaysHeld, OverlayTold, Registered
from skep.sim.overlays import Overlays
from skep.sim.told import ToldOverlays
from skep.sim.violation import Violation
from skep.sim.world import World

NET = OverlayNetwork("net", "10.1.0.0/16", 4098, 4789, "back", is_large=True)
OWN = OverlayEndpoint("10.1.0.1", "n1", "own.1.a")
WEB = OverlayService("w", "web", endpoints=(OverlayEndpoint("10.1.0.2", "n2", "web.1.b"),))
ENDS = Task("b", "w", "n2", 1, 1, SHUTDOWN, 0, 0, addresses=(TaskAddress("net", "10.1.0.2/16", ""),))
BEFORE, NOW = Lead("sim", 1), Lead("sim", 2)


class Line:
    """A session that delivers what it is given, and answers nothing."""

    def __init__(self) -> None:
        self._heard: dict[type, Any] = {}

    def on(self, kind: type, hears: Any, feature: str = "") -> None:
        self._heard[kind] = hears

    async def ask(self, asked: object, answer: object) -> object:
        return await asyncio.get_running_loop().create_future()

    def deliver(self, *said: object) -> None:
        for each in said:
            self._heard[type(each)](each)


class Watched:
    """One node that was told of the service by a leader before, and a task of that which is to stop."""

    def __init__(self) -> None:
        self.line, self.is_sending = Line(), False
        self._world = World(*(random.Random(n) for n in range(3)))
        self._world.network.is_sending = lambda host: self.is_sending  # type: ignore[method-assign]
        self._told = ToldOverlays("n1", cast("Session", self.line))
        well = {"is_up": True, "has_session": True, "has_left": False, "place": SimpleNamespace(frozen=False)}
        one = SimpleNamespace(name="h1", ip="h1", told=self._told, **well)
        self._world.hosts["n1"] = cast("Any", one)
        self._checker = Overlays(self._world, {})
        self.begin(BEFORE)
        self.line.deliver(OverlayTold(NET, services=[WEB]))

    def begin(self, lead: Lead) -> None:
        """A session begins: the node hears of its own, and keeps what it had."""
        self.line.deliver(Registered(5.0, []))
        self.line.deliver(OverlayTold(NET, True, endpoints=[OWN], lead=lead), OverlaysHeld(["net"], lead))

    def stop(self) -> None:
        """Errors: `Violation`."""
        lead = SimpleNamespace(name="h2", told=SimpleNamespace(lead=NOW))
        self._checker.asked(cast("Any", lead), Action.STOP, cast("Any", SimpleNamespace(task=ENDS)))
        self._checker.check()

    def close(self) -> None:
        self._told.close()


def watch(is_sending: bool, is_told_again: bool) -> None:
    async def scenario() -> None:
        watched = Watched()
        watched.begin(NOW)
        watched.is_sending = is_sending
        if is_told_again:
            watched.line.deliver(OverlayTold(NET, services=[WEB], lead=NOW))
        try:
            watched.stop()
        finally:
            watched.close()

    asyncio.run(scenario())


def test_a_leader_may_not_know_what_a_node_kept_while_the_question_is_on_its_way() -> None:
    """Found by seeds 890010 and 890016 with large overlays: a question was late, as any packet may be."""
    watch(is_sending=True, is_told_again=False)


@pytest.mark.parametrize(("is_sending", "is_told_again"), [(False, False), (True, True), (False, True)])
def test_it_has_to_know_where_the_question_has_come_or_it_said_so_itself(
    is_sending: bool, is_told_again: bool
) -> None:
    with pytest.raises(Violation, match="was told to stop"):
        watch(is_sending, is_told_again)
