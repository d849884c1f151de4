"""One overlay network: who is on it, which nodes hear of it, and what they are told. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from skep.model.overlay import OverlayNetwork
from skep.rpc.messages import Lead, OverlayAsk

from .overlay_asks import FoundEndpoints
from .overlay_bounds import Bounds
from .overlay_large import LargeTeller
from .overlay_small import SmallTeller
from .overlay_state import OverlayState
from .told_frames import Located


class KnownOverlay:
    """`state` is who is on it. A small one is told whole, of a large one each node hears what it needs."""

    def __init__(self, network: OverlayNetwork, located: Located, lead: Lead | None, bounds: Bounds) -> None:
        self.network = network
        self.state = OverlayState()
        self.hearers: set[str] = set()  # nodes that were told all there is for them, and hear what changes
        # Nodes that were told that they are on it, and are told the rest next.
        self.newcomers: set[str] = set()
        self._untold_since: float | None = None  # loop time: hearers do not know all of what is known here
        self._located = located
        self._lead = lead
        self._bounds = bounds
        self._teller = self._make_teller()
        self.growing: dict[str, int] = {}  # services that are to have more endpoints: so many

    @property
    def is_nobodys(self) -> bool:
        return not (self.state.size or self.hearers or self.newcomers)

    def hears(self, node_id: str, is_whole: bool) -> Sequence[bytes]:
        """The node hears from now on what changes. Returns what it is told first; `is_whole`: it is known
        that there is nothing else."""
        if not self.hearers:  # what changed while nobody heard is no news
            self.state.take_changes()
            self._teller.begin()
        self.hearers.add(node_id)
        return self._teller.all(node_id, is_whole)

    def leaves(self, node_id: str) -> None:
        """The node hears nothing more."""
        self.hearers.discard(node_id)
        self.newcomers.discard(node_id)
        self._teller.forget(node_id)

    def tell_anew(self) -> None:
        """Nobody knows what was told: all are told all, and ask again for the rest."""
        self.newcomers |= self.hearers
        self.hearers.clear()
        self._teller = self._make_teller()

    def settle_size(self, wanted: Mapping[str, int]) -> None:
        """Where there are many more than before, or less, all are told in the other way. So many endpoints
        the services are to have that have changed: what grows large is told so from the beginning, else each
        of its nodes would be told thousands of endpoints first, which it is to forget a moment later."""
        self.growing.update(wanted)
        services = self.state.services
        missing = {i: n - services[i].size for i, n in self.growing.items() if i in services}
        self.growing = {i: self.growing[i] for i, count in missing.items() if count > 0}
        there = self.state.size + sum(missing[each] for each in self.growing)
        is_large = self._bounds.is_large(there, self.network.is_large)
        if is_large != self.network.is_large:
            self.network = replace(self.network, is_large=is_large)
            self.state.become(is_large)
            self.tell_anew()

    @property
    def has_untold(self) -> bool:
        """True while hearers have waited for news since `untold_s` was first asked."""
        return self._untold_since is not None

    def untold_s(self, now: float) -> float:
        """Returns for how long there have been news that hearers do not know; `now` is the loop's time."""
        if self._untold_since is None:
            self._untold_since = now
        return now - self._untold_since

    def take_news(self) -> Mapping[str, Sequence[bytes]]:
        """Returns what hearers do not know yet, by node. They are taken to be told."""
        self._untold_since = None
        changes = self.state.take_changes()
        return self._teller.news(changes, self.hearers) if changes and self.hearers else {}

    def find(self, asked: OverlayAsk) -> FoundEndpoints:
        """Returns who there is of those that are asked for."""
        return FoundEndpoints(self.state, asked, self._bounds)

    def answer(self, node_id: str, found: FoundEndpoints) -> Sequence[bytes]:
        """Returns what a node that hears of the network is told of what was found: as it is now."""
        return self._teller.asked(node_id, found)

    def _make_teller(self) -> SmallTeller | LargeTeller:
        if self.network.is_large:
            return LargeTeller(self.network, self.state, self._located, self._lead, self._bounds)
        return SmallTeller(self.network, self.state, self._located, self._lead)
