"""The fast path between containers of one overlay network, on different nodes, that address each other
directly (TCP). Pure.

Such a packet needs none of its hosts' rules: nobody's address is replaced, and both hosts' firewalls have
accepted the network as a whole. It is taken where a device gives it to the host, before the bridge, the
routing and conntrack, by a program of BPF (`fast_path.bpf.c`): from a container into the tunnel, and from the
tunnel into the container. That is done for both directions of a connection, or for none:

- a first packet that a container sends to an address of its network that is on another node makes its
  connection known (`skep_flows`), and all its packets take the fast path from then on, in both directions,
  until both sides have ended it, or one has reset it;
- a first packet that comes by the tunnel takes it where its container has begun or taken a connection by the
  fast path before (`skep_homes`): what that one answers makes the connection known here;
- what else a container asks for on its network is a service's own address, or nobody's: conntrack replaces
  it. Nothing to one takes the fast path, and nothing that answers: what a client's port (`skep_led`) has had
  of the fast path before it began such a connection is over, and it begins none there until a minute after
  what it last sent by one.

What is not known takes the way through the host's rules, as it does where a kernel has none of this, and
where one of two nodes has not: each host sees both directions, or neither; or half of one (`halves`), which
its firewall is not to take for invalid.

The program's maps are bounded: 131,072 connections (2,000 new ones a second for a minute, 100 bytes each), as
many clients' ports and homes as have begun any lately (65,536 and 16,384), 20 MB in all once there is an
overlay network. Where one is full, what was used least lately goes, and takes the other way. Of ports 8,192:
more containers than a host has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network

from skep.model.mesh import BRIDGE_PREFIX
from skep.network.making import Making, Objects
from skep.network.objects import Chain, FastPort, FastTunnel, Gateway, Port, chain
from skep.network.segment import Segment
from skep.network.ways import mac_of

# `struct port` of fast_path.bpf.c; numbers as the machine has them, addresses as on the wire. The last is the
# program's own.
_PORT = struct.Struct("=4s4s4sII6sxx4xQ")
_NOBODY = "0.0.0.0"


def add_fast_paths(
    making: Making, segments: Iterable[Segment], ports: Collection[Port], gateways: Collection[Gateway]
) -> None:
    """Adds the fast paths of networks with a tunnel. `ports` are those of all our bridges that lead into
    another network namespace, `gateways` what addresses the bridges have."""
    for each in segments:
        if each.has_tunnel and not each.is_mesh:
            making.add(("fast",), _for_all)
            own = frozenset(port for port in ports if port.bridge == each.bridge)
            here = min((g.address.partition("/")[0] for g in gateways if g.bridge == each.bridge), default="")
            of = each.bridge, each.tunnel, mac_of(each.own), str(each.subnet), here, own
            making.add(("fast", each.network.id), of_network, *of)


def of_network(
    bridge: str, tunnel: str, mac: str, subnet: str, own: str, ports: Collection[Port]
) -> tuple[FastTunnel | FastPort, ...]:
    """Returns the devices whose packets may take the fast path of a network. `mac` is the bridge's, which
    containers send to what is not on their own node, `own` the host's address there."""
    names = sorted(port.name for port in ports)
    return FastTunnel(tunnel), *(FastPort(name, bridge, tunnel, mac, subnet, own) for name in names)


def halves() -> Chain:
    """Returns what has connections go on of which this host sees one direction only: it began by the rules,
    and its answers take the fast path; it was forgotten where there are very many; a port has its program
    a moment later. Conntrack calls what comes by the rules then invalid, firewalls drop that, and the
    connection stands still. Nobody's address is to be replaced in it: it is to be nothing to conntrack, and
    goes on. So are errors (ICMP) about such packets."""
    between = f'iifname "{BRIDGE_PREFIX}*" oifname "{BRIDGE_PREFIX}*"'
    rule = f"{between} ct state invalid meta l4proto {{ icmp, tcp }} notrack"
    return chain("halves", [rule], ("filter", "forward", -151))  # before firewalls'


def packed(port: FastPort, index: Callable[[str], int]) -> bytes:
    """Returns what the program's map has of a port. `index` gives devices' numbers; its errors."""
    subnet = IPv4Network(port.subnet)
    return _PORT.pack(
        subnet.network_address.packed,
        subnet.netmask.packed,
        IPv4Address(port.own or _NOBODY).packed,
        index(port.bridge),
        index(port.tunnel),
        bytes.fromhex(port.mac.replace(":", "")),
        0,
    )


def unpacked(port: str, value: bytes, name: Callable[[int], str]) -> FastPort:
    """Returns what a port's entry says. `name` gives devices' names, empty for one that is gone."""
    address, mask, own, bridge, tunnel, mac, _ = _PORT.unpack(value)
    here = str(IPv4Address(own))
    return FastPort(
        port,
        name(bridge),
        name(tunnel),
        mac.hex(":"),
        f"{IPv4Address(address)}/{int.from_bytes(mask).bit_count()}",
        "" if here == _NOBODY else here,
    )


def _for_all() -> Objects:
    return (halves(),)
