"""Published ports by IPVS, where the swarm's data path is that: what the kernel is to have for it. Pure.

IPVS takes packets by a firewall mark, one for each published port, where they come in for this host: so one
service of IPVS is one port at all of the host's addresses. Who is led is nftables' to say, as without it: the
service's chain marks the connection, its packets get the mark of their port, and IPVS leads them to a task
instead of a rule. The way there, and of the answers back to this node, is the same: a swarm can have nodes of
both kinds. What starts at 127.0.0.1 stays with the rule: IPVS lets no such address leave the host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from skep.model.data_path import IPVS
from skep.model.mesh import TCP, Mesh, MeshPort
from skep.network.host import HostFacts
from skep.network.marks import STEERED, STEERED_FLOW
from skep.network.objects import (
    FWMARKS,
    Chain,
    FirewallMark,
    Object,
    RealServer,
    Sysctl,
    VirtualService,
    chain,
)

PublishedPort = tuple[str, int]  # protocol, port
# Docker counts them from there, and who looks for them by ipvsadm finds them so. Rules of policy routing that
# others have look at bits from 14 on, mostly: few swarms publish so many ports.
MARKS = range(257, 1 << 16)
_LOOPBACK = "127.0.0.0/8"


def is_steered(mesh: Mesh, host: HostFacts) -> bool:
    """True where IPVS leads connections to published ports on this node."""
    return mesh.data_path == IPVS and not host.why_no_ipvs


def steering_settings() -> Iterator[Sysctl]:
    """Yields what IPVS is to be set to: conntrack knows what it has translated, and a connection to a task
    that is gone ends, or, of UDP, goes on to another one."""
    yield Sysctl("ipv4/vs/conntrack", "1")
    yield Sysctl("ipv4/vs/expire_nodest_conn", "1")


def fwmarks(
    known: Mapping[PublishedPort, int], ports: Iterable[PublishedPort], taken: Collection[int]
) -> dict[PublishedPort, int]:
    """Returns the marks of ports: who has one keeps it, as the service with it has the connections that
    stand. None for those for which there is no number any more: a rule leads to them."""
    wanted = sorted(set(ports))
    found = {each: known[each] for each in wanted if each in known}
    used = {*known.values(), *taken}
    free = (number for number in MARKS if number not in used)
    for each in wanted:
        if each not in found and (number := next(free, None)) is not None:
            found[each] = number
    return found


def steering_chains() -> Iterator[Chain]:
    """Yields what marks packets of connections that IPVS leads: after nftables has seen where they go (at
    -100), and before IPVS does (at -98, for what starts on the host)."""
    mark = (
        f"{STEERED_FLOW} ct direction original fib daddr type local"
        f" meta mark set meta l4proto . th dport map @{FWMARKS}"
    )
    yield chain("ipvs", [mark], ("filter", "prerouting", -99))
    yield chain("ipvs-own", [mark], ("route", "output", -99))
    # Neither rules of others nor a tunnel's own packets are to look for their way by it.
    yield chain("ipvs-out", [f"{STEERED_FLOW} meta mark set 0"], ("filter", "postrouting", -150))


def steered_chain(made: Chain) -> Chain:
    """Returns a service's chain that has IPVS lead connections, but for those that it cannot."""
    steer = f'ip saddr != {_LOOPBACK} counter name "{made.name}" ct mark set {STEERED:#x} accept'
    return chain(made.name, [steer, *made.rules])


def steering_objects(
    port: MeshPort, serving: Collection[str], reached: Collection[str], mark: int
) -> Iterator[Object]:
    """Yields what IPVS has of a published port. A task that is to end keeps its connections. UDP has none
    that end: what is sent goes to another task at once."""
    yield FirewallMark(port.protocol, port.published, mark)
    yield VirtualService(mark)
    for address in sorted(reached):
        if address in serving:
            yield RealServer(mark, address, port.target)
        elif port.protocol == TCP:
            yield RealServer(mark, address, port.target, weight=0)


def steering_failures(mesh: Mesh, host: HostFacts) -> Iterator[str]:
    """Yields that this node does without IPVS, for people."""
    if mesh.data_path == IPVS and host.why_no_ipvs:
        yield f"published ports are led by nftables here, and not by IPVS: {host.why_no_ipvs}"
