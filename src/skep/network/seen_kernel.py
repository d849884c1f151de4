"""What is found in a node's kernel beside what should be there, in words. Pure."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Sequence

from skep.model.kernel_net import COUNTED_MAX, NAMED_MAX, Bytes, Carried, KernelNet
from skep.network import objects
from skep.network.diff import Changes

# As `ip`, `bridge` and `nft` call them.
KINDS: dict[type[objects.Object], tuple[str, str]] = {
    objects.Bridge: ("bridge", "bridges"),
    objects.Tunnel: ("tunnel", "tunnels"),
    objects.EspState: ("security association", "security associations"),
    objects.EspPolicy: ("policy of encryption", "policies of encryption"),
    objects.Port: ("container's port", "containers' ports"),
    objects.Gateway: ("bridge's address", "bridges' addresses"),
    objects.Hairpin: ("hairpin mode of port", "hairpin modes"),
    objects.Filtered: ("nf_call_iptables of bridge", "filtered bridges"),
    objects.Sysctl: ("sysctl", "sysctls"),
    objects.SubnetRoute: ("route", "routes"),
    objects.PortForward: ("bridge's fdb entry", "bridges' fdb entries"),
    objects.Forward: ("tunnel's fdb entry", "tunnels' fdb entries"),
    objects.Neighbour: ("neighbour", "neighbours"),
    objects.ReturnRoute: ("way back", "ways back"),
    objects.ReturnRule: ("rule of a way back", "rules of ways back"),
    objects.Accept: ("iptables' rule", "iptables' rules"),
    objects.Trusted: ("zone of firewalld's for", "zones of firewalld's"),
    objects.VirtualService: ("IPVS service", "IPVS services"),
    objects.RealServer: ("real server of IPVS", "real servers of IPVS"),
    objects.Table: ("nftables' table", "nftables' tables"),
    objects.ChainCounter: ("counter", "counters"),
    objects.Traffic: ("counter of bytes", "counters of bytes"),
    objects.Chain: ("chain", "chains"),
    objects.FirewallMark: ("firewall mark of port", "firewall marks of ports"),
    objects.PortJump: ("published port", "published ports"),
    objects.VipJump: ("service's address", "services' addresses"),
    objects.FastTunnel: ("fast path of tunnel", "tunnels with a fast path"),
    objects.FastPort: ("fast path of port", "ports with a fast path"),
    objects.FastService: ("fast path to service's address", "services' addresses with a fast path"),
}


def kernel_net(found: Iterable[objects.Object], changes: Changes, failures: Sequence[str]) -> KernelNet:
    """Returns what is there, and what `changes` would make otherwise."""
    found = list(found)
    put = {(type(each), each.key) for each in changes.puts}
    # What is to be another is dropped first, where the kernel wants that: it is not too much.
    surplus = [each for each in changes.drops if (type(each), each.key) not in put]
    counts = Counts(KINDS[type(each)][1] for each in found)
    counted, of_bytes = carried(found), {_of(each) for each in found if isinstance(each, objects.Traffic)}
    return KernelNet(
        dict(sorted(counts.items())),
        [named(each) for each in changes.puts[:NAMED_MAX]],
        len(changes.puts),
        [named(each) for each in surplus[:NAMED_MAX]],
        len(surplus),
        {each.of: each.connections for each in counted},
        list(failures),
        {each.of: Bytes(each.received_bytes, each.sent_bytes) for each in counted if each.of in of_bytes},
    )


def carried(found: Iterable[objects.Object]) -> list[Carried]:
    """Returns what was counted, of the `COUNTED_MAX` that led most connections, by name."""
    found = list(found)
    counters = {shown_name(each.name): each for each in found if isinstance(each, objects.ChainCounter)}
    traffic = {_of(each): each for each in found if isinstance(each, objects.Traffic)}
    none = objects.Traffic("", "")
    busiest = sorted(counters, key=lambda name: (-counters[name].packets, name))[:COUNTED_MAX]
    return [
        Carried(
            of,
            counters[of].packets,
            # A connection's first packet is counted by its chain, the others by the set.
            counters[of].octets + traffic.get(of, none).received,
            traffic.get(of, none).sent,
        )
        for of in sorted(busiest)
    ]


def named(each: objects.Object) -> str:
    """Returns what an object is called: `neighbour 10.0.0.3 on skb4097`."""
    kind = KINDS[type(each)][0]
    match each:
        case objects.Port() | objects.Gateway():
            return f"{kind} {each.name if isinstance(each, objects.Port) else each.address} on {each.bridge}"
        case objects.Neighbour():
            return f"{kind} {each.address} on {each.device}"
        case objects.Forward() | objects.PortForward():
            return f"{kind} {each.mac} on {each.tunnel}"
        case objects.Sysctl():
            return f"{kind} {each.path} = {each.value}"
        case objects.EspState():
            return f"{kind} {each.source} to {each.to} ({each.spi:#x})"
        case objects.EspPolicy():
            return f"{kind} {each.direction} of {each.address} port {each.port}"
        case objects.Traffic():
            return f"{kind} {_of(each)}"
        case objects.PortJump() | objects.FirewallMark():
            return f"{kind} {each.port}/{each.protocol}"
        case objects.VirtualService():
            return f"{kind} FWM {each.mark}"
        case objects.RealServer():
            return f"{kind} {each.address}:{each.port} of FWM {each.mark}"
        case objects.ReturnRoute():
            return f"{kind} to {each.via} by {each.bridge}"
        case _:
            return f"{kind} {each.key}"


def _of(each: objects.Traffic) -> str:
    return each.of if each.kind == objects.VIP else f"{each.of}/{each.kind}"


def shown_name(counter: str) -> str:
    """Returns what a chain's counter is of: `tcp-8080` is 8080/tcp, `vip-10-1-0-2` 10.1.0.2."""
    kind, _, rest = counter.partition("-")
    return rest.replace("-", ".") if kind == "vip" else f"{rest}/{kind}"
