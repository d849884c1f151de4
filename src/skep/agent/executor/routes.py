"""Which subnets this machine reaches by cards of its own: a bridge must not take them away (Linux)."""

from __future__ import annotations

import ipaddress

from skep.network.seen import Seen
from skep.runtime.errors import Unavailable


def clash_with_host(subnet: str) -> str:
    """Returns whose subnet overlaps with this one; an empty text where nobody's does, or nobody can see.
    Blocking.

    Bridges do not count, for they are engines' own, which look after them; but for those by which this
    machine reaches the world.
    """
    wanted = ipaddress.ip_network(subnet, strict=False)
    if wanted.version != 4:
        return ""
    try:
        with Seen() as seen:
            routes, engines = seen.routes(), seen.all_bridges() - seen.default_devices()
    except Unavailable:
        return ""
    for route in sorted(routes, key=lambda each: (each.destination, each.devices)):
        to, by = ipaddress.IPv4Network(route.destination), ", ".join(route.devices) or "no device"
        is_engines = bool(route.devices) and engines.issuperset(route.devices)
        if to.prefixlen and not is_engines and to.overlaps(wanted):
            return f"{to} of {by}"
    return ""
