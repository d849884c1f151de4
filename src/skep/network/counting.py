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

from skep.network.marks import NUMBER_MASK, OURS, OURS_MASK
from skep.network.objects import PORT_KINDS, VIP, Chain, chain
from skep.network.segment import Segment

# Of this node's own leading: IPVS's too; one that came by another node has that one's number, and is counted
# there.
_LED_HERE = f"ct mark and {OURS_MASK | NUMBER_MASK:#x} == {OURS:#x}"
COUNTED = f"{_LED_HERE} goto received"  # in a chain that each packet passes once, after conntrack


def is_counted(segments: Collection[Segment]) -> bool:
    """True where this node may lead connections."""
    return any(each.is_mesh or each.has_tunnel for each in segments)


def counting_chains(segments: Collection[Segment]) -> Iterator[Chain]:
    """Yields what counts a packet of a connection that is led here."""
    yield chain("received", ["ct direction reply goto sent", *_of("in", segments)])
    yield chain("sent", [*_of("out", segments)])


def _of(way: str, segments: Collection[Segment]) -> Iterator[str]:
    # By the address first: a service's own one may be asked at a port that is published, too.
    if any(not each.is_mesh for each in segments):
        yield f"ct original ip daddr @{VIP}-{way} accept"
    if any(each.is_mesh for each in segments):
        for kind in PORT_KINDS:
            yield f"meta l4proto {kind} ct original proto-dst @{kind}-{way} accept"
