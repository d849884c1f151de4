"""Which IPv4 networks are the host's own, of all that its kernel has: what is told to managers. Pure.

What `clash` holds a subnet against, before anybody asks for it. An engine's bridges are none of it: engines
look after them, and some stand for the swarm's networks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from skep.model.host_network import HOST_NETWORKS_MAX, WORLD_BITS, HostNetwork
from skep.model.ipv4 import is_ipv4
from skep.network.clash import is_engines, is_ours
from skep.network.host import HostFacts

Found = tuple[ipaddress.IPv4Network, str]


def own_networks(host: HostFacts) -> list[HostNetwork]:
    """Returns the host's own networks, those within others left out; where there are too many, the private
    ones before others, and large ones before small: overlay networks are of the former, and meet the latter
    less."""
    found: dict[ipaddress.IPv4Network, str] = {}
    for network, of in _all(host):
        if not network.is_loopback and not network.is_multicast:
            found.setdefault(network, of)
    kept: list[Found] = []
    last = -1
    for network in sorted(found, key=lambda each: (int(each.network_address), each.prefixlen)):
        if int(network.network_address) > last:
            kept.append((network, found[network]))
            last = int(network.broadcast_address)
    kept.sort(key=lambda each: (not each[0].is_private, each[0].prefixlen, int(each[0].network_address)))
    return [HostNetwork(str(network), of) for network, of in kept[:HOST_NETWORKS_MAX]]


def _all(host: HostFacts) -> Iterator[Found]:
    for route in sorted(host.routes, key=lambda each: (each.destination, each.devices)):
        if route.devices and all(is_ours(each) or is_engines(each, host) for each in route.devices):
            continue
        by = ", ".join(route.devices) or "no device"
        to = ipaddress.IPv4Network(route.destination)
        if to.prefixlen > WORLD_BITS:
            yield to, by
        for gateway in route.gateways:
            yield ipaddress.IPv4Network(gateway), f"gateway by {by}"
    for address, device in sorted(host.devices.items()):
        if not is_ours(device) and not is_engines(device, host):
            yield ipaddress.IPv4Network(address), device
    for address in sorted(host.nameservers):
        if is_ipv4(address):
            yield ipaddress.IPv4Network(address), "nameserver"
