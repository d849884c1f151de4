"""Services' own addresses on networks (VIPs), in rules of the kernel. Pure.

A client's host replaces the address by a task's when the connection begins, in turn, and puts it back into
what that task answers: both go by this host's bridge, as all does that goes to another node (`segment`).
Between two containers of one host the answer would pass from port to port, and nobody would put anything
back: there the bridge has the rules asked, or, where the kernel cannot, the client's address is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from skep.model.ipv4 import is_in
from skep.model.overlay import OverlayService
from skep.network.chains import elements, in_turn
from skep.network.host import Host
from skep.network.marks import FLOW
from skep.network.objects import VIPS, Chain, Counter, Filtered, Neighbour, Object, VipJump, chain
from skep.network.segment import Segment
from skep.network.ways import mac_of


def vip_objects(segments: Collection[Segment], node_id: str, host: Host) -> Iterable[Object]:
    """Yields what leads connections from a network's containers to its services."""
    serve: list[str] = []
    back: list[str] = []
    for segment in segments:
        services = vip_services(segment)
        # Without a tunnel nobody would answer who asks for the address: names lead to tasks then.
        if not services or not segment.has_tunnel:
            continue
        # Of a network's own containers only: others have no way to it.
        serve.append(f'iifname "{segment.bridge}" ip daddr {segment.subnet} ip daddr vmap @{VIPS}')
        back += _back(segment, services, host)
        if host.filters_bridges:
            yield Filtered(segment.bridge)
        for service in services:
            # Who asks for it goes by this host.
            yield Neighbour(segment.tunnel, service.vip, mac_of(segment.own))
            made = _vip_chain(service, segment, node_id)
            yield made
            yield Counter(made.name)
            yield VipJump(service.vip, made.name)
    if serve:
        yield chain("serve", serve, ("nat", "prerouting", -106))
        yield chain("back", back, ("nat", "postrouting", 94))


def vip_services(segment: Segment) -> list[OverlayService]:
    """Returns the services with an address of the network's that nobody else has."""
    return [
        each
        for each in segment.services
        if each.vip and each.vip not in segment.addresses and is_in(each.vip, segment.subnet)
    ]


def _vip_chain(service: OverlayService, segment: Segment, node_id: str) -> Chain:
    refusal = ["meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable"]
    addresses = segment.ways.usable(service.endpoints)
    return in_turn(f"vip-{service.vip.replace('.', '-')}", "dnat to", addresses, refusal, node_id)


def _back(segment: Segment, services: Collection[OverlayService], host: Host) -> Iterable[str]:
    """Yields whose address is replaced, too, so that the answer comes back by the host."""
    here = {each.address for each in segment.ways.local}
    led_to = {each.address for service in services for each in service.endpoints} & here
    if not led_to:
        return
    begun = f'oifname "{segment.bridge}" {FLOW} ct status dnat'
    if not host.filters_bridges:
        yield f"{begun} ip saddr {elements(here)} ip daddr {elements(led_to)} masquerade"
        return
    # A task that is led to itself takes nothing that comes from its own address.
    itself = elements(f"{address} . {address}" for address in led_to)
    yield f"{begun} ip saddr . ip daddr {itself} masquerade"
