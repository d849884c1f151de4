"""Which names lead where on a swarm's overlay networks, and who may know of them. Pure.

A name is of a network, and who is not on that network does not hear of it. Each network has an index of its
own (`network_names`): a question costs what it is answered with, what is new of a service that service. Of a
large one a node knows its own containers, by their own names, and what was asked for: the rest is to be asked
for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from skep.model.overlay import Overlay
from skep.network.network_names import TASKS, NetworkNames

A, ANY, PTR = "A", "ANY", "PTR"  # the types of questions that have an answer here; to others there is none
_REVERSE = ".in-addr.arpa"
_ASKED_FOR = re.compile("[a-z0-9_.-]{1,255}")  # managers take no others; what it leaves out is no host's name


class NameAnswer(Struct, frozen=True):
    """What a name leads to: addresses, or, of an address, its name. With neither, the name is known, and
    there is nothing of the type that was asked for."""

    addresses: tuple[str, ...] = ()
    name: str = ""


class Unknown(Struct, frozen=True):
    """What may be known of a large network to who is asked for it: names, or an address."""

    network_id: str
    names: tuple[str, ...] = ()
    address: str = ""


Addresses = Callable[[NetworkNames, str], tuple[str, ...] | None]


class Names:
    """Those of all networks that this node's containers are on."""

    def __init__(self) -> None:
        self._networks: dict[str, NetworkNames] = {}
        self._vips: frozenset[str] = frozenset()

    def told(self, overlays: dict[str, Overlay], vips: frozenset[str] = frozenset()) -> None:
        """These are all the networks from now on, and the services' own addresses that the kernel knows. What
        is the same object as before costs next to nothing."""
        for network_id in self._networks.keys() - overlays.keys():
            del self._networks[network_id]
        for network_id, overlay in overlays.items():
            known = self._networks.get(network_id)
            if known is None or known.overlay.network != overlay.network:
                self._networks[network_id] = NetworkNames(overlay, vips)
            elif known.overlay is not overlay or vips != self._vips:
                known.told(overlay, vips)
        self._vips = vips

    def networks_of(self, asker: str) -> tuple[NetworkNames, ...]:
        """Returns the networks that who has this address is on, first the one that the address is of; none
        for a stranger. The same container is known on others by its name, which has its task's id."""
        networks = self._networks.values()
        first = next((each for each in networks if each.container_at(asker) is not None), None)
        if first is None:
            # A single container may ask before the manager has said that it is there.
            return tuple(each for each in networks if each.may_have(asker))[:1]
        container = first.container_at(asker)
        if not container:
            return (first,)
        also = [each for each in networks if each is not first and each.has_container(container)]
        return (first, *sorted(also, key=lambda each: each.name))


def find(networks: Iterable[NetworkNames], name: str, kind: str, turn: int) -> NameAnswer | None:
    """Returns what is known on an asker's networks of a name, whose last dot is left out; None where nothing
    is, and others are to be asked. `kind` is the question's type, `turn` says which address is the first."""
    name = name.lower()
    address = _reversed(name)
    if address:
        return _name_of(networks, address, kind)
    networks = tuple(networks)
    found = _known(networks, name, NetworkNames.addresses)
    found = found or _known(networks, name, NetworkNames.single_addresses)
    if not found:
        return None
    if kind not in (A, ANY):
        return NameAnswer()
    return NameAnswer(_rotated(next(filter(None, found), ()), turn))


def unknown(networks: Iterable[NetworkNames], name: str) -> tuple[Unknown, ...]:
    """Returns what is to be asked for of an asker's large networks, where nothing is known of a name."""
    name = name.lower()
    address = _reversed(name)
    found = []
    for each in networks:
        if not each.overlay.network.is_large:
            continue
        if address and each.may_have(address):
            found.append(Unknown(each.id, address=address))
        elif not address and (names := tuple(_asked_for(each, name))):
            found.append(Unknown(each.id, names))
    return tuple(found)


def _asked_for(network: NetworkNames, name: str) -> Iterator[str]:
    """Yields the names of services and containers that a name may stand for."""
    for each in dict.fromkeys((name, name.removesuffix("." + network.name))):
        plain = each.removeprefix(TASKS)
        if _ASKED_FOR.fullmatch(plain) and not plain.endswith(_REVERSE):
            yield plain


def _known(networks: Iterable[NetworkNames], name: str, of: Addresses) -> list[tuple[str, ...]]:
    """Returns what a name leads to on the networks that know it: as it is first, then with the network's name
    behind it."""
    plain = [of(each, name) for each in networks]
    on_it = (each for each in networks if name.endswith(f".{each.name}"))
    short = [of(each, name.removesuffix(f".{each.name}")) for each in on_it]
    return [each for each in (*plain, *short) if each is not None]


def _name_of(networks: Iterable[NetworkNames], address: str, kind: str) -> NameAnswer | None:
    for each in networks:
        container = each.container_at(address)
        if container:
            return NameAnswer(name=f"{container}.{each.overlay.network.name}" if kind in (PTR, ANY) else "")
    return None


def _reversed(name: str) -> str:
    """Returns the address that a name of `in-addr.arpa` is about; an empty text for other names."""
    if not name.endswith(_REVERSE):
        return ""
    try:
        bytes_ = name.removesuffix(_REVERSE).split(".")
        return str(ipaddress.IPv4Address(".".join(reversed(bytes_))))
    except ValueError:
        return ""


def _rotated(addresses: tuple[str, ...], turn: int) -> tuple[str, ...]:
    if not addresses:
        return ()
    first = turn % len(addresses)
    return addresses[first:] + addresses[:first]
