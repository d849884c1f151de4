"""A new network's subnets and VXLAN ids: the ones asked for, or the next that are free. Pure.

As Docker: subnets come from the swarm's default pools one after the other, the gateway is the first address
of a subnet, or of the range in it that addresses are taken from, VXLAN ids count from 4096 (swarmkit's
networkallocator; libnetwork's overlay manager).
"""

from __future__ import annotations

import bisect
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from skep.model.host_network import HostNetwork
from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec
from skep.runtime.errors import Denied, Invalid
from skep.store.host_networks import KnownHostNetworks

DEFAULT_POOLS = ("10.0.0.0/8",)
DEFAULT_SIZE = 24
VXLAN_FIRST, VXLAN_LAST = 4096, (1 << 24) - 1
_VXLAN_ID = re.compile(r"[0-9]{1,8}")  # of 24 bits
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
NO_SUBNET = "all predefined address pools have been fully subnetted"
NAMED_MAX = 3  # hosts that are named; thousands may have the same LAN

Interval = tuple[int, int]
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class GivenSubnets(Struct, frozen=True):
    """What a new network gets."""

    pools: list[IPAMConfig]
    options: dict[str, str]


def give(
    spec: NetworkSpec,
    networks: Iterable[Network],
    pools: Sequence[str],
    size: int,
    after: str = "",
    after_vxlan: int = 0,
    hosts: KnownHostNetworks | None = None,
    name_of: Callable[[str], str] = str,
    nodes: Collection[str] = (),
) -> GivenSubnets:
    """Returns subnets and options of a new overlay network; `after` is the subnet given out last, and
    `after_vxlan` the VXLAN id: containers of a network that was removed may be ending for a while yet.
    `hosts` are the nodes', whose own networks it is not to overlap, `name_of` says what a node is called. A
    subnet for which one of the `nodes` has room may be had all the same: tasks are placed there.

    Errors: `Denied` for a subnet that another network has, or all hosts, `Invalid` where none is left.
    """
    networks, hosts = list(networks), hosts or KnownHostNetworks()
    taken = [(subnet_of(pool), network.spec.name) for network in networks for pool in network.pools]
    asked = spec.ipam.config if spec.ipam is not None else []
    given = []
    for config in asked:
        subnet = subnet_of(config)
        for each, name in taken:
            if subnet.version == each.version and subnet.overlaps(each):
                raise Denied(f"{OVERLAP}: {subnet} overlaps {each} of network {name}")
        if isinstance(subnet, ipaddress.IPv4Network) and not _has_room(subnet, hosts, nodes):
            raise Denied(_of_hosts(subnet, hosts.on(subnet), name_of))
        taken.append((subnet, spec.name))
        given.append(_with_gateway(config, subnet))
    if not given:
        pools, size = pools or DEFAULT_POOLS, size or DEFAULT_SIZE
        subnets = [subnet for subnet, _ in taken]
        found = next_subnet(subnets, pools, size, after, hosts.merged())
        found = found or next_subnet(subnets, pools, size, after)
        if found is None or not _has_room(found, hosts, nodes):
            raise Invalid(_full(subnets, pools, size, hosts, name_of))
        given.append(_with_gateway(IPAMConfig(subnet=str(found)), found))
    return GivenSubnets(
        given, {**spec.options, VXLAN_OPTION: _vxlan_ids(spec, networks, len(given), after_vxlan)}
    )


def _has_room(subnet: ipaddress.IPv4Network, hosts: KnownHostNetworks, nodes: Collection[str]) -> bool:
    of_hosts = hosts.on(subnet)
    return not of_hosts or any(each not in of_hosts for each in nodes)


def subnet_of(pool: IPAMConfig) -> Subnet:
    """Errors: `ValueError`."""
    return ipaddress.ip_network(pool.subnet, strict=False)


def _of_hosts(
    subnet: ipaddress.IPv4Network, of_hosts: Mapping[str, HostNetwork], name_of: Callable[[str], str]
) -> str:
    return (
        f"{OVERLAP}: {subnet} overlaps hosts' own networks: {_named(of_hosts, name_of)}. Containers there"
        " would take away the host's ways to others. Choose another one (docker network create --subnet), or"
        " none: one that is free is given then"
    )


def _named(of_hosts: Mapping[str, HostNetwork], name_of: Callable[[str], str]) -> str:
    named = sorted(
        f"{network.prefix} of node {name_of(node)} ({network.of})" for node, network in of_hosts.items()
    )
    more = f" and of {len(named) - NAMED_MAX} more nodes" if len(named) > NAMED_MAX else ""
    return ", ".join(named[:NAMED_MAX]) + more


