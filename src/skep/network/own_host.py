"""The host's own networks, as its kernel has them now (Linux). Blocking: half a millisecond.

Of `/proc`, and not by `seen`, which reads all devices one by one: a host has one per container, and none of
those has an address here. With 600 of them it takes a twenty-seventh of the time.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from skep.model.host_network import HostNetwork
from skep.network.host import RESOLV_CONF, HostFacts, HostRoute, nameservers
from skep.network.own_networks import own_networks

ROUTES = Path("/proc/net/route")  # the main table's, of this network namespace
# A host that has all the internet's routes has a million of them, and 64 networks are told at most.
ROUTES_MAX = 4096


def look(resolv_conf: Path = RESOLV_CONF, routes: Path = ROUTES) -> list[HostNetwork]:
    """Returns the host's own networks; none where the kernel does not say."""
    try:
        with routes.open(errors="replace") as lines:
            found = routes_in(itertools.islice(lines, 1, 1 + ROUTES_MAX))
        devices = psutil.net_if_addrs()
    except (OSError, ValueError):
        return []
    addresses = {
        each.address: device
        for device, given in devices.items()
        for each in given
        if each.family == socket.AF_INET
    }
    uplinks = {device for route in found if route.destination == "0.0.0.0/0" for device in route.devices}
    return own_networks(
        HostFacts(
            devices=addresses,
            uplinks=frozenset(uplinks),
            routes=frozenset(found),
            nameservers=frozenset(nameservers(resolv_conf)),
        )
    )


def routes_in(lines: Iterable[str]) -> list[HostRoute]:
    """Returns the routes of such a listing, but for its head; of several ways the first is listed."""
    found = []
    for line in lines:
        device, to, gateway, _, _, _, _, mask = line.split("\t")[:8]
        network = ipaddress.IPv4Network(f"{_address(to)}/{_address(mask)}")
        gateways = (_address(gateway),) if int(gateway, 16) else ()
        devices = (device,) if device != "*" else ()  # of none: what goes there is refused
        found.append(HostRoute(str(network), devices, gateways))
    return found


def _address(text: str) -> str:
    """Reads an address as the kernel writes it, in its processor's order of bytes."""
    return socket.inet_ntoa(int(text, 16).to_bytes(4, sys.byteorder))
