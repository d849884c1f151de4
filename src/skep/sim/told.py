"""What one agent was told of overlay networks, and what it asks of large ones: the services of its own tasks,
and some single addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable
from zlib import crc32

from skep.agent.keeping import KnownOverlays
from skep.agent.leaving import LEAVE_S
from skep.agent.session import Session
from skep.model.overlay import Overlay, OverlayEndpoint
from skep.model.task import TaskAddress
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, RESOLVE, Lead, OverlayAnswered, OverlayAsk, OverlaysHeld, OverlayTold
from skep.runtime.errors import SkepError

AGAIN_S = 1.0  # before what was not answered is asked again
ONE_IN = 3  # of others' endpoints so many are asked for by address, too

Asked = tuple[str, str]  # what it is, and its text, as `agent.asking` has it
NAME, ADDRESS, SERVICE = "name", "address", "service"


class ToldOverlays:
    """A subject of the agent's session. `lead` is whose word all of it is."""

    def __init__(self, node_id: str, session: Session) -> None:
        self._node_id = node_id
        self._session = session
        self._known = KnownOverlays()
        self._wanted: dict[str, set[Asked]] = {}  # by network: what a manager is still to be asked
        self._answered: dict[str, set[Asked]] = {}  # what it has been, in this session
        self._works: dict[str, asyncio.Task[None]] = {}
        self._number = 0
        self.lead: Lead | None = None
        self.wrong = ""
        session.on(messages.Registered, lambda said: self._began())
        session.on(OverlayTold, self._told, OVERLAY)
        session.on(OverlaysHeld, self._held, OVERLAY)
        session.on(OverlayAnswered, lambda said: None, RESOLVE)  # one that comes too late

    @property
    def overlays(self) -> dict[str, Overlay]:
        return self._known.all

    def leaving(self, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """As `agent.networking`; what is told is done at once."""
        is_known = any(each.network_id in self.overlays for each in addresses)
        return asyncio.sleep(LEAVE_S) if is_known else None

    def serving(self, is_confirmed: bool = False) -> set[str]:
        """Returns the addresses, each with its network's id, that names lead to. `is_confirmed`: by the word
        of the leader of now alone."""
        found: dict[str, Overlay | None] = dict(self.overlays)
        if is_confirmed:
            found = {i: self._known.confirmed(i) for i in found}
        return {f"{i} {e.address}" for i, o in found.items() if o for e in o.everyone() if e.takes_new}

    def close(self) -> None:
        self._wanted.clear()
        for work in self._works.values():
            work.cancel()

    def _began(self) -> None:
        self.lead = None
        self._answered.clear()

    def _told(self, said: OverlayTold) -> None:
        network_id = said.network.id
        if not said.complete and network_id not in self.overlays:
            self.wrong = f"it was told what is new of {network_id}, and never all of it"
            return
        kept = self._known.told(said)
        if said.more:
            return
        told = self.overlays[network_id]
        addresses = [each.address for each in endpoints_of(told)]
        if len(addresses) > len(set(addresses)):
            self.wrong = f"two on network {network_id} have one address: {sorted(addresses)}"
        if said.complete:
            self._answered.pop(network_id, None)
        if said.network.is_large:
            again = [(SERVICE, each) for each in kept.services] + [(ADDRESS, each) for each in kept.addresses]
            self._want(network_id, [*again, *self._curious(told)])

    def _held(self, said: OverlaysHeld) -> None:
        self.lead = said.lead
        missing = set(said.network_ids) - self.overlays.keys()
        if missing:
            self.wrong = f"it has networks that it was told nothing of: {sorted(missing)}"
        self._known.hold(said.network_ids)

    # Asking

    def _curious(self, told: Overlay) -> Iterable[Asked]:
        own = (each for each in told.endpoints.values() if each.node_id == self._node_id)
        yield from {(NAME, each.name.partition(".")[0].lower()) for each in own if each.name}
        for each in endpoints_of(told):
            if each.node_id != self._node_id and crc32(each.address.encode()) % ONE_IN == 0:
                yield ADDRESS, each.address

    def _want(self, network_id: str, items: Iterable[Asked]) -> None:
        """A service whose name was answered may be gone, and another come."""
        known = {each.name.lower() for each in self.overlays[network_id].services.values()}
        answered = {a for a in self._answered.setdefault(network_id, set()) if a[0] != NAME or a[1] in known}
        new = set(items) - answered
        self._wanted.setdefault(network_id, set()).update(new)
        self._go_on(network_id)

    def _go_on(self, network_id: str) -> None:
        work = self._works.get(network_id)
        if self._wanted.get(network_id) and (work is None or work.done()):
            self._works[network_id] = asyncio.ensure_future(self._ask(network_id))

    async def _ask(self, network_id: str) -> None:
        """What was not answered is asked for again later, and at once where the network is told anew."""
        while self._wanted.get(network_id) and network_id in self.overlays:
            items = sorted(self._wanted[network_id])
            self._number += 1
            names, addresses, services = ([t for k, t in items if k == w] for w in (NAME, ADDRESS, SERVICE))
            asked = OverlayAsk(self._number, network_id, names, addresses, services)
            try:
                answer = await self._session.ask(asked, OverlayAnswered)
            except SkepError:
                asyncio.get_running_loop().call_later(AGAIN_S, self._go_on, network_id)
                return
            self._known.answered(network_id, answer)
            self._wanted[network_id].difference_update(items)
            self._answered.setdefault(network_id, set()).update(items)


def endpoints_of(overlay: Overlay) -> list[OverlayEndpoint]:
    """Returns all that are known of a network as some service's."""
    return [endpoint for service in overlay.services.values() for endpoint in service.endpoints]
