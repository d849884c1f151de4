"""The names of one network, by service: what is new of one costs that one. Pure.

A name, or an address, may be of several services: an alias that they share, an address that has just come to
be another's. So who has it is known by service, and goes with it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from msgspec import Struct

from skep.model.overlay import Overlay, OverlayService

TASKS = "tasks."  # before a service's name: its tasks, whatever the service's own name leads to
# Whose those endpoints are that are known by their addresses only; no service's id.
_NO_SERVICE = ""


class _Named(Struct, frozen=True):
    """What one service, or single container, has: containers' names, and its own, by `address`, and where
    names lead, in small letters; `singles` are those that a single container has given itself."""

    service: OverlayService
    is_led: bool  # this node's kernel leads the service's own address to its tasks
    at: dict[str, str]
    leads: dict[str, tuple[str, ...]]
    singles: dict[str, tuple[str, ...]]
    containers: frozenset[str]


class _Whose:
    """Who has each of some keys; the last of several came last."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, ...]] = {}

    def __getitem__(self, key: str) -> tuple[str, ...]:
        return self._of.get(key, ())

    def change(self, service_id: str, before: Collection[str], now: Collection[str]) -> None:
        """A service has these keys now, and had those before."""
        alone = (service_id,)  # one for all
        for key in before:
            if key not in now:
                others = tuple(each for each in self._of[key] if each != service_id)
                if others:
                    self._of[key] = others
                else:
                    del self._of[key]
        for key in now:
            if key not in before:
                others = self._of.get(key, ())
                self._of[key] = (*others, service_id) if others else alone


class NetworkNames:
    """Those of one network. `vips` are services' own addresses that this node's kernel leads to their
    tasks."""

    def __init__(self, overlay: Overlay, vips: Collection[str] = frozenset()) -> None:
        self.id = overlay.network.id
        self.name = overlay.network.name.lower()
        self._subnet = ipaddress.IPv4Network(overlay.network.subnet, strict=False)
        self._named: dict[str, _Named] = {}
        self._at, self._leads, self._singles = _Whose(), _Whose(), _Whose()
        self.told(overlay, vips)

    def told(self, overlay: Overlay, vips: Collection[str]) -> None:
        """This is all of the network from now on; of a service that is the same object as before, nothing is
        looked at again."""
        self.overlay = overlay
        by_address = OverlayService(_NO_SERVICE, endpoints=tuple(overlay.endpoints.values()))
        services = {_NO_SERVICE: by_address, **overlay.services}
        for service_id in self._named.keys() - services.keys():
            self._change(service_id, None)
        for service_id, service in services.items():
            known, is_led = self._named.get(service_id), service.vip in vips
            if known is None or known.is_led != is_led or known.service != service:
                self._change(service_id, _named(service, is_led))

    def may_have(self, address: str) -> bool:
        """True where the address is one of the network's, whether anybody is known to have it or not."""
        return ipaddress.IPv4Address(address) in self._subnet

    def container_at(self, address: str) -> str | None:
        """Returns the name of who has an address, which may be empty; None where nobody does, as far as this
        node was told."""
        whose = self._at[address]
        return self._named[whose[-1]].at[address] if whose else None

    def has_container(self, name: str) -> bool:
        return any(name in self._named[each].containers for each in self._leads[name.lower()])

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """Returns what a service's or a task's name, in small letters, leads to; None where there is no such
        name."""
        return _together(self._named[each].leads[name] for each in self._leads[name])

    def single_addresses(self, name: str) -> tuple[str, ...] | None:
        """Returns the same of a single container's: whoever may make one chooses its names."""
        return _together(self._named[each].singles[name] for each in self._singles[name])

    def _change(self, service_id: str, now: _Named | None) -> None:
        before = self._named.pop(service_id, None)
        for whose, had, has in (
            (self._at, before.at if before else {}, now.at if now else {}),
            (self._leads, before.leads if before else {}, now.leads if now else {}),
            (self._singles, before.singles if before else {}, now.singles if now else {}),
        ):
            whose.change(service_id, had, has)
        if now is not None:
            self._named[service_id] = now


def _named(service: OverlayService, is_led: bool) -> _Named:
    """Returns what a service's names lead to: to its own address, or, where that leads nowhere, to its tasks.
    Of a single container there are its aliases, and its name as a container."""
    at = {each.address: each.name for each in service.endpoints}
    leads: dict[str, tuple[str, ...]] = {}
    for address, name in at.items():
        if name:
            _add(leads, name, (address,))
    containers = frozenset(at.values()) - {""}
    serving = tuple(dict.fromkeys(each.address for each in service.endpoints if each.takes_new))
    if not service.name:
        singles = dict.fromkeys((alias.lower() for alias in service.aliases), serving)
        return _Named(service, is_led, at, leads, singles, containers)
    for name in (service.name, *service.aliases):
        _add(leads, TASKS + name, serving)  # as in libnetwork; a stack's aliases are its short names
        _add(leads, name, (service.vip,) if is_led else serving)
    if is_led:
        at[service.vip] = service.name
    return _Named(service, is_led, at, leads, {}, containers)


def _add(leads: dict[str, tuple[str, ...]], name: str, addresses: tuple[str, ...]) -> None:
    key = name.lower()
    known = leads.get(key)
    leads[key] = addresses if known is None else tuple(dict.fromkeys((*known, *addresses)))


def _together(found: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Returns all addresses, each once; None where nobody has the name."""
    all_of_it = list(found)
    if len(all_of_it) == 1:
        return all_of_it[0]
    return tuple(dict.fromkeys(each for part in all_of_it for each in part)) if all_of_it else None
