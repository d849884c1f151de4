"""The chains of nftables as this node is to have them. Pure; `desired` says what they are for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from skep.model.mesh import BRIDGE_PREFIX, TCP, MeshPort
from skep.network.counting import counting, counting_chains
from skep.network.marks import FLOW, NUMBER_MASK, OURS, OURS_MASK, STEERED_FLOW, TUNNELLED
from skep.network.objects import PORTS, Chain, chain
from skep.network.segment import Segment
from skep.network.ways import Reach, is_loopback, mac_of


def shared_chains(segments: Collection[Segment], numbered: Mapping[str, int] = {}) -> Iterable[Chain]:
    """Yields the chains that keep networks' tunnels and bridges to those whose they are. `numbered` are the
    other nodes' numbers in the mesh, by their addresses.

    Each packet passes them, the tunnels' own too, and a chain costs more than its rules: as few as possible,
    and what they ask first is what most packets are not."""
    meshs = next((each for each in segments if each.is_mesh), None)
    if meshs:
        yield chain("early", _zones(meshs, numbered), ("filter", "prerouting", -301))
    if outside := [rule for each in segments for rule in _outside(each)]:
        # Where all is for this host: before it is routed that would have to be looked up.
        yield chain("senders", ["meta l4proto != udp accept", *outside], ("filter", "input", -151))
    inside = [rule for each in segments for rule in _inside(each)]
    steer = [f'meta mark {TUNNELLED:#x} iifname "{BRIDGE_PREFIX}*" jump tunnelled'] if inside else []
    steer += _returns(numbered)
    yield from counting_chains(segments)
    steer += counting(segments)
    # After conntrack (-200), before users' own rules for marks (-150).
    yield chain("steer", steer, ("filter", "prerouting", -151))
    if inside:
        begun = ["meta mark set 0", "ct state established,related return", *inside]
        yield chain("tunnelled", [*begun, *(_marks(meshs, numbered) if meshs else [])])
    if len(segments) > 1:
        yield chain("apart", _apart(segments), ("filter", "forward", -150))
    # That a packet goes out by the bridge it came in by is no news for its sender.
    quiet = f'icmp type redirect oifname "{BRIDGE_PREFIX}*" drop'
    flows = [f"icmp type redirect {FLOW} drop"] if meshs else []
    own = counting([meshs]) if meshs else []  # what the host itself sends to a published port
    yield chain("quiet", [quiet, *flows, *own], ("filter", "output", -150))


def mesh_chains(
    bridge: str, subnet: str, whom: Reach, uplinks: Collection[str], shy: Collection[str], steered: bool
) -> tuple[Chain, ...]:
    """Returns the chains that all ports share. `shy` are addresses of tasks here that are on other networks,
    too; `steered`: IPVS leads connections."""
    jump = f"fib daddr type local meta l4proto . th dport vmap @{PORTS}"
    # The tunnel's own packets look for their way with the mark of what they carry.
    unmark = f"meta mark and {OURS_MASK:#x} == {OURS:#x} meta mark set 0"
    return (
        chain("enter", [jump], ("nat", "prerouting", -105)),  # before the engine's own, at -100
        chain("begin", [jump], ("nat", "output", -105)),
        chain("unmark", [unmark], ("filter", "postrouting", -150)),
        chain("leave", _leave(bridge, subnet, whom, uplinks, shy, steered), ("nat", "postrouting", 95)),
    )


def _outside(segment: Segment) -> Iterable[str]:
    """Yields who may use the tunnel: a tunnel takes what anybody sends to its port and number. Others have
    tunnels at the same port, whose packets are told by their number: 24 bits, 12 bytes behind UDP's begin."""
    network, senders = segment.network, segment.ways.reach.senders
    if not segment.has_tunnel:
        return
    frames = f"udp dport {network.data_port} @th,96,24 {network.vni}"
    if senders:
        # What is in it keeps the mark.
        yield f"{frames} ip saddr {elements(senders)} meta mark set {TUNNELLED:#x} accept"
    yield f"{frames} drop"


def _inside(segment: Segment) -> Iterable[str]:
    """By the tunnel come connections to tasks, and answers: nothing new for this host or for others."""
    if segment.has_tunnel:
        yield f'iifname "{segment.bridge}" ip daddr != {segment.subnet} drop'
        yield f'iifname "{segment.bridge}" fib daddr type local drop'  # the bridge's own address


def _apart(segments: Collection[Segment]) -> list[str]:
    """A host would lead from any of its bridges to any other: engines' rules mostly do not let it. Who goes
    by a published port, the mesh's or an engine's, may."""
    bridges = [f'"{each.bridge}"' for each in segments]
    return [
        f'iifname != "{BRIDGE_PREFIX}*" accept',
        f"oifname != {elements(bridges)} accept",
        *(f"iifname {each} oifname {each} accept" for each in bridges),
        f"{FLOW} accept",
        "ct status dnat accept",
        "drop",
    ]


