"""A manager's bid for the lead: campaign, lead, and campaign again, for as long as the manager lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from skep.manager.events import EventHub
from skep.manager.leader import Leader, Sign
from skep.runtime.clock import Clock
from skep.runtime.errors import SkepError
from skep.runtime.ids import NewId
from skep.store import codec
from skep.store.election import Campaign, Leadership
from skep.store.port import Store

log = structlog.get_logger()

RETRY_S = 0.5  # before another try to lead after a failure


class Candidate:
    """`leader` is set, and `leads` with it, while this manager leads."""

    def __init__(
        self,
        store: Store,
        node_id: str,
        clock: Clock,
        new_id: NewId,
        new_secret: Callable[[], str],
        hub: EventHub,
        managers: list[str],
        sign: Sign,
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret
        self._hub = hub
        self._managers = managers
        self._sign = sign
        self._campaign = Campaign(store, codec.LEADER_KEY, node_id)
        self.leader: Leader | None = None
        self.leads = asyncio.Event()

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
                leadership = await self._campaign.win()
                last_error = ""
                await self._lead(leadership)
            except SkepError as error:
                if str(error) != last_error:  # an etcd that is away says the same twice a second
                    log.warning("leader.failed", error=str(error))
                last_error = str(error)
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("leader.crashed")
                await asyncio.sleep(RETRY_S)
            finally:
                self.leader = None
                self.leads.clear()
                if leadership is not None:
                    with contextlib.suppress(SkepError):
                        await leadership.resign()

    async def _lead(self, leadership: Leadership) -> None:
        self.leader = await Leader.start(
            self._store,
            leadership,
            self._clock,
            self._new_id,
            self._new_secret,
            self._hub,
            self._managers,
            self._sign,
        )
        self.leads.set()
        await self.leader.run()