def _full(
    taken: Iterable[Subnet],
    pools: Sequence[str],
    size: int,
    hosts: KnownHostNetworks,
    name_of: Callable[[str], str],
) -> str:
    """Returns which pools have no subnet left, who has them, and what helps."""
    blocks = [ipaddress.IPv4Network(each, strict=False) for each in pools]
    count = sum(any(each.version == 4 and each.overlaps(block) for block in blocks) for each in taken)
    of_hosts = {node: network for block in blocks for node, network in hosts.on(block).items()}
    by_hosts = (
        f", and hosts have networks of their own there: {_named(of_hosts, name_of)}" if of_hosts else ""
    )
    return (
        f"{NO_SUBNET}: {', '.join(map(str, blocks))} in subnets of /{size} ({count} of the swarm's networks"
        f" are there{by_hosts}). Remove networks that nobody needs (docker network prune), or give this one a"
        " subnet elsewhere (docker network create --subnet); a new swarm can begin with larger pools (docker"
        " swarm init --default-addr-pool, --default-addr-pool-mask-length)"
    )


def next_subnet(
    taken: Iterable[Subnet],
    pools: Sequence[str],
    size: int,
    after: str = "",
    of_hosts: Sequence[Interval] = (),
) -> ipaddress.IPv4Network | None:
    """Returns the first free subnet behind `after`, else the first free one of all; None: there is none.
    `of_hosts` is in order, and none of it overlaps another."""
    intervals = sorted((int(n.network_address), int(n.broadcast_address)) for n in taken if n.version == 4)
    last = int(ipaddress.ip_network(after, strict=False).broadcast_address) if after else -1
    for begin in (last + 1, 0):
        for text in pools:
            pool = ipaddress.IPv4Network(text, strict=False)  # as it was given, host bits and all
            found = _free(
                (intervals, of_hosts), int(pool.network_address), int(pool.broadcast_address), size, begin
            )
            if found is not None:
                return ipaddress.IPv4Network((found, size))
    return None


def _free(taken: Iterable[Sequence[Interval]], first: int, last: int, size: int, begin: int) -> int | None:
    """Returns the first aligned address from `begin` on whose whole subnet nobody has."""
    step = 1 << (32 - size)
    at = max(first, -(-begin // step) * step)
    while at + step - 1 <= last:
        end = max(_taken_until(intervals, at, at + step - 1) for intervals in taken)
        if end < at:
            return at
        at = -(-(end + 1) // step) * step
    return None


def _taken_until(intervals: Sequence[Interval], first: int, last: int) -> int:
    """Returns the end of the last interval that has some of these addresses; -1 where there is none."""
    place = bisect.bisect_right(intervals, (last, 1 << 32))
    # Of intervals that do not overlap each other only the last one that begins before the end counts.
    if place == 0 or intervals[place - 1][1] < first:
        return -1
    return intervals[place - 1][1]


def _with_gateway(config: IPAMConfig, subnet: Subnet) -> IPAMConfig:
    if config.gateway:
        return config
    within = ipaddress.ip_network(config.ip_range, strict=False) if config.ip_range else subnet
    first = within.network_address
    if first == subnet.network_address and subnet.num_addresses > 1:
        first += 1  # the network's own
    return replace(config, gateway=str(first))


def _vxlan_ids(spec: NetworkSpec, networks: Iterable[Network], count: int, after: int) -> str:
    used = {each for network in networks for each in ids_of(network.options.get(VXLAN_OPTION, ""))}
    asked = spec.options.get(VXLAN_OPTION, "")
    if asked:
        wanted = ids_of(asked)
        if len(wanted) != count or not all(VXLAN_FIRST <= each <= VXLAN_LAST for each in wanted):
            raise Invalid(
                f"invalid {VXLAN_OPTION}: '{asked}' ({count} numbers from {VXLAN_FIRST} to {VXLAN_LAST})"
            )
        if used & set(wanted):
            raise Invalid(f"invalid {VXLAN_OPTION}: '{asked}' is in use by another network")
        return asked
    found: list[str] = []
    number = after
    while len(found) < count:
        number = number + 1 if VXLAN_FIRST <= number < VXLAN_LAST else VXLAN_FIRST
        if number not in used:
            found.append(str(number))
            used.add(number)
    return ",".join(found)


def ids_of(text: str) -> list[int]:
    """Returns the numbers of a list of VXLAN ids; nothing for what is none."""
    parts = text.split(",") if text else []
    return [int(part) for part in parts if _VXLAN_ID.fullmatch(part.strip())]
