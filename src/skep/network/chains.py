"""The chains of nftables as this node is to have them. Pure; `desired` says what they are for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from skep.model.mesh import BRIDGE_PREFIX, TCP, Mesh, MeshPort
from skep.network.host import Host
from skep.network.marks import FLOW, NUMBER_MASK, OURS, OURS_MASK, STEERED_FLOW, TUNNELLED
from skep.network.objects import PORTS, Chain, chain
from skep.network.segment import Segment
from skep.network.steering import is_steered
from skep.network.ways import is_loopback, mac_of

# A node makes all that it wants anew with each change, of which most is as it was. A chain of ten tasks has a
# kilobyte: 4 MB in all mostly, 16 at most.
REMEMBERED, REMEMBERED_TASKS = 4096, 64


def shared_chains(segments: Collection[Segment], host: Host) -> Iterable[Chain]:
    """Yields the chains that keep networks' tunnels and bridges to those whose they are."""
    early = [rule for each in segments for rule in _outside(each)]
    yield chain("early", early, ("filter", "prerouting", -301))
    arrive = [rule for each in segments for rule in _arrive(each)]
    yield chain("arrive", arrive, ("filter", "prerouting", -199))  # -200: conntrack
    if len(segments) > 1:
        yield chain("apart", _apart(segments), ("filter", "forward", -150))
    # That a packet goes out by the bridge it came in by is no news for its sender.
    quiet = f'oifname "{BRIDGE_PREFIX}*" icmp type redirect drop'
    flows = [f"{FLOW} icmp type redirect drop"] if any(each.is_mesh for each in segments) else []
    yield chain("quiet", [quiet, *flows], ("filter", "output", -150))


def mesh_chains(segment: Segment, host: Host, mesh: Mesh, numbered: Mapping[str, int]) -> Iterable[Chain]:
    """Yields the chains that all ports share. `numbered` are the other nodes' numbers, by their addresses."""
    # Only who goes to a task comes by a node: any container may take a node's MAC address for its own.
    inside = f'iifname "{segment.bridge}" ip daddr {segment.subnet}'
    yield chain("zones", _zones(segment.bridge, inside, numbered), ("filter", "prerouting", -301))
    yield chain("marks", _marks(inside, numbered), ("filter", "prerouting", -150))
    jump = f"fib daddr type local meta l4proto . th dport vmap @{PORTS}"
    yield chain("enter", [jump], ("nat", "prerouting", -105))  # before the engine's own, at -100
    yield chain("begin", [jump], ("nat", "output", -105))
    # The tunnel's own packets look for their way with the mark of what they carry.
    unmark = f"meta mark and {OURS_MASK:#x} == {OURS:#x} meta mark set 0"
    yield chain("unmark", [unmark], ("filter", "postrouting", -150))
    yield chain("leave", _leave(segment, host, mesh), ("nat", "postrouting", 95))


def _outside(segment: Segment) -> Iterable[str]:
    """Yields who may use the tunnel: a tunnel takes what anybody sends to its port and number. Others have
    tunnels at the same port, whose packets are told by their number: 24 bits, 12 bytes behind UDP's begin."""
    network, senders = segment.network, segment.ways.senders
    if not segment.has_tunnel:
        return
    frames = f"udp dport {network.data_port} @th,96,24 {network.vni} fib daddr type local"
    if senders:
        yield f"{frames} ip saddr != {elements(senders)} drop"
        yield f"{frames} meta mark set {TUNNELLED:#x}"  # what is in it keeps that
    else:
        yield f"{frames} drop"


def _arrive(segment: Segment) -> list[str]:
    """By the tunnel come connections to tasks, and answers: nothing new for this host or for others."""
    if not segment.has_tunnel:
        return []
    tunnelled = f'iifname "{segment.bridge}" meta mark {TUNNELLED:#x}'
    begun = f"{tunnelled} ct state new,invalid,untracked"
    return [
        f"{begun} ip daddr != {segment.subnet} drop",
        f"{begun} fib daddr type local drop",  # the bridge's own address
        f"{tunnelled} meta mark set 0",
    ]


def _apart(segments: Collection[Segment]) -> list[str]:
    """A host would lead from any of its bridges to any other: engines' rules mostly do not let it. Who goes
    by a published port, the mesh's or an engine's, may."""
    kept = [
        f'oifname "{each.bridge}" iifname "{BRIDGE_PREFIX}*" iifname != "{each.bridge}" drop'
        for each in segments
    ]
    return [f"{FLOW} accept", "ct status dnat accept", *kept]


