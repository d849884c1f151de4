"""Whether a network's subnet is somebody else's here already: this host would lose its way to him. Pure.

As Docker holds subnets against routes and nameservers, with what a swarm needs beside: its managers. What is
of the swarm's networks is none of it, whatever of it there is, so that what is decided here does not change
by what is done about it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping

from skep.model.host_network import WORLD_BITS
from skep.model.ipv4 import is_in
from skep.model.mesh import BRIDGE_PREFIX
from skep.network.host import HostFacts, HostRoute

# By their names: what is known of routes may be older by a moment than what is known of bridges.
_OURS = re.compile(f"{BRIDGE_PREFIX}[0-9]+")
_ENGINES = re.compile("br-[0-9a-f]{12}")  # what an engine calls the bridges of its networks


def clash(subnet: ipaddress.IPv4Network, own: str, managers: Collection[str], host: HostFacts) -> str:
    """Returns what this host would lose to the subnet, for people; empty where it can have it."""
    of_peers = _of_peers(subnet, own, managers, host)
    return next(iter((*_of_routes(subnet, host), *_of_addresses(subnet, host), *of_peers)), "")


def _of_routes(subnet: ipaddress.IPv4Network, host: HostFacts) -> Iterable[str]:
    for route in sorted(host.routes, key=lambda each: (each.destination, each.devices)):
        if _is_spared(route, subnet, host):
            continue
        to = ipaddress.IPv4Network(route.destination)
        by = ", ".join(route.devices) or "no device"
        if to.prefixlen > WORLD_BITS and to.overlaps(subnet):
            yield f"this host's route to {to} by {by}"
        for gateway in route.gateways:
            if is_in(gateway, subnet):
                yield f"the gateway {gateway} of this host's route to {to} by {by}"


def _is_spared(route: HostRoute, subnet: ipaddress.IPv4Network, host: HostFacts) -> bool:
    """True for what is ours, and for the network that an earlier skep had an engine make."""
    is_all_of_it = route.destination == str(subnet)
    return bool(route.devices) and all(
        is_ours(device) or (is_all_of_it and is_engines(device, host)) for device in route.devices
    )


def _of_addresses(subnet: ipaddress.IPv4Network, host: HostFacts) -> Iterable[str]:
    for address, device in sorted(host.devices.items()):
        is_spared = is_ours(device) or is_engines(device, host)
        if not is_spared and is_in(address, subnet):
            yield f"this host's address {address} of device {device}"


def _of_peers(
    subnet: ipaddress.IPv4Network, own: str, managers: Collection[str], host: HostFacts
) -> Iterable[str]:
    """Yields whom this host needs and may have by a default route only."""
    whose = [("this node's own address", own)]
    whose += [("its nameserver", each) for each in sorted(host.nameservers)]
    whose += [("the way to the manager", each) for each in managers]
    for what, text in whose:
        if is_in(text, subnet):
            yield f"{what} {text}"


def nodes_inside(subnet: ipaddress.IPv4Network, nodes: Mapping[str, str], own: str) -> dict[str, str]:
    """Returns those of the other nodes that say an address of the network itself, each with it. It is a
    task's or nobody's: what is for that task must not go to them."""
    return {node: each for node, each in nodes.items() if each != own and is_in(each, subnet)}


def is_ours(device: str) -> bool:
    """True for a bridge of the swarm's networks."""
    return bool(_OURS.fullmatch(device))


def is_engines(device: str, host: HostFacts) -> bool:
    """True for the bridge of an engine's network, which is not the host's way to others."""
    return device not in host.uplinks and bool(_ENGINES.fullmatch(device))
