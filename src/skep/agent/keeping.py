"""The overlay networks as this node knows them, through sessions with one manager and the next. Pure.

Of a large network a manager that has just begun to lead tells a node its own endpoints, and knows of nobody's
questions. So the node keeps what it had asked for, asks for all of it again, and drops what is nobody's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from skep.model.overlay import Overlay, OverlayEndpoint, OverlayService, unpacked
from skep.rpc.messages import OverlayAnswered, OverlayTold

# Of a network that was small: which of its services are used here nobody knows. They are some ten, and those
# that have connections by an address of their own come first.
SERVICES_MAX = 64


class Kept(Struct, frozen=True):
    """A network, and what of it is kept from before: services by id, and single addresses."""

    overlay: Overlay
    services: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()


class Taken(Struct, frozen=True):
    """The addresses that a manager of now has said are somebody's: containers', and services' own with the
    service's id. What is kept from before has none of them."""

    endpoints: Mapping[str, OverlayEndpoint]
    vips: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.endpoints or self.vips)

    def is_anothers(self, endpoint: OverlayEndpoint) -> bool:
        """True where the endpoint, kept of a service, has it no more."""
        address = endpoint.address
        return address in self.vips or self.endpoints.get(address, endpoint).name != endpoint.name

    def less(self, service: OverlayService) -> OverlayService:
        """Returns a kept service without the addresses that others have by now. Where its own is one of them
        its names lead to its tasks."""
        left = tuple(each for each in service.endpoints if not self.is_anothers(each))
        is_lost = service.vip in self.endpoints or self.vips.get(service.vip, service.id) != service.id
        return replace(service, endpoints=left, vip="" if is_lost else service.vip)


class KnownOverlays:
    """`all` are the networks by id. What is told in several messages is whole with the last one."""

    def __init__(self) -> None:
        self.all: dict[str, Overlay] = {}
        self._before: dict[str, Overlay] = {}  # networks that are being told anew, as they were
        self._kept: dict[str, Kept] = {}  # networks of which not all is confirmed

    def confirmed(self, network_id: str) -> Overlay | None:
        """Returns what a manager of now has said of a network: without what is kept of it and asked for."""
        overlay, kept = self.all.get(network_id), self._kept.get(network_id)
        if overlay is None or kept is None:
            return overlay
        return overlay.told((), (), (), kept.services, (), kept.addresses)

    def told(self, said: OverlayTold) -> Kept:
        """Returns the network as it is now, and what of it is to be asked for, as it was kept just now."""
        id = said.network.id
        known = self.all.get(id)
        if said.complete:
            if known is not None:
                self._before.setdefault(id, known)
            self._kept.pop(id, None)
            known = None
        before = replace(known, network=said.network) if known is not None else Overlay(said.network)
        changed = (said.nodes, said.gone_nodes, said.services, said.gone_services)
        senders = unpacked(said.senders), unpacked(said.gone_senders)
        now = Kept(before.told(*changed, said.endpoints, said.gone_endpoints, *senders))
        self._confirm(id, [each.id for each in said.services], [each.address for each in said.endpoints])
        if (kept := self._kept.get(id)) is not None:
            now = replace(now, overlay=_without_taken(now.overlay, kept, said))
        if not said.more and id in self._before:
            now = self._kept[id] = keep(self._before.pop(id), now.overlay)
        self.all = {**self.all, id: now.overlay}
        return now

    def answered(self, network_id: str, said: OverlayAnswered) -> bool:
        """Returns whether the network is another now: without what is kept of it and nobody's. What was told
        since the question was put is not."""
        overlay, kept = self.all.get(network_id), self._kept.get(network_id)
        if overlay is None or kept is None:
            return False
        services = kept.services.intersection(said.unknown_services)
        addresses = kept.addresses.intersection(said.unknown_addresses)
        if not services and not addresses:
            return False
        self._confirm(network_id, services, addresses)
        self.all = {**self.all, network_id: overlay.told((), (), (), services, (), addresses)}
        return True

    def hold(self, network_ids: Collection[str]) -> None:
        """Forgets all others."""
        self.all = {id: each for id, each in self.all.items() if id in network_ids}
        self._before = {id: each for id, each in self._before.items() if id in network_ids}
        self._kept = {id: each for id, each in self._kept.items() if id in network_ids}

    def _confirm(self, network_id: str, services: Collection[str], addresses: Collection[str]) -> None:
        """A manager of now has said of these what they are."""
        kept = self._kept.get(network_id)
        if kept is not None and (services or addresses):
            left = kept.services.difference(services), kept.addresses.difference(addresses)
            self._kept[network_id] = replace(kept, services=left[0], addresses=left[1])


def keep(before: Overlay, told: Overlay) -> Kept:
    """Returns what the node has of a network that it had `before` and is told anew: its own endpoints. Of one
    that was small single endpoints are asked for when they are missed."""
    if not told.network.is_large:
        return Kept(told)
    was_large = before.network.is_large
    taken = Taken(told.endpoints, _vips(told.services.values()))
    services = before.services if was_large else _foremost(before.services.values())
    services = {i: taken.less(each) for i, each in services.items() if i not in told.services}
    endpoints = _others(before.endpoints, taken) if was_large else {}
    merged = replace(
        told,
        nodes={**before.nodes, **told.nodes},
        services={**services, **told.services},
        endpoints={**endpoints, **told.endpoints},
    )
    # Nodes that nobody of these is on go.
    return Kept(merged.told((), (), (), ()), frozenset(services), frozenset(endpoints))


def _without_taken(overlay: Overlay, kept: Kept, said: OverlayTold) -> Overlay:
    """Returns the network without what is kept of it and has an address that others have by now, by the word
    of a manager of now: a container, or a service. One that was asked for an address tells of the service
    that has it, and says no more of the container that had it."""
    there = {each.address: each for service in said.services for each in service.endpoints}
    there.update((each.address, each) for each in said.endpoints)
    taken = Taken(there, _vips(said.services))
    if not taken or not (kept.services or kept.addresses):
        return overlay
    services = {i: taken.less(each) if i in kept.services else each for i, each in overlay.services.items()}
    gone = [a for a in kept.addresses & there.keys() if overlay.endpoints.get(a, there[a]) != there[a]]
    gone.extend(kept.addresses & taken.vips.keys())
    return replace(overlay, services=services).told((), (), (), (), (), gone)


def _vips(services: Iterable[OverlayService]) -> dict[str, str]:
    return {each.vip: each.id for each in services if each.vip}


def _foremost(services: Iterable[OverlayService]) -> dict[str, OverlayService]:
    named = sorted((each for each in services if each.name), key=lambda each: (not each.vip, each.id))
    return {each.id: each for each in named[:SERVICES_MAX]}


def _others(before: Mapping[str, OverlayEndpoint], taken: Taken) -> dict[str, OverlayEndpoint]:
    """Returns the endpoints of before that are not this node's: of those it was told all."""
    nodes = {each.node_id for each in taken.endpoints.values()}
    return {
        a: each
        for a, each in before.items()
        if a not in taken.endpoints and a not in taken.vips and each.node_id not in nodes
    }
