"""What is found in a node's kernel beside what should be there, in words. Pure."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Sequence

from skep.model.kernel_net import COUNTED_MAX, NAMED_MAX, Bytes, KernelNet
from skep.network.diff import Changes
from skep.network.objects import (
    VIP,
    Accept,
    Bridge,
    Chain,
    Counter,
    EspPolicy,
    EspState,
    FastPort,
    FastService,
    FastTunnel,
    Filtered,
    FirewallMark,
    Forward,
    Gateway,
    Hairpin,
    Neighbour,
    Object,
    Port,
    PortForward,
    PortJump,
    RealServer,
    ReturnRoute,
    ReturnRule,
    SubnetRoute,
    Sysctl,
    Table,
    Traffic,
    Trusted,
    Tunnel,
    VipJump,
    VirtualService,
)

# As `ip`, `bridge` and `nft` call them.
KINDS: dict[type[Object], tuple[str, str]] = {
    Bridge: ("bridge", "bridges"),
    Tunnel: ("tunnel", "tunnels"),
    EspState: ("security association", "security associations"),
    EspPolicy: ("policy of encryption", "policies of encryption"),
    Port: ("container's port", "containers' ports"),
    Gateway: ("bridge's address", "bridges' addresses"),
    Hairpin: ("hairpin mode of port", "hairpin modes"),
    Filtered: ("nf_call_iptables of bridge", "filtered bridges"),
    Sysctl: ("sysctl", "sysctls"),
    SubnetRoute: ("route", "routes"),
    PortForward: ("bridge's fdb entry", "bridges' fdb entries"),
    Forward: ("tunnel's fdb entry", "tunnels' fdb entries"),
    Neighbour: ("neighbour", "neighbours"),
    ReturnRoute: ("way back", "ways back"),
    ReturnRule: ("rule of a way back", "rules of ways back"),
    Accept: ("iptables' rule", "iptables' rules"),
    Trusted: ("zone of firewalld's for", "zones of firewalld's"),
    VirtualService: ("IPVS service", "IPVS services"),
    RealServer: ("real server of IPVS", "real servers of IPVS"),
    Table: ("nftables' table", "nftables' tables"),
    Counter: ("counter", "counters"),
    Traffic: ("counter of bytes", "counters of bytes"),
    Chain: ("chain", "chains"),
    FirewallMark: ("firewall mark of port", "firewall marks of ports"),
    PortJump: ("published port", "published ports"),
    VipJump: ("service's address", "services' addresses"),
    FastTunnel: ("fast path of tunnel", "tunnels with a fast path"),
    FastPort: ("fast path of port", "ports with a fast path"),
    FastService: ("fast path to service's address", "services' addresses with a fast path"),
}


def kernel_net(found: Iterable[Object], changes: Changes, failures: Sequence[str]) -> KernelNet:
    """Returns what is there, and what `changes` would make otherwise."""
    found = list(found)
    put = {(type(each), each.key) for each in changes.puts}
    # What is to be another is dropped first, where the kernel wants that: it is not too much.
    surplus = [each for each in changes.drops if (type(each), each.key) not in put]
    counts = Counts(KINDS[type(each)][1] for each in found)
    counters = {shown_name(each.name): each for each in found if isinstance(each, Counter)}
    busiest = sorted(counters, key=lambda name: (-counters[name].packets, name))[:COUNTED_MAX]
    traffic = {_of(each): each for each in found if isinstance(each, Traffic)}
    counted = sorted(traffic.keys() & set(busiest))
    return KernelNet(
        dict(sorted(counts.items())),
        [named(each) for each in changes.puts[:NAMED_MAX]],
        len(changes.puts),
        [named(each) for each in surplus[:NAMED_MAX]],
        len(surplus),
        {name: counters[name].packets for name in sorted(busiest)},
        list(failures),
        {of: Bytes(counters[of].octets + traffic[of].received, traffic[of].sent) for of in counted},
    )


def named(each: Object) -> str:
    """Returns what an object is called: `neighbour 10.0.0.3 on skb4097`."""
    kind = KINDS[type(each)][0]
    match each:
        case Port() | Gateway():
            return f"{kind} {each.name if isinstance(each, Port) else each.address} on {each.bridge}"
        case Neighbour():
            return f"{kind} {each.address} on {each.device}"
        case Forward() | PortForward():
            return f"{kind} {each.mac} on {each.tunnel}"
        case Sysctl():
            return f"{kind} {each.path} = {each.value}"
        case EspState():
            return f"{kind} {each.source} to {each.to} ({each.spi:#x})"
        case EspPolicy():
            return f"{kind} {each.direction} of {each.address} port {each.port}"
        case Traffic():
            return f"{kind} {_of(each)}"
        case PortJump() | FirewallMark():
            return f"{kind} {each.port}/{each.protocol}"
        case VirtualService():
            return f"{kind} FWM {each.mark}"
        case RealServer():
            return f"{kind} {each.address}:{each.port} of FWM {each.mark}"
        case ReturnRoute():
            return f"{kind} to {each.via} by {each.bridge}"
        case _:
            return f"{kind} {each.key}"


def _of(each: Traffic) -> str:
    return each.of if each.kind == VIP else f"{each.of}/{each.kind}"


def shown_name(counter: str) -> str:
    """Returns what a chain's counter is of: `tcp-8080` is 8080/tcp, `vip-10-1-0-2` 10.1.0.2."""
    kind, _, rest = counter.partition("-")
    return rest.replace("-", ".") if kind == "vip" else f"{rest}/{kind}"
