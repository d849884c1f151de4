"""What a simulated node knows of overlay networks: all that it is told, and what it asks for.

It has no kernel and no containers that would ask for names. Of a large network it asks for the services of
its own tasks, as those would that talk with each other.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from msgspec import Struct

from skep.agent.keeping import KnownOverlays
from skep.agent.session import Session
from skep.model.overlay import Overlay
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, RESOLVE, OverlayAnswered, OverlayAsk, OverlaysHeld, OverlayTold
from skep.runtime.errors import SkepError

AGAIN_S = 0.5  # before a question that was not answered is asked again
# Of an endpoint of another node the kernel has a neighbour on the bridge and one on the tunnel, and of its
# node two ways to it.
OBJECTS_OF_ENDPOINT, OBJECTS_OF_NODE = 2, 2


class KnownByNodes(Struct):
    """What all simulated nodes of one process were told together; `largest_*` is one node's, of overlay
    networks or of published ports. `leads` counts, by node, the endpoints there that others lead new
    connections to; `unanswered` are questions."""

    told_bytes: int = 0
    largest_bytes: int = 0
    largest_objects: int = 0
    unanswered: int = 0
    leads: dict[str, int] = {}

    def add(self, other: KnownByNodes) -> None:
        self.told_bytes += other.told_bytes
        self.largest_bytes = max(self.largest_bytes, other.largest_bytes)
        self.largest_objects = max(self.largest_objects, other.largest_objects)
        self.unanswered += other.unanswered
        for node_id, count in other.leads.items():
            self.leads[node_id] = self.leads.get(node_id, 0) + count


class SimulatedOverlays:
    """A subject of the session of one node."""

    def __init__(self, node_id: str, session: Session) -> None:
        self._node_id = node_id
        self._session = session
        self._overlays = KnownOverlays()
        self._asked: dict[str, set[str]] = {}  # by network: services, by name
        self._works: set[asyncio.Task[None]] = set()
        self._number = 0
        self._bytes = 0
        self._largest_objects = 0
        session.on(messages.Registered, lambda said: self._asked.clear())
        session.on(OverlayTold, self._told, OVERLAY)
        session.on(OverlaysHeld, self._held, OVERLAY)
        session.on(OverlayAnswered, lambda answer: None, RESOLVE)  # one that comes too late

    def known(self) -> KnownByNodes:
        found: Counter[str] = Counter()
        for overlay in self._overlays.all.values():
            found.update(each.node_id for each in overlay.everyone() if each.takes_new)
        return KnownByNodes(self._bytes, self._bytes, self._largest_objects, len(self._works), dict(found))

    def _told(self, said: OverlayTold) -> None:
        self._bytes += len(messages.encode(said))
        network_id = said.network.id
        overlay = self._overlays.told(said).overlay
        if said.complete:
            self._asked.pop(network_id, None)
        if said.network.is_large:
            own = (each for each in overlay.endpoints.values() if each.node_id == self._node_id)
            self._ask(network_id, {each.name.partition(".")[0] for each in own if each.name})
        self._count_objects()

    def _held(self, said: OverlaysHeld) -> None:
        self._bytes += len(messages.encode(said))
        self._overlays.hold(said.network_ids)

    def _count_objects(self) -> None:
        """Counts closely only where there may be more than ever: thousands of nodes share two cores."""
        overlays = self._overlays.all.values()
        if sum(map(_objects_at_most, overlays)) > self._largest_objects:
            objects = sum(_objects(each, self._node_id) for each in overlays)
            self._largest_objects = max(self._largest_objects, objects)

    def _ask(self, network_id: str, names: set[str]) -> None:
        new = names - self._asked.setdefault(network_id, set())
        if new and self._session.manager_knows(RESOLVE):
            self._asked[network_id] |= new
            work = asyncio.ensure_future(self._ask_until_answered(network_id, sorted(new)))
            self._works.add(work)
            work.add_done_callback(self._works.discard)

    async def _ask_until_answered(self, network_id: str, names: list[str]) -> None:
        while network_id in self._overlays.all:
            self._number += 1
            try:
                asked = OverlayAsk(self._number, network_id, names)
                self._overlays.answered(network_id, await self._session.ask(asked, OverlayAnswered))
            except SkepError:
                await asyncio.sleep(AGAIN_S)
            else:
                return


def _objects(overlay: Overlay, node_id: str) -> int:
    remote = sum(each.node_id != node_id for each in overlay.everyone())
    return OBJECTS_OF_ENDPOINT * remote + OBJECTS_OF_NODE * len(overlay.nodes)


def _objects_at_most(overlay: Overlay) -> int:
    endpoints = len(overlay.endpoints) + sum(len(each.endpoints) for each in overlay.services.values())
    return OBJECTS_OF_ENDPOINT * endpoints + OBJECTS_OF_NODE * len(overlay.nodes)
