"""What nodes are told of a large overlay network: each its own endpoints, and what it has asked for. Pure.

What is asked for is told of as it changes, too, until it is gone. Every message has the tunnels' ends of the
endpoints in it: nobody is told that a node is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from msgspec.structs import replace

from skep.model.overlay import OverlayEndpoint, OverlayNetwork, OverlayService, packed
from skep.rpc.messages import Lead, OverlayTold

from .cutting import part_of
from .overlay_asks import FoundEndpoints
from .overlay_bounds import Bounds
from .overlay_news import changed, moved, whole
from .overlay_state import Change, KnownService, OverlayChanges, OverlayState
from .overlay_subscribers import Subscribers
from .told_frames import Frame, Frames, Located


class LargeTeller:
    """Of a service with many endpoints a node hears of a part."""

    def __init__(
        self,
        network: OverlayNetwork,
        state: OverlayState,
        located: Located,
        lead: Lead | None,
        bounds: Bounds,
    ) -> None:
        self._network = network
        self._state = state
        self._located = located
        self._lead = lead
        self._bounds = bounds
        self._subscribers = Subscribers(bounds)
        self._senders: frozenset[str] = frozenset()  # as hearers know them
        self._senders_packed = b""  # the same as each node that comes is told it
        self.begin()

    def begin(self) -> None:
        """Nobody has heard of what has changed so far. Cost: the nodes on the network."""
        self._take_senders()

    def all(self, node_id: str, is_whole: bool) -> Sequence[bytes]:
        """Returns what a node is told that comes: its own. `is_whole`: it is known that there is nothing
        else."""
        own = [each.endpoint for each in self._state.held(self._state.hosts.get(node_id, ()))]
        told = self._told(endpoints=own, is_whole=is_whole, nodes=self._located([node_id]))
        return [Frame(replace(told, senders=self._senders_packed)).bytes(more=False)]

    def asked(self, node_id: str, found: FoundEndpoints) -> Sequence[bytes]:
        """Returns what was found; the node hears of it from now on."""
        for service in found.services.values():
            if not self._subscribers.parts(service.words.id):
                self._fit(service)
        gone_services = self._subscribers.ask_services(node_id, found.services.values())
        endpoints = list(found.endpoints.values())
        others = [each.address for each in endpoints if each.node_id != node_id]
        gone_endpoints = self._subscribers.ask_addresses(node_id, others)
        frames = Frames()
        for service_id, service in found.services.items():
            part = self._subscribers.part_of(node_id, service_id)
            frames.add(self._whole_part(service, part), [node_id])
        if endpoints or gone_endpoints or gone_services:
            told = self._told([], endpoints, gone_services, gone_endpoints)
            frames.add(Frame(told), [node_id])
        return frames.encoded().get(node_id, [])

    def news(self, changes: OverlayChanges, hearers: Collection[str]) -> Mapping[str, Sequence[bytes]]:
        """Returns what those of `hearers` whom a change concerns are told."""
        for node_id in changes.moved:
            self._say_again(node_id, changes)
        frames = Frames()
        if changes.hosts or changes.moved:
            self._sender_news(hearers, frames)
        for service_id, change in changes.services.items():
            if self._subscribers.parts(service_id):
                self._service_news(service_id, change, frames)
        self._single_news(changes, hearers, frames)
        return frames.encoded()

    def forget(self, node_id: str) -> None:
        """The node hears of nothing any more that it has asked for."""
        self._subscribers.forget(node_id)

    def _whole_part(self, service: KnownService, part: int) -> Frame:
        """Made once for all that ask until it changes: after a new leader, all nodes ask at once."""
        frame = service.frames.get(part)
        if frame is None:
            told = self._told([whole(service.words, service.parts[part].values())])
            frame = service.frames[part] = Frame(told)
        return frame

    def _take_senders(self) -> frozenset[str]:
        """Takes where the tunnels of all nodes with somebody on the network end. Returns where they did
        before. Cost: those nodes."""
        before = self._senders
        self._senders = frozenset(address for _, address in self._located(self._state.hosts))
        self._senders_packed = packed(self._senders)
        return before

    def _sender_news(self, hearers: Collection[str], frames: Frames) -> None:
        """Tells all from where packets may come from now on: four bytes for each node that came or went."""
        before = self._take_senders()
        came, gone = packed(self._senders - before), packed(before - self._senders)
        if came or gone:
            frames.add(Frame(replace(self._told(), senders=came, gone_senders=gone)), hearers)

    def _say_again(self, node_id: str, changes: OverlayChanges) -> None:
        """The node is elsewhere: that is said with its endpoints, to all that know of them."""
        for each in self._state.held(self._state.hosts.get(node_id, ())):
            address, service = each.endpoint.address, self._state.services[each.service_id]
            changes.singles[address] = None
            if service.lists(address):
                changes.of(each.service_id).addresses[address] = None

    def _service_news(self, service_id: str, change: Change, frames: Frames) -> None:
        service = self._state.services.get(service_id)
        if service is None:
            told = self._told(gone_services=[service_id])
            frames.add(Frame(told), self._subscribers.drop_service(service_id))
            return
        before = self._fit(service)
        if before is not None:
            self._tell_moves(service, before, change, frames)
            return
        by_part: dict[int, list[str]] = {}
        for address in change.addresses:
            by_part.setdefault(service.part_of(address), []).append(address)
        for part, addresses in by_part.items():
            nodes = self._subscribers.part(service_id, part)
            if nodes:
                news = changed(service.words, addresses, service.parts[part])
                frames.add(Frame(self._told([news])), nodes)
        if change.words:
            others = (n for n in range(len(service.parts)) if n not in by_part)
            nodes = [each for n in others for each in self._subscribers.part(service_id, n)]
            frames.add(Frame(self._told([changed(service.words, (), service.parts[0])])), nodes)

    def _fit(self, service: KnownService) -> list[dict[str, OverlayEndpoint]] | None:
        """Cuts the service anew, where it has many more endpoints than before, or less. Returns its parts of
        before. Cost: its endpoints, for as many of them that came or went."""
        count = self._bounds.parts(service.listed, service.serving, len(service.parts))
        return service.cut(count) if count != len(service.parts) else None

    def _tell_moves(
        self,
        service: KnownService,
        before: list[dict[str, OverlayEndpoint]],
        change: Change,
        frames: Frames,
    ) -> None:
        """Tells all that hear of the service which part of it they have from now on."""
        by_part: dict[int, list[str]] = {}
        for address in change.addresses:
            by_part.setdefault(part_of(address, len(before)), []).append(address)
        ways: dict[tuple[int, int], list[str]] = {}
        for node_id, was, part in self._subscribers.cut(service.words.id, len(service.parts)):
            ways.setdefault((was, part), []).append(node_id)
        for (was, part), nodes in ways.items():
            news = moved(service.words, by_part.get(was, ()), before[was], service.parts[part])
            frames.add(Frame(self._told([news])), nodes)

    def _single_news(self, changes: OverlayChanges, hearers: Collection[str], frames: Frames) -> None:
        """Tells each node of its own endpoints, and of single ones that it asked for."""
        news: dict[str, tuple[list[OverlayEndpoint], list[str]]] = {}
        for address in changes.singles:
            now = self._state.at(address)
            owner = now.node_id if now is not None else ""
            if owner in self._subscribers.singles(address):
                self._subscribers.leave_address(owner, address)  # its own it hears of in any case
            asked = sorted(self._subscribers.singles(address))
            others = (*asked, *changes.left.get(address, ()))  # mostly nobody
            for node_id in dict.fromkeys((owner, *others)) if others else (owner,):
                if node_id not in hearers:
                    continue
                endpoints, gone = news.setdefault(node_id, ([], []))
                if now is not None and (node_id == owner or node_id in asked):
                    endpoints.append(now)
                else:
                    gone.append(address)
                    self._subscribers.leave_address(node_id, address)
        for node_id, (endpoints, gone) in news.items():
            frames.add(Frame(self._told([], endpoints, gone_endpoints=gone)), [node_id])

    def _told(
        self,
        services: Iterable[OverlayService] = (),
        endpoints: Iterable[OverlayEndpoint] = (),
        gone_services: Iterable[str] = (),
        gone_endpoints: Iterable[str] = (),
        is_whole: bool = False,
        nodes: list[tuple[str, str]] | None = None,
    ) -> OverlayTold:
        services, endpoints = list(services), list(endpoints)
        if nodes is None:
            there = chain(endpoints, *(each.endpoints for each in services))
            nodes = self._located({each.node_id for each in there})
        return OverlayTold(
            self._network,
            is_whole,
            nodes,
            services=services,
            gone_services=list(gone_services),
            lead=self._lead,
            endpoints=endpoints,
            gone_endpoints=list(gone_endpoints),
        )
