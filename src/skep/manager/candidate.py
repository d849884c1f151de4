"""A manager's bid for the lead: campaign, lead, and campaign again, for as long as the manager lives."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from msgspec.structs import replace

from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.resealing import HeldKeys, LacksKey, go_by_record, settle
from skep.manager.upgrade import upgrade
from skep.model.aside import reason_of
from skep.runtime.errors import SkepError
from skep.runtime.metrics import Metric
from skep.store import codec
from skep.store.election import Campaign, Leadership
from skep.store.interfaces import Store

log = structlog.get_logger()

ASIDE_S = 5.0  # others look four times a second: a lead that is free for longer is wanted by nobody else
RETRY_S = 0.5  # before another try to lead after a failure


class Candidate:
    """`leader` is set, and `leads` with it, while this manager leads."""

    def __init__(self, store: Store, context: LeaderContext) -> None:
        self._store = store
        self._context = context
        self._team = context.identity
        self._campaign = Campaign(store, codec.LEADER_KEY, context.identity.node_id)
        self._stands_at = 0.0  # loop time: a manager that handed the lead over lets others go first
        self.leader: Leader | None = None
        self.leads = asyncio.Event()
        self._trouble = ""
        self._outcast = ""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._campaign.metrics

    @property
    def trouble(self) -> str:
        """Returns why this manager did not lead when it last could have; an empty text where nothing was."""
        return self._outcast or self._trouble

    @property
    def leader_id(self) -> str:
        """Who leads, as far as this manager knows; an empty text where nobody does."""
        return self._campaign.holder

    async def run(self) -> None:
        """Runs until cancelled."""
        last_error = ""
        while True:
            leadership: Leadership | None = None
            try:
                leadership = await self._campaign.win(self._stands)
                last_error = ""
                await self._lead(leadership)
                self._trouble = ""
            except SkepError as error:
                if str(error) != last_error:  # an etcd that is away says the same twice a second
                    log.warning("leader.failed", error=str(error))
                last_error = self._trouble = str(error)
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                self._trouble = reason_of(error)
                log.exception("leader.crashed")
                await asyncio.sleep(RETRY_S)
            finally:
                self.leader = None
                self.leads.clear()
                if leadership is not None:
                    with contextlib.suppress(SkepError):
                        await leadership.resign()
                if self._team.data_keys is not None:
                    await self._team.data_keys.lead(False)

    def _stands(self) -> bool:
        before, self._outcast = self._outcast, self._why_outcast()
        if self._outcast and not before:
            log.warning("leader.outcast", reason=self._outcast)
        return asyncio.get_running_loop().time() >= self._stands_at and not self._outcast

    def _why_outcast(self) -> str:
        """Returns why a manager that begins with an old copy of the store is not to lead: another has made a
        swarm without it (`--force-new-cluster`), and two that were lost would lead one of their own, with the
        same nodes. Its session finds that other one's leader, who says what it is to be. Whoever has followed
        or led since it began goes on: the other may be the one in error."""
        if self._campaign.has_heard or not self._team.refused_by:
            return ""
        others = ", ".join(sorted(self._team.refused_by))
        return (
            f"this manager takes no lead: for {others} it is no manager of the swarm, which was forced"
            " anew without it; it joins again as soon as the leader there answers"
        )

    def _tell_lead(self, leader: Leader) -> None:
        """The lead went over from another manager: an event of each."""
        other = self._campaign.take_other()
        if not other:
            return
        for node_id, leads in ((other, False), (self._team.node_id, True)):
            node = leader.view.nodes.get(node_id)
            if node is not None:
                old, new = str(not leads).lower(), str(leads).lower()
                name = node.description.hostname
                self._context.hub.emit("node", "update", node_id, name=name, leader__old=old, leader__new=new)

    async def _data_key(self, held: HeldKeys) -> bytes:
        """Returns the one in force. Errors: `LacksKey`, `Unavailable`."""
        await held.lead(True)
        try:
            return await go_by_record(held)
        except LacksKey:
            self._stands_at = asyncio.get_running_loop().time() + ASIDE_S
            raise

    async def _lead(self, leadership: Leadership) -> None:
        held = self._team.data_keys
        first = await self._data_key(held) if held is not None else b""
        if not self._team.safe_mode:
            await upgrade(self._store, leadership.fence)
            if held is not None:
                await settle(held, first, leadership.fence)
        context = replace(self._context, identity=self._team)
        self.leader = await Leader.start(self._store, leadership, context)
        self.leads.set()
        self._tell_lead(self.leader)
        await self.leader.run()
        if self.leader.hands_over:
            now = asyncio.get_running_loop().time()
            self._stands_at = now + ASIDE_S
            if self.leader.evictor.has_handed_over:
                self._team = replace(self._team, handed_over_at=now)
