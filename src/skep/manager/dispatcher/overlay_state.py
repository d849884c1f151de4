"""One overlay network: who is on it, as the view had it last, and which nodes hear of it. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from skep.model.overlay import OverlayNetwork, OverlayService
from skep.rpc.messages import Lead, OverlayTold

from .overlay_news import News, changes, stride_for, whole
from .told_frames import ForHearers

Located = Callable[[Iterable[str]], list[tuple[str, str]]]  # nodes -> where their tunnels end


class KnownOverlay:
    """`services` have all their endpoints; what nodes are told may be less (`overlay_news`)."""

    def __init__(self, network: OverlayNetwork) -> None:
        self.network = network
        self.services: dict[str, OverlayService] = {}
        self.hosts: Counter[str] = Counter()  # nodes with somebody on it: how many
        self.hearers: set[str] = set()  # nodes that were told all of it, and hear what changes
        # Nodes that were told that they are on it, and are told all of it next.
        self.newcomers: set[str] = set()
        self._stride = 1
        # Services that are others since hearers were told last, as those know them.
        self._changed: dict[str, OverlayService | None] = {}
        self._came: set[str] = set()  # nodes that those know not, or elsewhere
        self._gone: set[str] = set()
        self._all: ForHearers | None = None  # what a newcomer is told

    @property
    def is_nobodys(self) -> bool:
        return not (self.hosts or self.hearers or self.newcomers)

    def put(self, service_id: str, now: OverlayService | None) -> None:
        """Takes a service, or a single container, as it is now."""
        before = self.services.get(service_id)
        if now == before:
            return
        self._all = None
        if now is None:
            del self.services[service_id]
        else:
            self.services[service_id] = now
        left = self._count(before, -1)
        came = self._count(now, +1)
        left, came = left - came, came - left
        if self.hearers:  # what nobody was told is no news
            self._changed.setdefault(service_id, before)
            self._came = (self._came | came) - left
            self._gone = (self._gone | left) - came

    def moved(self, node_id: str) -> None:
        """A node that has somebody on it is elsewhere."""
        self._all = None
        self._came.add(node_id)

    def hears(self, node_id: str) -> None:
        """The node is told all now, and from now on what changes."""
        if not self.hearers:  # what changed while nobody heard is no news
            self._forget_news()
        self.hearers.add(node_id)

    def tell_anew(self) -> None:
        """Nobody knows what was told: all are told all."""
        self.newcomers |= self.hearers
        self.hearers.clear()

    def settle_stride(self) -> None:
        """Where there are many more than before, or less, all are told another share of them."""
        stride = stride_for(self.hosts.total(), self._stride)
        if stride != self._stride:
            self._stride = stride
            self._all = None
            self.tell_anew()

    def take_news(self, located: Located, lead: Lead | None) -> ForHearers | None:
        """Returns what hearers do not know yet; None where they know all. They are taken to be told."""
        changed, came, gone = self._changed, self._came, self._gone
        self._forget_news()
        if not (changed or came or gone) or not self.hearers:
            return None
        told = OverlayTold(
            self.network,
            nodes=located(came),
            gone_nodes=sorted(gone),
            gone_services=[each for each in changed if each not in self.services],
            lead=lead,
        )
        news = (self._news_of(each, before) for each, before in changed.items() if each in self.services)
        return ForHearers(told, list(news))

    def all(self, is_whole: bool, located: Located, lead: Lead | None) -> ForHearers:
        """Returns all of it; made once for all that come until it changes. `is_whole`: it is known that there
        is nothing else."""
        if self._all is None or self._all.told.complete != is_whole:
            told = OverlayTold(self.network, is_whole, located(self.hosts), lead=lead)
            self._all = ForHearers(told, [whole(each, self._stride) for each in self.services.values()])
        return self._all

    def on_node(self, node_id: str) -> list[str]:
        """Returns the services and single containers that have somebody there. Cost: all endpoints."""
        if node_id not in self.hosts:
            return []
        return [i for i, s in self.services.items() if any(e.node_id == node_id for e in s.endpoints)]

    def _forget_news(self) -> None:
        self._changed, self._came, self._gone = {}, set(), set()

    def _news_of(self, service_id: str, before: OverlayService | None) -> News:
        now = self.services[service_id]
        return whole(now, self._stride) if before is None else changes(before, now, self._stride)

    def _count(self, service: OverlayService | None, sign: int) -> set[str]:
        """Returns the nodes that have somebody on the network, or have nobody any more, since."""
        changed = set()
        for each in service.endpoints if service is not None else ():
            count = self.hosts[each.node_id] + sign
            if count:
                self.hosts[each.node_id] = count
            else:
                del self.hosts[each.node_id]
            if count == (1 if sign > 0 else 0):
                changed.add(each.node_id)
        return changed
