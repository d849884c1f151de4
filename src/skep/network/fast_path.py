"""The fast path of TCP between containers of one overlay network: to each other's own addresses, on different
nodes, and to services' addresses, wherever their tasks are. Pure.

Such a packet needs none of its hosts' rules: both hosts' firewalls have accepted the network as a whole. It
is taken where a device gives it to the host, before the bridge, the routing and conntrack, by a program of
BPF (`fast_path.bpf.c`): from a container into the tunnel, from the tunnel into a container, and from one
container of this node into another. That is done for both directions of a connection, or for none:

- a first packet that a container sends to an address of its network that is on another node makes its
  connection known (`skep_flows`), and all its packets take the fast path from then on, in both directions,
  until both sides have ended it, or one has reset it;
- one to a service's own address (`skep_services`) gets the task whose turn it is, and what is answered the
  service's address; both ways are known, and counted (`skep_counts`);
- a first packet that comes by the tunnel takes it where its container has begun or taken a connection before
  (`skep_homes`): what that one answers makes the connection known here;
- where the program cannot lead to a task (one here that it has not seen yet, a client that asks itself, too
  many tasks), the rules do, by conntrack. Nothing that answers to that takes the fast path: what the client's
  port (`skep_led`) has had of it before it began such a connection is over, and for a minute it begins none.

What is not known takes the way through the host's rules, as it does where a kernel has none of this, and
where one of two nodes has not: each host sees both directions, or neither; or half of one (`halves`), which
its firewall is not to take for invalid.

The program's maps are bounded, 25 MB in all once there is an overlay network: 131,072 connections (those to
services are two each, 150 bytes). What does not fit takes the other way; what is known stays, whoever begins
how many. Those that nobody ended, as their container's node has gone, are forgotten when others do not fit
and a quarter of an hour is over (`FastPaths.sweep`). Of clients' ports and of homes the 65,536 and 16,384
that were seen last. Of ports 8,192, more containers than a host has; of services 16,384, as long as they are,
2 kB each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from msgspec.structs import replace

from skep.model.mesh import BRIDGE_PREFIX
from skep.network.making import Making, Objects
from skep.network.objects import (
    VIP,
    Chain,
    ChainCounter,
    FastPort,
    FastService,
    FastTunnel,
    Gateway,
    Object,
    Port,
    Traffic,
    chain,
    vip_chain,
)
from skep.network.segment import Segment
from skep.network.ways import mac_of

# `struct port` of fast_path.bpf.c; numbers as the machine has them, addresses as on the wire. The last is the
# program's own.
_PORT = struct.Struct("=4s4s4sII6sxx4xQ")
TASKS_MAX = 512  # of a service: 2 kB in the kernel
_SERVICE = struct.Struct(f"=II{4 * TASKS_MAX}s")
_COUNTS = struct.Struct("=QQQ")
_FLOW_BEGIN = struct.Struct("=Qq")  # of `struct flow`: when it began, and when something was sent last
QUIET_S = 900.0  # of a connection that nobody has ended, where no more fit: its container or node may be gone
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


def fast_service(vip: str, serving: Sequence[str], node_id: str) -> FastService:
    """Returns what leads to a service by the fast path: not with the same task first on all nodes."""
    tasks = tuple(serving) if len(serving) <= TASKS_MAX else ()
    return FastService(vip, tasks, sum(node_id.encode()))


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


def packed_service(service: FastService) -> bytes:
    """Returns what the program's map has of a service."""
    tasks = b"".join(IPv4Address(each).packed for each in service.tasks)
    return _SERVICE.pack(len(service.tasks), service.first, tasks)


def unpacked_service(vip: str, value: bytes) -> FastService:
    count, first, packed_tasks = _SERVICE.unpack(value)
    tasks = (packed_tasks[at : at + 4] for at in range(0, 4 * min(count, TASKS_MAX), 4))
    return FastService(vip, tuple(str(IPv4Address(each)) for each in tasks), first)


class Counts(NamedTuple):
    """What was led to a service's address by the fast path: connections, and their bytes."""

    begun: int = 0
    received: int = 0
    sent: int = 0


def is_quiet(value: bytes, now: float) -> bool:
    """True for a connection whose container on this host has sent nothing for `QUIET_S`; `now` in seconds
    since the machine's start."""
    _, seen_ns = _FLOW_BEGIN.unpack_from(value)
    return bool(now - seen_ns / 1e9 > QUIET_S)


def unpacked_counts(value: bytes) -> Counts:
    return Counts(*_COUNTS.unpack(value))


def with_counts(found: Iterable[Object], counts: Mapping[str, Counts]) -> Iterator[Object]:
    """Yields what rules have counted, with what the program has, by services' addresses."""
    by_chain = {vip_chain(vip): each for vip, each in counts.items()}
    for each in found:
        if isinstance(each, ChainCounter) and each.name in by_chain:
            yield replace(each, packets=each.packets + by_chain[each.name].begun)
        elif isinstance(each, Traffic) and each.kind == VIP and each.of in counts:
            fast = counts[each.of]
            yield replace(each, received=each.received + fast.received, sent=each.sent + fast.sent)
        else:
            yield each


def _for_all() -> Objects:
    return (halves(),)
