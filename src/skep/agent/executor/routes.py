"""Which subnets this machine reaches by cards of its own: a bridge must not take them away (Linux)."""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Callable
from pathlib import Path

ROUTES = Path("/proc/net/route")
_SIOCETHTOOL, _ETHTOOL_GDRVINFO = 0x8946, 3  # linux/sockios.h, linux/ethtool.h
_DRVINFO_BYTES, _DRIVER = 196, slice(4, 36)  # struct ethtool_drvinfo, and `driver` in it


def is_bridge(card: str) -> bool:
    """Returns whether the network card of that name is a bridge.

    The kernel is asked through a socket, which belongs to this process's network. /sys shows the network of
    whoever mounted it: in a network of its own, none of one's bridges.
    """
    info = array.array("B", struct.pack("I", _ETHTOOL_GDRVINFO).ljust(_DRVINFO_BYTES, b"\0"))
    request = struct.pack("16sP16x", card.encode(), info.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            fcntl.ioctl(asked, _SIOCETHTOOL, request)
        except OSError:
            return False  # it has no driver to speak of, or is gone
    return bytes(info[_DRIVER]).rstrip(b"\0") == b"bridge"


def clash_with_host(subnet: str, routes: Path = ROUTES, is_bridge: Callable[[str], bool] = is_bridge) -> str:
    """Returns whose subnet overlaps with this one; an empty text where nobody's does.

    Bridges do not count, for they are engines' own, which look after them; but for those by which this
    machine reaches the world.
    """
    wanted = ipaddress.ip_network(subnet, strict=False)
    if wanted.version != 4:
        return ""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return ""
    found = [(line.split()[0], line.split()[1], line.split()[7]) for line in lines]
    uplinks = {card for card, _, mask in found if int(mask, 16) == 0}
    for card, destination, mask in found:
        if int(mask, 16) == 0 or (card not in uplinks and is_bridge(card)):
            continue
        route = ipaddress.IPv4Network((_address(destination), _address(mask)))
        if route.overlaps(wanted):
            return f"{route} of {card}"
    return ""


def _address(hexadecimal: str) -> str:
    """The kernel writes them as numbers of the machine's byte order, which is the low byte first."""
    return str(ipaddress.IPv4Address(bytes.fromhex(hexadecimal)[::-1]))
