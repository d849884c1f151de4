"""Which subnets this machine reaches by cards of its own: a bridge must not take them away (Linux)."""

from __future__ import annotations

import ipaddress
from pathlib import Path

ROUTES = Path("/proc/net/route")
CARDS = Path("/sys/class/net")


def clash_with_host(subnet: str, routes: Path = ROUTES, cards: Path = CARDS) -> str:
    """Returns whose subnet overlaps with this one; an empty text where nobody's does.

    Bridges do not count: they are engines' own, which look after them.
    """
    wanted = ipaddress.ip_network(subnet, strict=False)
    if wanted.version != 4:
        return ""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return ""
    for line in lines:
        card, destination, _, _, _, _, _, mask = line.split()[:8]
        if int(mask, 16) == 0 or (cards / card / "bridge").exists():
            continue
        route = ipaddress.IPv4Network((_address(destination), _address(mask)))
        if route.overlaps(wanted):
            return f"{route} of {card}"
    return ""


def _address(hexadecimal: str) -> str:
    """The kernel writes them as numbers of the machine's byte order, which is the low byte first."""
    return str(ipaddress.IPv4Address(bytes.fromhex(hexadecimal)[::-1]))