def _zones(segment: Segment, numbered: Mapping[str, int]) -> list[str]:
    rules = [f'ip daddr 127.0.0.0/8 iifname "{segment.bridge}" drop']  # route_localnet is for this host alone
    if numbered:
        # One client port may come in by two nodes and reach one task: two connections all the same.
        zones = elements(f"{mac_of(node)} : {number}" for node, number in numbered.items())
        by_node = f"meta mark {TUNNELLED:#x} {_to_task(segment)}"
        rules.append(f"{by_node} ct original zone set ether saddr map {zones}")
    return rules


def _marks(segment: Segment, numbered: Mapping[str, int]) -> list[str]:
    """By which node a connection came."""
    if not numbered:
        return []
    marks = elements(f"{mac_of(node)} : {OURS | number:#x}" for node, number in numbered.items())
    return [f"ct state new {_to_task(segment)} ct mark set ether saddr map {marks}"]


def _to_task(segment: Segment) -> str:
    """Only who goes to a task comes by a node: any container may take a node's MAC address for its own."""
    return f'iifname "{segment.bridge}" ip daddr {segment.subnet}'


def _returns(numbered: Mapping[str, int]) -> list[str]:
    """Answers go back by the node that their connection came by."""
    if not numbered:
        return []
    of_node = f"ct mark and {OURS_MASK | NUMBER_MASK:#x} > {OURS:#x} {FLOW}"
    return [f"ct direction reply {of_node} meta mark set ct mark"]


def _leave(
    bridge: str, subnet: str, whom: Reach, uplinks: Collection[str], shy: Collection[str], steered: bool
) -> list[str]:
    """Whose address is replaced where a connection leaves for a task."""
    out = f'oifname "{bridge}" {FLOW}'
    rules = []
    if shy:
        # A task on several networks answers by the one that leads outside, and over UDP with that address.
        rules.append(f"{out} meta l4proto udp ip daddr {elements(shy)} masquerade")
        # To 127.0.0.1 an answer may come back by the mesh's bridge only.
        rules.append(f"{out} ip saddr 127.0.0.0/8 ip daddr {elements(shy)} masquerade")
    replaced = "masquerade" if is_loopback(whom.own) else f"snat to {whom.own}"
    # Of what IPVS leads nftables has translated nothing.
    led = [f"{out} ct status dnat", *([f'oifname "{bridge}" {STEERED_FLOW}'] if steered else [])]
    for begun in led:
        rules.append(f"{begun} fib saddr type local {replaced}")
        rules.append(f"{begun} ip saddr {subnet} {replaced}")  # tasks; by the bridge, where no `iif` is
        if whom.others:
            rules.append(f"{begun} ip saddr {elements(whom.others)} {replaced}")
        # Containers of this host.
        rules.append(f'{begun} meta iifkind "bridge" {_not_by(uplinks)}{replaced}')
    return rules


def _not_by(uplinks: Collection[str]) -> str:
    """Returns the words for what does not come by these devices."""
    named = elements(f'"{each}"' for each in uplinks)
    return f"iifname != {named} " if uplinks else ""


def port_chain(port: MeshPort, addresses: Sequence[str], node_id: str) -> Chain:
    """Returns the chain that leads connections to a published port on."""
    how = "tcp reset" if port.protocol == TCP else "icmp type port-unreachable"
    refusal = [f"meta l4proto {port.protocol} reject with {how}"]
    to = f"meta l4proto {port.protocol} dnat ip to"
    targets = [f"{address} . {port.target}" for address in addresses]
    return in_turn(f"{port.protocol}-{port.published}", to, targets, refusal, node_id)


def in_turn(
    name: str, to: str, targets: list[str], refusal: list[str], node_id: str, ours: int = OURS
) -> Chain:
    """Returns the chain that leads connections to these in turn, each as a map of nftables' has it; where
    there are none, it refuses them. Each connection gets the mark `ours`, and is counted, by the counter of
    the chain's name. The turn begins anew with each change: not with the same task on all nodes, nor always
    with the first."""
    if not targets:
        return chain(name, refusal)
    mark = f'counter name "{name}" ct mark set {ours:#x}'
    if len(targets) == 1:
        return chain(name, [f"{mark} {to} {targets[0].replace(' . ', ':')}"])
    first = sum(node_id.encode(), start=len(targets)) % len(targets)
    turned = targets[first:] + targets[:first]
    numbered = elements(f"{n} : {target}" for n, target in enumerate(turned))
    return chain(name, [f"{mark} {to} numgen inc mod {len(turned)} map {numbered}"])


def elements(texts: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(texts)) + " }"
