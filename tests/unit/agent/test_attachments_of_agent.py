"""What the agent makes of a manager that gives no address."""

from __future__ import annotations

import asyncio
import random

import pytest

from skep.agent import attachments
from skep.agent.attachments import Attachments
from skep.agent.session import Session
from skep.model.task import TaskAddress
from skep.rpc.messages import Attached, NotAttached, TaskNetwork
from skep.runtime import errors
from skep.runtime.errors import Deposed, SkepError, Unavailable

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SkepError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_a_manager_is_the_same_here(kind: type[SkepError]) -> None:
    found = NotAttached(1, kind.__name__, "why").as_error()
    assert type(found) is kind
    assert str(found) == ("this manager no longer leads the swarm" if kind is Deposed else "why")


@pytest.mark.parametrize(
    "kind", ["", "EngineError", "OfALaterManager", "annotations", "__doc__", "ValueError"]
)
def test_what_is_not_known_may_be_tried_again(kind: str) -> None:
    found = NotAttached(1, kind, "why").as_error()
    assert (type(found), str(found)) == (Unavailable, "why")


class NoContainers:
    """An engine with no single container on any network."""

    async def in_use(self) -> list[object]:
        return []

    def hold(self, network_ids: frozenset[str]) -> None:
        pass


async def test_nobody_is_attached_by_a_node_that_leaves_and_who_is_being_comes_first() -> None:
    async def nowhere(*_: object) -> None:
        raise Unavailable("no manager")

    session = Session(connect=nowhere, managers=[], rng=random.Random(1), on_managers=print)  # type: ignore[arg-type]
    made = Attachments("n1", session, NoContainers())  # type: ignore[arg-type]
    async with made.change():
        leaving = asyncio.ensure_future(made.give_up())
        await asyncio.sleep(0.01)
        assert not leaving.done()
        with pytest.raises(Unavailable, match="this node leaves its swarm"):
            await made.attach("n", "")
    assert await asyncio.wait_for(leaving, 1) == []


class SlowContainers(NoContainers):
    """An engine whose bridge is made when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def prepare(self, network: object, address: object) -> str:
        await self.go.wait()
        return "bridge"


async def test_who_is_being_attached_when_the_node_leaves_is_attached_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor is that forgotten where it takes longer than anybody waits."""
    monkeypatch.setattr(attachments, "GIVE_UP_S", 0.05)
    session = Session(connect=print, managers=[], rng=random.Random(1), on_managers=print)  # type: ignore[arg-type]
    engine = SlowContainers()
    made = Attachments("n1", session, engine)  # type: ignore[arg-type]

    async def given(network: str, address: str) -> Attached:
        return Attached(1, TaskNetwork("n", "n", "overlay"), TaskAddress("n", "10.0.0.5/24", "10.0.0.1/24"))

    monkeypatch.setattr(made, "_ask", given)
    monkeypatch.setattr(session, "manager_knows", lambda kind: True)

    async def attach() -> None:
        async with made.change():
            await made.attach("n", "")

    attaching = asyncio.ensure_future(attach())
    await asyncio.sleep(0.01)
    (late,) = await made.give_up()
    assert "still being put on a network" in late
    engine.go.set()
    with pytest.raises(Unavailable, match="this node leaves its swarm"):
        await attaching
    assert await made.give_up() == []