def _zones(bridge: str, inside: str, numbered: Mapping[str, int]) -> list[str]:
    rules = [f'iifname "{bridge}" ip daddr 127.0.0.0/8 drop']  # route_localnet is for this host alone
    if numbered:
        # One client port may come in by two nodes and reach one task: two connections all the same.
        zones = elements(f"{mac_of(node)} : {number}" for node, number in numbered.items())
        rules.append(f"{inside} ct original zone set ether saddr map {zones}")
    return rules


def _marks(inside: str, numbered: Mapping[str, int]) -> list[str]:
    if not numbered:
        return []
    marks = elements(f"{mac_of(node)} : {OURS | number:#x}" for node, number in numbered.items())
    return [
        f"{inside} ct state new ct mark set ether saddr map {marks}",
        f"ct direction reply ct mark and {OURS_MASK | NUMBER_MASK:#x} > {OURS:#x} {FLOW}"
        " meta mark set ct mark",
    ]


def _leave(segment: Segment, host: Host, mesh: Mesh) -> list[str]:
    """Whose address is replaced where a connection leaves for a task."""
    ways = segment.ways
    out = f'oifname "{segment.bridge}" {FLOW}'
    rules = []
    shy = {e.address for s in mesh.services.values() if not s.is_alone for e in s.endpoints}
    shy &= {each.address for each in ways.local}
    if shy:
        # A task on several networks answers by the one that leads outside, and over UDP with that address.
        rules.append(f"{out} meta l4proto udp ip daddr {elements(shy)} masquerade")
        # To 127.0.0.1 an answer may come back by the mesh's bridge only.
        rules.append(f"{out} ip saddr 127.0.0.0/8 ip daddr {elements(shy)} masquerade")
    replaced = "masquerade" if is_loopback(ways.own) else f"snat to {ways.own}"
    led = [f"{out} ct status dnat"]
    if is_steered(mesh, host):
        led.append(f'oifname "{segment.bridge}" {STEERED_FLOW}')  # of which nftables has translated nothing
    for begun in led:
        rules.append(f"{begun} fib saddr type local {replaced}")
        rules.append(
            f"{begun} ip saddr {segment.subnet} {replaced}"
        )  # tasks; by the bridge, where no `iif` is
        if ways.others:
            rules.append(f"{begun} ip saddr {elements(ways.others)} {replaced}")
        # Containers of this host.
        rules.append(f'{begun} meta iifkind "bridge" {_not_by(host.uplinks)}{replaced}')
    return rules


def _not_by(uplinks: Collection[str]) -> str:
    """Returns the words for what does not come by these devices."""
    named = elements(f'"{each}"' for each in uplinks)
    return f"iifname != {named} " if uplinks else ""


def port_chain(port: MeshPort, addresses: Sequence[str], node_id: str) -> Chain:
    """Returns the chain that leads connections to a published port on; a small service's is remembered."""
    make = _port_chain if len(addresses) > REMEMBERED_TASKS else _remembered
    return make(port, tuple(addresses), node_id)


def _port_chain(port: MeshPort, addresses: tuple[str, ...], node_id: str) -> Chain:
    how = "tcp reset" if port.protocol == TCP else "icmp type port-unreachable"
    refusal = [f"meta l4proto {port.protocol} reject with {how}"]
    to = f"meta l4proto {port.protocol} dnat ip to"
    targets = [f"{address} . {port.target}" for address in addresses]
    return in_turn(f"{port.protocol}-{port.published}", to, targets, refusal, node_id)


_remembered = lru_cache(maxsize=REMEMBERED)(_port_chain)


def in_turn(name: str, to: str, targets: list[str], refusal: list[str], node_id: str) -> Chain:
    """Returns the chain that leads connections to these in turn, each as a map of nftables' has it; where
    there are none, it refuses them. Each connection is counted, by the counter of the chain's name. The turn
    begins anew with each change: not with the same task on all nodes, nor always with the first."""
    if not targets:
        return chain(name, refusal)
    mark = f'counter name "{name}" ct mark set {OURS:#x}'
    if len(targets) == 1:
        return chain(name, [mark, f"{to} {targets[0].replace(' . ', ':')}"])
    first = sum(node_id.encode(), start=len(targets)) % len(targets)
    turned = targets[first:] + targets[:first]
    numbered = elements(f"{n} : {target}" for n, target in enumerate(turned))
    return chain(name, [mark, f"{to} numgen inc mod {len(turned)} map {numbered}"])


def elements(texts: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(texts)) + " }"
