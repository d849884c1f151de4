"""The fast path between containers of one overlay network, on different nodes, that address each other
directly (TCP). Pure.

Such a packet needs none of its hosts' rules: nobody's address is replaced, and both hosts' firewalls have
accepted the network as a whole. It is taken where a device gives it to the host, before the bridge, the
routing and conntrack, and handed to whom the host would hand it (nftables' `fwd`, in a table of family
netdev). That is done for both directions of a connection, or for none:

- what a container sends to an address of its network that is on another node makes its connection known
  (`direct`), and all its packets take the fast path from then on, in both directions;
- what comes by the tunnel takes it where the connection is known, or begins, at a container that has sent
  something by the fast path before (`homes`): what that one answers makes the connection known here;
- a service's own address is replaced by conntrack, so nothing to one takes it, and nothing that answers: a
  client's port that has begun a connection to one (`led`) is left out altogether.

What is not known takes the way through the host's rules, as it does where a kernel has none of this, and
where one of two nodes has not: each host sees both directions, or neither; or half of one (`halves`), which
its firewall is not to take for invalid.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator

from skep.model.mesh import BRIDGE_PREFIX
from skep.network.making import Making, Objects
from skep.network.objects import FAST_TABLE, LED_ADDRESSES, Chain, FastPath, FastTable, Port, chain
from skep.network.segment import Segment
from skep.network.ways import mac_of

# Connections are known for a minute from when they were made known, and what a container sends makes them
# known again: nothing has to be taken out. `led` is for as long, so that none of before is in its way.
KNOWN_S = 60
# Of one node, in a minute: 2,000 new ones a second. Some 130 bytes each, 17 MB where a set is full; what does
# not fit takes the other way.
CONNECTIONS_MAX = 1 << 17
HOMES_MAX = 1 << 14  # containers of one node, and those of before, a minute long
_NAME = re.compile(r"[\w.-]+", re.ASCII)  # of a device that a chain can be named by; engines give no others
DIRECT = "direct"  # the set of connections
# Of parts only the first says of which connection they are. Of a packet that is to go no further earlier
# kernels' `fwd` makes one that goes 255 hops, and hosts of which each takes the other for an address's send
# it to and fro; later ones drop it without a word to its sender.
_WHOLE = "ip frag-off & 0x3fff == 0 ip ttl > 1"
_SENT = "ip saddr . ip daddr . tcp sport . tcp dport"
_CAME = "ip daddr . ip saddr . tcp dport . tcp sport"
_BEGINS = "tcp flags & (syn | ack) == syn"
_NO_HOST = "fib saddr type unicast"  # who sends as this host, or as all: routing does not take that


def sets(table: str = FAST_TABLE) -> Iterator[str]:
    """Yields commands for what the rules go by; they change nothing where it is there."""
    dynamic = f"flags dynamic,timeout; timeout {KNOWN_S}s; size"
    connection = "ipv4_addr . ipv4_addr . inet_service . inet_service"
    yield f"add set netdev {table} {LED_ADDRESSES} {{ type ipv4_addr; }}"
    yield f"add set netdev {table} {DIRECT} {{ type {connection}; {dynamic} {CONNECTIONS_MAX}; }}"
    yield f"add set netdev {table} led {{ type ipv4_addr . inet_service; {dynamic} {CONNECTIONS_MAX}; }}"
    yield f"add set netdev {table} homes {{ type ipv4_addr; {dynamic} {HOMES_MAX}; }}"


def add_fast_paths(making: Making, segments: Iterable[Segment], ports: Collection[Port]) -> None:
    """Adds the fast paths of networks with a tunnel; `ports` are those of all our bridges."""
    for each in segments:
        if each.has_tunnel and not each.is_mesh:
            making.add(("fast",), _table)
            own = frozenset(p for p in ports if p.bridge == each.bridge and _NAME.fullmatch(p.name))
            of = each.bridge, each.tunnel, mac_of(each.own), str(each.subnet), own
            making.add(("fast", each.network.id), of_network, *of)


def of_network(
    bridge: str, tunnel: str, mac: str, subnet: str, ports: Collection[Port]
) -> tuple[FastPath, ...]:
    """Returns the devices whose packets may take the fast path of a network: its tunnel, and its containers'
    ports. `mac` is the bridge's, which containers send to what is not on their own node."""
    hand_on = f'fwd ip to ip daddr device "{bridge}"'
    came = _hook(
        tunnel,
        f"{_WHOLE} {_CAME} @{DIRECT} ip daddr . tcp dport != @led {hand_on}",
        f"{_WHOLE} {_BEGINS} ip daddr @homes {_NO_HOST} {hand_on}",
    )
    elsewhere = f"ether daddr {mac} ip saddr {subnet} ip daddr {subnet}"
    sent = (
        f"{_WHOLE} {_SENT} @{DIRECT} ip saddr . tcp sport != @led {hand_on}",
        f"{_BEGINS} ip daddr @{LED_ADDRESSES} update @led {{ ip saddr . tcp sport }}",
        f"{_WHOLE} {elsewhere} ip daddr != @{LED_ADDRESSES} ip saddr . tcp sport != @led"
        f" fib daddr type unicast {_NO_HOST}"  # not to this node's own address there, nor to all
        f" add @homes {{ ip saddr }} add @{DIRECT} {{ {_SENT} }} {hand_on}",
    )
    return (came, *(_hook(port.name, *sent) for port in sorted(ports, key=lambda each: each.name)))


def halves() -> Chain:
    """Returns what has connections go on of which this host sees one direction only: it began by the rules,
    and its answers take the fast path; a minute is over; the sets are full; a port has its chain a moment
    later. Conntrack calls what comes by the rules then invalid, firewalls drop that, and the connection
    stands still. Nobody's address is to be replaced in it: it is to be nothing to conntrack, and goes on. So
    are errors (ICMP) about such packets."""
    between = f'iifname "{BRIDGE_PREFIX}*" oifname "{BRIDGE_PREFIX}*"'
    rule = f"{between} ct state invalid meta l4proto {{ icmp, tcp }} notrack"
    return chain("halves", [rule], ("filter", "forward", -151))  # before firewalls'


def _table() -> Objects:
    return FastTable(), halves()


def _hook(device: str, *rules: str) -> FastPath:
    stamp = hashlib.blake2s("\n".join(rules).encode(), digest_size=8).hexdigest()
    return FastPath(device, f"fast-{stamp}-{device}", rules)
