"""Services' own addresses on networks (VIPs), in rules of the kernel. Pure.

A client's host replaces the address by a task's when the connection begins, in turn, and puts it back into
what that task answers: both go by this host's bridge, as all does that goes to another node (`segment`).
Between two containers of one host the answer would pass from port to port, and nobody would put anything
back: there the bridge has the rules asked, or, where the kernel cannot, the client's address is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from skep.model.ipv4 import is_in
from skep.model.overlay import OverlayService
from skep.network.chains import elements, in_turn
from skep.network.fast_path import fast_service
from skep.network.host import Host
from skep.network.making import Making, Objects
from skep.network.marks import FLOW, SERVED
from skep.network.objects import (
    VIP,
    VIPS,
    Counter,
    Filtered,
    Neighbour,
    Object,
    Traffic,
    VipJump,
    chain,
    vip_chain,
)
from skep.network.segment import Segment
from skep.network.ways import mac_of


def add_vips(making: Making, segments: Collection[Segment], node_id: str, host: Host) -> frozenset[str]:
    """Adds what leads connections from a network's containers to its services. Returns the services' own
    addresses that are led to their tasks."""
    shared: list[Object] = []
    serve: list[str] = []
    back: list[str] = []
    led: set[str] = set()
    for segment in segments:
        services = _services(segment, led)
        # Without a tunnel nobody would answer who asks for the address: names lead to tasks then.
        if not services or not segment.has_tunnel:
            continue
        # Of a network's own containers only: others have no way to it.
        serve.append(f'iifname "{segment.bridge}" ip daddr {segment.subnet} ip daddr vmap @{VIPS}')
        back += _back(segment, services, host)
        if host.filters_bridges:
            shared.append(Filtered(segment.bridge))
        own_mac = mac_of(segment.own)
        for vip, service in services.items():
            serving = segment.ways.placed[service.id].serving
            key = ("vip", segment.network.id, service.id)
            making.add(key, _of_service, vip, segment.tunnel, own_mac, serving, node_id, host.has_fast_path)
        led |= services.keys()
    if serve:
        shared += [chain("serve", serve, ("nat", "prerouting", -106))]
        shared += [chain("back", back, ("nat", "postrouting", 94))]
    making.parts["vips",] = tuple(shared)
    return frozenset(led)


def _services(segment: Segment, led: Collection[str]) -> dict[str, OverlayService]:
    """Returns the services, by their own address, with one of the network's that nobody else has."""
    with_vip = [each for each in segment.services if each.vip and is_in(each.vip, segment.subnet)]
    taken = segment.ways.addresses if with_vip else ()
    return {each.vip: each for each in with_vip if each.vip not in taken and each.vip not in led}


def _of_service(
    vip: str, tunnel: str, own_mac: str, serving: Sequence[str], node_id: str, has_fast_path: bool
) -> Objects:
    refusal = ["meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable"]
    made = in_turn(vip_chain(vip), "dnat to", [*serving], refusal, node_id, SERVED)
    counts = Counter(made.name), Traffic(VIP, vip)
    # Who asks for it goes by this host: by its rules, or the fast path.
    fast = (fast_service(vip, serving, node_id),) if has_fast_path else ()
    return Neighbour(tunnel, vip, own_mac), made, *counts, VipJump(vip, made.name), *fast


def _back(segment: Segment, services: dict[str, OverlayService], host: Host) -> Iterable[str]:
    """Yields whose address is replaced, too, so that the answer comes back by the host."""
    placed = segment.ways.placed
    led_to = frozenset().union(*(placed[each.id].here for each in services.values()))
    if not led_to:
        return
    begun = f'oifname "{segment.bridge}" {FLOW} ct status dnat'
    if not host.filters_bridges:
        here = elements(segment.ways.here)
        yield f"{begun} ip saddr {here} ip daddr {elements(led_to)} masquerade"
        return
    # A task that is led to itself takes nothing that comes from its own address.
    itself = elements(f"{address} . {address}" for address in led_to)
    yield f"{begun} ip saddr . ip daddr {itself} masquerade"
