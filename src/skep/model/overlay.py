"""A swarm's overlay network as a node is told of it: who is on it, where, and by which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from .ipv4 import is_ipv4, number_of
from .network import ENCRYPTED_OPTION

MTU = 1450  # what a VXLAN tunnel leaves of an Ethernet frame
# ESP has 8 bytes before what it encrypts, 8 of an IV, and 16 + 2 behind it, which is filled up to four bytes.
ENCRYPTED_MTU = 1416
MTU_OPTION = "com.docker.network.driver.mtu"
MTU_MIN, MTU_MAX = 68, 65_535  # of IPv4


def is_mtu(text: str) -> bool:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MTU_MAX))
    return is_number and MTU_MIN <= int(text) <= MTU_MAX


def mtu_of(options: Mapping[str, str]) -> int:
    """Returns what a packet in a network may have, as its user says it."""
    said = options.get(MTU_OPTION, "")
    if is_mtu(said):
        return int(said)
    return ENCRYPTED_MTU if ENCRYPTED_OPTION in options else MTU


class HasAddress(Protocol):
    """An endpoint of an overlay network, or of the routing mesh."""

    @property
    def address(self) -> str: ...


EndpointKind = TypeVar("EndpointKind", bound=HasAddress)


class OverlayNetwork(Struct, frozen=True, array_like=True):
    """Its subnet, its number on the wire, the UDP port of the tunnels, and what a packet in it may have. Of
    one that `is_large` a node is told its own endpoints, and what it asks for."""

    id: str
    subnet: str
    vni: int
    data_port: int
    name: str = ""
    mtu: int = MTU
    is_large: bool = False
    is_encrypted: bool = False


class OverlayEndpoint(Struct, frozen=True, array_like=True, gc=False):  # there are 100,000
    """A container's address on the network, without a prefix length, and its name. One that takes no new
    connections is about to end, or has not begun to serve: the service's names do not lead to it."""

    address: str
    node_id: str
    name: str = ""
    takes_new: bool = True


class OverlayService(Struct, frozen=True, array_like=True, omit_defaults=True):
    """A service with its tasks on the network, or one single container, whose `name` is empty. `vip` is the
    service's own address there; empty: its names lead to its tasks.

    It is told whole, or, with `gone`, what has changed of it: `endpoints` are those that are new or others,
    `gone` the addresses of those that are no more; the rest of them is as it was."""

    id: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    vip: str = ""
    endpoints: tuple[OverlayEndpoint, ...] = ()
    gone: tuple[str, ...] | None = None


class Overlay(Struct, frozen=True):
    """All that a node was told of one network. `nodes` are where the tunnels of nodes with somebody on it
    end, by node id. `endpoints` are, in a large network, the node's own and those whose addresses it asked
    for, by address: of their services nothing else is known, unless they are among the `services`, too.
    `senders` are, of a large network, where the tunnels of all nodes on it end: nobody else may use them."""

    network: OverlayNetwork
    nodes: dict[str, str] = {}
    services: dict[str, OverlayService] = {}
    endpoints: dict[str, OverlayEndpoint] = {}
    senders: frozenset[str] = frozenset()

    def told(
        self,
        nodes: Iterable[tuple[str, str]],
        gone_nodes: Iterable[str],
        services: Iterable[OverlayService],
        gone_services: Iterable[str],
        endpoints: Iterable[OverlayEndpoint] = (),
        gone_endpoints: Iterable[str] = (),
        senders: Iterable[str] = (),
        gone_senders: Iterable[str] = (),
    ) -> Overlay:
        """Returns the network with what has changed. In a large one nobody says that a node is gone: it goes
        with the last endpoint there."""
        all_nodes, all_services = dict(self.nodes), dict(self.services)
        all_endpoints = dict(self.endpoints)
        all_nodes.update(nodes)
        for service in services:
            all_services[service.id] = _whole(all_services.get(service.id), service)
        for node_id in gone_nodes:
            all_nodes.pop(node_id, None)
        for service_id in gone_services:
            all_services.pop(service_id, None)
        for address in gone_endpoints:
            all_endpoints.pop(address, None)
        all_endpoints.update((each.address, each) for each in endpoints)
        may_send = self.senders.difference(gone_senders).union(senders)
        made = replace(
            self, nodes=all_nodes, services=all_services, endpoints=all_endpoints, senders=may_send
        )
        if self.network.is_large:
            known = {each.node_id for each in all_endpoints.values()}
            for service in all_services.values():
                known.update([each.node_id for each in service.endpoints])
            made = replace(made, nodes={n: a for n, a in all_nodes.items() if n in known})
        return made

    def everyone(self) -> Iterable[OverlayEndpoint]:
        """Returns all endpoints, each once."""
        found = dict(self.endpoints)
        for service in self.services.values():
            found.update((each.address, each) for each in service.endpoints)
        return found.values()


def _whole(before: OverlayService | None, told: OverlayService) -> OverlayService:
    if told.gone is None:
        return told
    known = before.endpoints if before is not None else ()
    return replace(told, endpoints=merged(known, told.endpoints, told.gone), gone=None)


def merged(
    before: Iterable[EndpointKind], changed: Iterable[EndpointKind], gone: Iterable[str]
) -> tuple[EndpointKind, ...]:
    """Returns the endpoints of a service of which was told what has changed; each address is there once."""
    known = {each.address: each for each in (*before, *changed)}
    for address in gone:
        known.pop(address, None)
    return tuple(known.values())


def packed(addresses: Iterable[str]) -> bytes:
    """Returns IPv4 addresses in four bytes each; tunnels have no others."""
    found = (number_of(each).to_bytes(4, "big") for each in addresses if is_ipv4(each))
    return b"".join(sorted(found))


def unpacked(data: bytes) -> list[str]:
    """Returns the addresses of `packed`."""
    return ["{}.{}.{}.{}".format(*data[n : n + 4]) for n in range(0, len(data) - 3, 4)]
