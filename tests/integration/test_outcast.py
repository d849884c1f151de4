"""Managers that were lost and come back after a survivor has forced a new cluster found no swarm of their own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from skep.api.interfaces import InitRequest
from skep.daemon.founding import first_txns, found_swarm
from skep.manager.candidate import Candidate
from skep.manager.events import EventHub
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.runtime.clock import SystemClock
from skep.runtime.ids import id_source
from skep.store import codec
from skep.store.election import BEAT_S, POLL_S, Campaign
from skep.store.interfaces import Member
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from tests.leads import win

HOST = ("127.0.0.1", 2377)
A_WHILE_S = 8 * POLL_S
LEADS_S = 20.0


@pytest.fixture
async def state() -> MemoryState:
    """The store of a swarm whose manager is `m`."""
    clock, new_id = SystemClock(), id_source(random.Random(7))
    made = MemoryState()
    membership, _, puts = found_swarm(InitRequest(), "mg0", HOST, HOST, clock.now(), new_id)
    for txn in first_txns(puts):
        await MemoryStore(made).commit(txn)
    made.members[membership.node_id] = Member(1, membership.node_id, False)
    return made


@contextlib.asynccontextmanager
async def running(state: MemoryState, refused_by: set[str]) -> AsyncIterator[Candidate]:
    clock, store = SystemClock(), MemoryStore(state)
    (node_id,) = (member.node_id for member in state.members.values())

    async def probe(node_id: str) -> bool:
        return True

    context = LeaderContext(
        clock,
        id_source(random.Random(8)),
        lambda: "secret",
        EventHub(clock, "h"),
        [],
        lambda *asked: b"",
        ManagerIdentity(node_id, MemoryMembers(store, state), probe, refused_by=refused_by),
    )
    candidate = Candidate(store, context)
    run = asyncio.ensure_future(candidate.run())
    try:
        yield candidate
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_whoever_is_refused_takes_no_lead_until_it_is_not(state: MemoryState) -> None:
    refused_by = {"survivor"}
    async with running(state, refused_by) as candidate:
        await asyncio.sleep(A_WHILE_S)
        assert candidate.leader is None
        assert "for survivor it is no manager of the swarm" in candidate.trouble
        refused_by.clear()
        await asyncio.wait_for(candidate.leads.wait(), LEADS_S)
        assert not candidate.trouble


async def test_an_old_leaders_key_is_nobody_who_leads(state: MemoryState) -> None:
    gone = await win(Campaign(MemoryStore(state), codec.LEADER_KEY, "gone"))
    gone._keeper.cancel()
    async with running(state, {"survivor"}) as candidate:
        await asyncio.sleep(LEADS_S / 2)
        assert candidate.leader is None


async def test_whoever_has_followed_leads_in_its_turn(state: MemoryState) -> None:
    """The one who refuses may be the one in error: the swarm goes on without it."""
    first = await win(Campaign(MemoryStore(state), codec.LEADER_KEY, "first"))
    async with running(state, {"survivor"}) as candidate:
        await asyncio.sleep(2 * BEAT_S + A_WHILE_S)
        assert candidate.leader is None
        await first.resign()
        await asyncio.wait_for(candidate.leads.wait(), LEADS_S)
