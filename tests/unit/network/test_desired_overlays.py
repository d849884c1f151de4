"""What a node should have for overlay networks, beside the mesh or without it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network.desired import desired, is_used, settings_of
from skep.network.diff import diff
from skep.network.host import HostFacts, HostRoute
from skep.network.lingering import LINGER_S, Lingering
from skep.network.objects import (
    Bridge,
    Chain,
    Forward,
    Gateway,
    Hairpin,
    Neighbour,
    Object,
    Port,
    PortForward,
    PortJump,
    ReturnRoute,
    SubnetRoute,
    Sysctl,
    Table,
    Tunnel,
    VipJump,
)
from skep.network.ruleset import transaction
from skep.network.ways import mac_of
from skep.rpc.checking import FAILURE_MAX_BYTES
from tests.unit.kernels import after

INGRESS = OverlayNetwork("net", "10.0.0.0/24", 4097, 4789)
BACK = OverlayNetwork("back-id", "10.1.0.0/24", 4098, 4789, "back", 1400)
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3"}
OWN, OTHER, THIRD = (mac_of(address) for address in NODES.values())
LAN = HostRoute("192.0.2.0/24", ("eth0",))


def _overlay(*endpoints: OverlayEndpoint, nodes: dict[str, str] = NODES) -> Overlay:
    services = {each.address: OverlayService(each.address, "web", endpoints=(each,)) for each in endpoints}
    return Overlay(BACK, nodes, services)


def _mesh(*endpoints: OverlayEndpoint, nodes: dict[str, str] = NODES) -> Mesh:
    return Mesh(nodes=NODES, overlays={BACK.id: _overlay(*endpoints, nodes=nodes)})


def _host(**facts: object) -> HostFacts:
    facts = {"routes": frozenset({LAN}), **facts}
    return HostFacts(frozenset({NODES["n1"], "127.0.0.1"}), uplinks=frozenset({"eth0"}), **facts)  # type: ignore[arg-type]


def _of(objects: tuple[Object, ...], kind: type) -> list:  # type: ignore[type-arg]
    return [each for each in objects if isinstance(each, kind)]


def _chains(objects: tuple[Object, ...]) -> dict[str, str]:
    return {each.name: "\n".join(each.rules) for each in _of(objects, Chain)}


HERE, THERE = OverlayEndpoint("10.1.0.11", "n1"), OverlayEndpoint("10.1.0.12", "n2")


def test_a_node_with_somebody_on_it_has_the_network_and_the_ways_to_others() -> None:
    made = desired(_mesh(HERE, THERE), "n1", _host())
    assert made.failures == ()
    assert set(made.objects) - set(_of(made.objects, Chain)) == {
        Bridge("skb4098", OWN, 1400),
        Tunnel("skv4098", "skb4098", 4098, "192.0.2.1", 4789, 1400, tells_misses=True),
        Sysctl("ipv4/ip_forward", "1"),
        Sysctl("ipv4/conf/skb4098/rp_filter", "2"),
        Sysctl("ipv4/conf/skb4098/arp_ignore", "1"),
        Sysctl("ipv6/conf/skb4098/disable_ipv6", "1"),
        SubnetRoute("10.1.0.0/24", "skb4098"),
        PortForward("skv4098", OTHER),
        PortForward("skv4098", THIRD),
        Forward("skv4098", OTHER, "192.0.2.2"),
        Forward("skv4098", THIRD, "192.0.2.3"),
        Neighbour("skb4098", "10.1.0.12", OTHER),  # the host's way
        Neighbour("skv4098", "10.1.0.12", OWN),  # what its containers are answered
        Table(),
    }
    assert {each.path for each in settings_of(_mesh(HERE))} == {
        each.path for each in _of(made.objects, Sysctl)
    }


def test_its_rules_let_in_its_own_nodes_only_and_no_redirects_out() -> None:
    chains = _chains(desired(_mesh(HERE, THERE), "n1", _host()).objects)
    frames = "udp dport 4789 @th,96,24 4098"
    assert sorted(chains) == ["quiet", "senders", "steer", "tunnelled"]
    assert chains["senders"].splitlines() == [
        "meta l4proto != udp accept",
        f"{frames} ip saddr {{ 192.0.2.2, 192.0.2.3 }} meta mark set 0x5a010000 accept",
        f"{frames} drop",
    ]
    assert chains["steer"].splitlines() == [
        'meta mark 0x5a010000 iifname "skb*" jump tunnelled',
        "ct mark and 0xff04ffff == 0x5a040000 ct direction . ct original ip daddr @vip-bytes",
    ]
    assert chains["tunnelled"].splitlines() == [
        "meta mark set 0",
        "ct state established,related return",
        'iifname "skb4098" ip daddr != 10.1.0.0/24 drop',
        'iifname "skb4098" fib daddr type local drop',
    ]
    assert chains["quiet"] == 'icmp type redirect oifname "skb*" drop'
    alone = _chains(desired(_mesh(HERE, nodes={"n1": NODES["n1"]}), "n1", _host()).objects)
    assert alone["senders"].splitlines()[1:] == [f"{frames} drop"]


def test_of_a_large_network_a_node_has_ways_to_those_it_was_told_of() -> None:
    large = replace(BACK, is_large=True)
    web = OverlayService("w", "web", vip="10.1.0.99", endpoints=(THERE,))
    asked = OverlayEndpoint("10.1.0.13", "n3")
    overlay = Overlay(large, NODES, {"w": web}, {each.address: each for each in (HERE, asked)})
    made = desired(Mesh(nodes=NODES, overlays={large.id: overlay}), "n1", _host())
    on_bridge = {each.address: each.mac for each in _of(made.objects, Neighbour) if each.device == "skb4098"}
    assert on_bridge == {"10.1.0.12": OTHER, "10.1.0.13": THIRD}
    assert [each.address for each in _of(made.objects, VipJump)] == ["10.1.0.99"]
    taken = replace(overlay, endpoints={**overlay.endpoints, "10.1.0.99": OverlayEndpoint("10.1.0.99", "n3")})
    objects = desired(Mesh(nodes=NODES, overlays={large.id: taken}), "n1", _host()).objects
    assert _of(objects, VipJump) == [], "a single endpoint has that address"


def test_of_a_large_network_it_takes_what_comes_from_all_its_nodes_known_otherwise_or_not() -> None:
    """A task's first packet to one of this node's: what is answered is to be asked for."""
    large = replace(BACK, is_large=True)
    frames = "udp dport 4789 @th,96,24 4098"
    wrong = {NODES["n1"], "127.0.0.1", "10.1.0.200", "0.0.0.0"}
    overlay = Overlay(large, {"n1": NODES["n1"]}, {}, {HERE.address: HERE})
    mesh = Mesh(nodes=NODES, overlays={large.id: replace(overlay, senders=frozenset({"192.0.2.7", *wrong}))})
    assert _chains(desired(mesh, "n1", _host()).objects)["senders"].splitlines()[1:] == [
        f"{frames} ip saddr {{ 192.0.2.7 }} meta mark set 0x5a010000 accept",
        f"{frames} drop",
    ]
    alone = Mesh(nodes=NODES, overlays={large.id: overlay})
    (_, *rules) = _chains(desired(alone, "n1", _host()).objects)["senders"].splitlines()
    assert rules == [f"{frames} drop"]
    assert desired(mesh, "n1", _host()).failures == ()
    (said,) = desired(mesh, "n1", replace(_host(), addresses=frozenset({"10.9.9.9"}))).failures
    assert "none of this host's" in said, "there are others, known or not"


def test_a_node_with_nobody_on_it_has_the_bridge_while_it_is_told_of_it() -> None:
    mesh = _mesh(THERE)
    assert is_used(mesh)
    assert desired(mesh, "n1", _host()).objects == ()
    there = _host(bridges=frozenset({"skb4098"}))
    assert desired(mesh, "n1", there).objects == (Bridge("skb4098", OWN, 1400),)
    assert desired(Mesh(nodes=NODES), "n1", there).objects == ()


def test_nodes_that_share_an_address_share_its_containers() -> None:
    shared = {**NODES, "n4": NODES["n1"]}
    made = desired(_mesh(OverlayEndpoint("10.1.0.14", "n4"), THERE, nodes=shared), "n1", _host())
    assert {each.address for each in _of(made.objects, Neighbour)} == {"10.1.0.12"}
    loopback = dict.fromkeys(NODES, "127.0.0.1")
    made = desired(replace(_mesh(HERE, THERE, nodes=loopback), nodes=loopback), "n1", _host())
    assert made.failures == ()
    assert _of(made.objects, Neighbour) == []
    # It leads nowhere, answers who asks for a service's address, and nobody comes in by it.
    assert [each.local for each in _of(made.objects, Tunnel)] == ["127.0.0.1"]
    assert _chains(made.objects)["senders"].endswith("@th,96,24 4098 drop")


@pytest.mark.parametrize(
    ("bad", "nodes"),
    [
        (OverlayEndpoint("10.2.0.9", "n2"), {}),  # of no address of the network
        (OverlayEndpoint("192.0.2.9", "n2"), {}),
        (OverlayEndpoint("", "n2"), {}),
        (OverlayEndpoint("10.1.0.x", "n2"), {}),
        (OverlayEndpoint("10.1.0.9", "unknown"), {}),
        (OverlayEndpoint("10.1.0.9", "bad"), {"bad": "2001:db8::1"}),
        (OverlayEndpoint("10.1.0.9", "bad"), {"bad": ""}),
        (OverlayEndpoint("10.1.0.9", "bad"), {"bad": "192.0.2.255"}),
        (OverlayEndpoint("10.1.0.9", "bad"), {"bad": "172.17.0.1"}),
    ],
)
def test_what_cannot_be_reached_is_left_out_and_costs_nobody_else(
    bad: OverlayEndpoint, nodes: dict[str, str]
) -> None:
    host = replace(
        _host(broadcasts=frozenset({"192.0.2.255"})),
        addresses=frozenset({NODES["n1"], "172.17.0.1"}),
    )
    made = desired(_mesh(HERE, THERE, bad, nodes={**NODES, **nodes}), "n1", host)
    assert set(made.objects) == set(desired(_mesh(HERE, THERE), "n1", host).objects)
    assert made.failures == ()


def test_a_node_that_says_an_address_of_the_network_is_named() -> None:
    nodes = {**NODES, "bad": "10.1.0.12"}
    made = desired(_mesh(HERE, THERE, OverlayEndpoint("10.1.0.9", "bad"), nodes=nodes), "n1", _host())
    (said,) = made.failures
    assert said.startswith(
        "nodes with an address of network back (10.1.0.0/24) are not reached by tasks here: bad (10.1.0.12)."
    )
    assert set(made.objects) == set(desired(_mesh(HERE, THERE), "n1", _host()).objects)


def test_an_address_that_is_here_now_is_not_sought_elsewhere() -> None:
    both = _mesh(HERE, THERE, OverlayEndpoint("10.1.0.13", "n3"))
    moved = OverlayService("moved", "web", endpoints=(OverlayEndpoint("10.1.0.11", "n2"),))
    overlay = replace(both.overlays[BACK.id], services={**both.overlays[BACK.id].services, "moved": moved})
    objects = desired(replace(both, overlays={BACK.id: overlay}), "n1", _host()).objects
    assert {each.address for each in _of(objects, Neighbour)} == {"10.1.0.12", "10.1.0.13"}


@pytest.mark.parametrize("own", ["", "2001:db8::1", "0.0.0.0"])
def test_without_an_address_of_its_own_what_there_is_stays(own: str) -> None:
    nodes = {**NODES, "n1": own}
    made = desired(replace(_mesh(HERE, THERE, nodes=nodes), nodes=nodes), "n1", _host())
    assert made.is_unknown
    assert len(made.failures) == 1
    # Where the mesh knows it, that is as well.
    del nodes["n1"]
    assert not desired(_mesh(HERE, THERE, nodes=nodes), "n1", _host()).is_unknown


def test_a_subnet_that_the_host_needs_is_said_and_other_networks_go_on() -> None:
    front = replace(BACK, id="front-id", subnet="10.2.0.0/24", vni=4099, name="front")
    on_front = Overlay(
        front, NODES, {"s": OverlayService("s", "x", endpoints=(OverlayEndpoint("10.2.0.7", "n1"),))}
    )
    mesh = _mesh(HERE, THERE)
    mesh = replace(mesh, overlays={**mesh.overlays, front.id: on_front})
    taken = _host(routes=frozenset({LAN, HostRoute("10.1.0.0/16", ("wg0",))}))
    made = desired(mesh, "n1", taken)
    (said,) = made.failures
    assert said.startswith(
        "network back is not here, as its subnet 10.1.0.0/24 would take away this host's route to 10.1.0.0/16"
        " by wg0. Give it another one: docker network rm, then docker network create --driver overlay"
    )
    assert len(said.encode()) <= FAILURE_MAX_BYTES
    assert [each.name for each in _of(made.objects, Bridge)] == ["skb4099"]


def test_a_subnet_may_be_written_with_an_address_of_it() -> None:
    mesh = _mesh(HERE, THERE)
    written = replace(mesh.overlays[BACK.id], network=replace(BACK, subnet="10.1.0.7/24"))
    objects = desired(replace(mesh, overlays={BACK.id: written}), "n1", _host()).objects
    assert set(objects) == set(desired(mesh, "n1", _host()).objects)


WEB = MeshService("s1", "web", (MeshPort("tcp", 8080, 80),), (MeshEndpoint("10.0.0.7", "n1"),))


def test_the_mesh_and_networks_stand_beside_each_other() -> None:
    alone = desired(Mesh(INGRESS, NODES, {"s1": WEB}), "n1", _host()).objects
    overlays = _mesh(HERE, THERE).overlays
    objects = desired(Mesh(INGRESS, NODES, {"s1": WEB}, overlays=overlays), "n1", _host()).objects
    only = desired(_mesh(HERE, THERE), "n1", _host()).objects
    assert {each for each in alone if not isinstance(each, Chain)} < set(objects)
    assert {each for each in only if not isinstance(each, Chain)} < set(objects)
    assert len(_of(objects, ReturnRoute)) == 2
    assert _of(objects, PortJump) == [PortJump("tcp", 8080, "tcp-8080")]
    apart = _chains(objects)["apart"].splitlines()
    assert apart == [
        'iifname != "skb*" accept',
        'oifname != { "skb4097", "skb4098" } accept',
        'iifname "skb4097" oifname "skb4097" accept',
        'iifname "skb4098" oifname "skb4098" accept',
        "ct mark and 0xff000000 == 0x5a000000 accept",
        "ct status dnat accept",
        "drop",
    ]
    # … and part again: all of the network goes, and nothing else, with what is on its devices.
    changes = diff(alone, after((), diff(objects, ())))
    assert {each.name for each in changes.drops if isinstance(each, Bridge | Tunnel)} == {
        "skb4098",
        "skv4098",
    }
    assert _of(changes.drops, Neighbour) == _of(changes.drops, Forward) == []
    assert {each for each in after(objects, changes) if not isinstance(each, Sysctl)} == {
        each for each in alone if not isinstance(each, Sysctl)
    }


def test_ports_of_all_bridges_get_back_what_they_send() -> None:
    ports = frozenset({Port("veth1", "skb4098")})
    gateways = frozenset({Gateway("skb4098", "10.1.0.251/24")})
    objects = desired(_mesh(HERE), "n1", _host(ports=ports, gateways=gateways)).objects
    assert _of(objects, Hairpin) == [Hairpin("veth1")]
    assert _of(objects, Gateway) == [*gateways]


def test_a_firewall_is_said_to_whom_it_matters() -> None:
    host = _host(firewalls=("inet fw",), overlay_firewalls=("inet fw",))
    (said,) = desired(_mesh(HERE, THERE), "n1", host).failures
    assert 'iifname "skb*" oifname "skb*" accept' in said
    (said,) = desired(Mesh(INGRESS, NODES, {"s1": WEB}), "n1", host).failures
    assert "published ports do not answer here" in said


def test_neighbours_of_a_tunnel_that_is_made_anew_are_put_anew() -> None:
    objects = desired(_mesh(HERE, THERE), "n1", _host()).objects
    there = [each if not isinstance(each, Tunnel) else replace(each, bridge="") for each in objects]
    puts = diff(objects, there).puts
    assert _of(puts, Neighbour) == [Neighbour("skv4098", "10.1.0.12", OWN)]
    assert len(_of(puts, Forward)) == len(_of(puts, PortForward)) == 2


def test_when_all_is_gone_the_table_goes() -> None:
    objects = desired(_mesh(HERE, THERE), "n1", _host()).objects
    changes = diff(desired(Mesh(nodes=NODES), "n1", _host()).objects, objects, kept=["skb4098"])
    assert transaction(changes) == "delete table ip skep\n"
    assert _of(changes.drops, Bridge) == []
    # The bridge stays for a while: what is on it goes by itself.
    assert _of(changes.drops, Neighbour) == [Neighbour("skb4098", "10.1.0.12", OTHER)]


def test_a_bridge_that_nobody_needs_lingers() -> None:
    lingering = Lingering()
    assert lingering.of(["skb1"], 100.0) == {"skb1"}
    assert lingering.of(["skb1", "skb2"], 100.0 + LINGER_S - 1) == {"skb1", "skb2"}
    assert lingering.of(["skb1", "skb2"], 100.0 + LINGER_S) == {"skb2"}
    assert lingering.of([], 200.0) == frozenset()  # a container came
    assert lingering.of(["skb1", "skb2"], 300.0) == {"skb1", "skb2"}
