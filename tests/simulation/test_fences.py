"""What a leader must not do any more that was suspended while another came to lead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from skep.manager.confirmed_commit import confirm_lead
from skep.manager.membership import LOOK_S, MembershipKeeper
from skep.manager.upgrade import incarnation
from skep.model.node import NodeSpec
from skep.rpc.messages import NotNow
from skep.runtime.errors import Deposed
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.interfaces import Fence, Member, Put
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from skep.store.view import View
from tests.simulation.test_leader_parts import new_node
from tests.terms import term_for

pytestmark = pytest.mark.usefixtures("quiet")


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def led_by(state: MemoryState, node_id: str) -> Fence:
    """Another lead begins."""
    state.entries.pop(codec.LEADER_KEY, None)
    state.write([Put(codec.LEADER_KEY, node_id.encode())])
    return Fence(codec.LEADER_KEY, state.entries[codec.LEADER_KEY].created)


@pytest.mark.parametrize("change", ["remove", "promote", "add"])
def test_members_are_not_changed_by_who_leads_no_more(change: str) -> None:
    """It had looked who they are when it was suspended, and goes on from there."""

    async def scenario() -> None:
        view, state = View(), MemoryState()
        store = MemoryStore(state)
        fence = led_by(state, "a")
        for n, node_id in enumerate("abc"):
            view.put_node(replace(new_node(node_id), spec=NodeSpec(role="manager")))
            state.members[node_id] = Member(n, node_id, is_learner=change == "promote" and node_id == "c")
        view.put_node(replace(new_node("d"), spec=NodeSpec(role="manager")))
        if change == "remove":
            view.put_node(new_node("c"))
        before = dict(state.members)

        async def probe(node_id: str) -> bool:
            led_by(state, "b")
            return True

        async def confirm() -> None:
            await confirm_lead(store, fence)

        members = MemoryMembers(store, state)
        membership = MembershipKeeper(term_for(view), members, "a", probe, lambda node_id: (), confirm)
        if change == "add":
            assert isinstance(await membership.add("d"), NotNow)
        else:
            with pytest.raises(Deposed):
                async with asyncio.timeout(3 * LOOK_S):
                    await membership.run()
        assert state.members == before

    run(scenario)


def test_a_store_of_an_earlier_skep_gets_its_incarnation_from_who_leads() -> None:
    async def scenario() -> None:
        state = MemoryState()
        store = MemoryStore(state)
        old = led_by(state, "a")
        new = led_by(state, "b")
        with pytest.raises(Deposed):
            await incarnation(store, old, "of a")
        assert await incarnation(store, new, "of b") == "of b"
        assert state.entries[codec.INCARNATION_KEY].value == b"of b"

    run(scenario)
