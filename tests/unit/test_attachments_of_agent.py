"""What the agent makes of a manager that gives no address."""

from __future__ import annotations

import asyncio
import random

import pytest

from skep.agent.attachments import Attachments, _error
from skep.agent.session import Session
from skep.rpc.messages import NotAttached
from skep.runtime import errors
from skep.runtime.errors import Deposed, SkepError, Unavailable

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SkepError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_a_manager_is_the_same_here(kind: type[SkepError]) -> None:
    found = _error(NotAttached(1, kind.__name__, "why"))
    assert type(found) is kind
    assert str(found) == ("this manager no longer leads the swarm" if kind is Deposed else "why")


@pytest.mark.parametrize(
    "kind", ["", "EngineError", "OfALaterManager", "annotations", "__doc__", "ValueError"]
)
def test_what_is_not_known_may_be_tried_again(kind: str) -> None:
    found = _error(NotAttached(1, kind, "why"))
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
    await asyncio.wait_for(leaving, 1)
