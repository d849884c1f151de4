"""How many bytes connections to published ports, and to services' own addresses, have carried: what counts
them in the kernel. Pure.

Only a connection's first packet passes its service's chain, where it is counted with the connection. All
others are counted where they pass anyway: once each, on the node that leads the connection, by its mark. The
connection knows where its client went to, whatever was made of that: the port, or the address, is an element
of a set, which counts what is found by it. So there are no rules per service, and a change of a service's
tasks touches nothing of this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from skep.network.marks import NUMBER_MASK, OURS, OURS_MASK, SERVED
from skep.network.objects import BYTES, PORT_KINDS, VIP, Chain, chain
from skep.network.segment import Segment

_CHAIN = "port-bytes"
# Of this node's own leading, IPVS's too: one that came by another node has that one's number in its mark, and
# is counted there.
_LED_HERE = f"ct mark and {OURS_MASK | NUMBER_MASK | SERVED & ~OURS:#x} =="


def counting(segments: Collection[Segment]) -> list[str]:
    """Returns the rules that count: the last of a chain that each packet passes once, after conntrack."""
    rules = []
    if any(each.is_mesh for each in segments):
        rules.append(f"{_LED_HERE} {OURS:#x} goto {_CHAIN}")
    if any(not each.is_mesh and each.has_tunnel for each in segments):
        rules.append(f"{_LED_HERE} {SERVED:#x} ct direction . ct original ip daddr @{BYTES[VIP]}")
    return rules


def counting_chains(segments: Collection[Segment]) -> Iterator[Chain]:
    """Yields what these rules go to."""
    if any(each.is_mesh for each in segments):
        # nftables knows only behind a protocol that its ports are ports.
        to = "ct direction . ct original proto-dst"
        yield chain(_CHAIN, [f"meta l4proto {kind} {to} @{BYTES[kind]} accept" for kind in PORT_KINDS])
