"""What nodes are told of a small overlay network: all of it, and all of them the same. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from skep.model.overlay import OverlayNetwork, OverlayService
from skep.rpc.messages import Lead, OverlayTold

from .overlay_asks import FoundEndpoints
from .overlay_news import changed, whole
from .overlay_state import OverlayChanges, OverlayState
from .told_frames import Located, whole_frames


class SmallTeller:
    """Nodes that hear of the network know it as it is, but for the latest changes."""

    def __init__(
        self, network: OverlayNetwork, state: OverlayState, located: Located, lead: Lead | None
    ) -> None:
        self._network = network
        self._state = state
        self._located = located
        self._lead = lead
        self._all: tuple[tuple[int, bool], Sequence[bytes]] | None = None  # (version, is whole), messages

    def all(self, node_id: str, is_whole: bool) -> Sequence[bytes]:
        """Returns what a node is told that comes: made once for all that come until it changes. `is_whole`:
        it is known that there is nothing else."""
        key = self._state.version, is_whole
        if self._all is None or self._all[0] != key:
            there = (each for each in self._state.services.values() if each.size)
            services = [whole(each.words, each.endpoints()) for each in there]
            nodes = self._located(self._state.hosts)
            told = OverlayTold(self._network, is_whole, nodes, services=services, lead=self._lead)
            self._all = key, whole_frames(told)
        return self._all[1]

    def begin(self) -> None:
        """Nobody has heard of what has changed so far: nothing is kept of what others know."""

    def news(self, changes: OverlayChanges, hearers: Collection[str]) -> Mapping[str, Sequence[bytes]]:
        """Returns what each of those that hear of it is told of what has changed."""
        services, gone_services = list[OverlayService](), list[str]()
        for service_id, change in changes.services.items():
            service = self._state.services.get(service_id)
            if service is None:
                gone_services.append(service_id)
            else:
                services.append(changed(service.words, change.addresses, service.parts[0]))
        hosts = self._state.hosts
        came = {each for each, was in changes.hosts.items() if not was and each in hosts}
        gone = sorted(each for each, was in changes.hosts.items() if was and each not in hosts)
        came.update(each for each in changes.moved if each in hosts)
        nodes = self._located(came)
        told = OverlayTold(
            self._network, False, nodes, gone, services, gone_services=gone_services, lead=self._lead
        )
        return dict.fromkeys(hearers, whole_frames(told))

    def asked(self, node_id: str, found: FoundEndpoints) -> Sequence[bytes]:
        """Returns nothing: who hears of the network knows all of it already, or is told in a moment."""
        return []

    def forget(self, node_id: str) -> None:
        """Nothing is kept of single nodes."""
