"""What a node should have for the routing mesh, and what is to be done for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork
from skep.network.desired import desired
from skep.network.diff import ORDER, Changes, diff
from skep.network.host import Host, Route, nameservers
from skep.network.marks import NUMBER_MASK, OURS, OURS_MASK, SERVED, STEERED, TUNNELLED
from skep.network.objects import (
    Accept,
    Bridge,
    Chain,
    Counter,
    Forward,
    Gateway,
    Neighbour,
    Object,
    Port,
    PortForward,
    PortJump,
    ReturnRoute,
    ReturnRule,
    Sysctl,
    Table,
    Traffic,
    Tunnel,
)
from skep.network.ruleset import dropping, found, transaction
from skep.network.ways import RETURNS_MAX, mac_of, numbers
from skep.rpc.checking import FAILURE_MAX_BYTES
from skep.runtime.errors import Corrupt
from tests.unit.kernels import after

NETWORK = OverlayNetwork("net", "10.0.0.0/24", 4097, 4789)
WEB = MeshPort("tcp", 8080, 80)
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3"}


def _mesh(*endpoints: MeshEndpoint, nodes: dict[str, str] = NODES, alone: bool = True) -> Mesh:
    return Mesh(NETWORK, nodes, {"s1": MeshService("s1", "web", (WEB,), endpoints, alone)})


def _host(node: str = "n1", **facts: object) -> Host:
    return Host(frozenset({NODES[node], "127.0.0.1"}), frozenset({"eth0"}), **facts)  # type: ignore[arg-type]


def _of(objects: tuple[Object, ...], kind: type) -> list:  # type: ignore[type-arg]
    return [each for each in objects if isinstance(each, kind)]


def _chain(objects: tuple[Object, ...], name: str) -> str:
    (found,) = [each for each in _of(objects, Chain) if each.name == name]
    return "\n".join(found.rules)


def test_a_swarm_that_publishes_nothing_has_nothing() -> None:
    assert desired(Mesh(), "n1", _host()).objects == ()
    assert desired(Mesh(NETWORK, NODES, {}), "n1", _host()).objects == ()
    assert desired(Mesh(NETWORK, NODES, {"s": MeshService("s", "web", ())}), "n1", _host()).objects == ()


def test_the_bridge_stays_for_the_engine() -> None:
    mesh = Mesh(NETWORK, NODES, {})
    host = _host(bridges=frozenset({"skb4097", "skb1"}))
    assert desired(mesh, "n1", host).objects == (Bridge("skb4097", mac_of("192.0.2.1"), 1450),)
    assert desired(Mesh(NETWORK, {}, {}), "n1", host).is_unknown


def test_a_node_without_tasks_has_the_way_to_them_and_no_way_back() -> None:
    objects = desired(_mesh(MeshEndpoint("10.0.0.7", "n2")), "n1", _host()).objects
    assert _of(objects, Bridge) == [Bridge("skb4097", "02:6e:c0:00:02:01", 1450)]
    assert _of(objects, Tunnel) == [Tunnel("skv4097", "skb4097", 4097, "192.0.2.1", 4789, 1450)]
    assert _of(objects, Forward) == [Forward("skv4097", mac_of("192.0.2.2"), "192.0.2.2")]
    assert _of(objects, Neighbour) == [Neighbour("skb4097", "10.0.0.7", mac_of("192.0.2.2"))]
    assert _of(objects, ReturnRoute) == _of(objects, ReturnRule) == _of(objects, Accept) == []
    assert _of(objects, PortJump) == [PortJump("tcp", 8080, "tcp-8080")]
    assert "dnat ip to 10.0.0.7:80" in _chain(objects, "tcp-8080")


def test_a_node_with_tasks_has_a_way_back_to_every_other_node() -> None:
    objects = desired(_mesh(MeshEndpoint("10.0.0.7", "n1")), "n1", _host()).objects
    assert {each.remote for each in _of(objects, Forward)} == {"192.0.2.2", "192.0.2.3"}
    assert {(each.number, each.via) for each in _of(objects, ReturnRoute)} == {
        (1, "192.0.2.2"),
        (2, "192.0.2.3"),
    }
    assert "ether saddr map { 02:6e:c0:00:02:02 : 1, 02:6e:c0:00:02:03 : 2 }" in _chain(objects, "early")


def test_other_nodes_keep_their_numbers() -> None:
    assert numbers({"192.0.2.9": 1, "192.0.2.3": 7}, ["192.0.2.2", "192.0.2.3"]) == {
        "192.0.2.3": 7,
        "192.0.2.2": 1,
    }


@given(
    known=st.dictionaries(st.integers(0, 50), st.integers(1, 60), max_size=40),
    others=st.sets(st.integers(0, 80), max_size=60),
)
def test_numbers_are_each_ones_own(known: dict[int, int], others: set[int]) -> None:
    by_number = {number: f"192.0.2.{each}" for each, number in known.items()}  # a kernel has each number once
    had = {address: number for number, address in by_number.items()}
    given_out = numbers(had, [f"192.0.2.{each}" for each in others])
    assert len(set(given_out.values())) == len(given_out) == len(others)
    assert all(given_out[address] == number for address, number in had.items() if address in given_out)
    assert all(0 < number < 0x10000 for number in given_out.values())


def test_ways_back_are_bounded() -> None:
    many = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(RETURNS_MAX + 5)]
    assert len(numbers({}, many)) == RETURNS_MAX


def test_a_service_without_tasks_refuses() -> None:
    udp = MeshService("s2", "dns", (MeshPort("udp", 53, 53),))
    mesh = Mesh(NETWORK, NODES, {**_mesh().services, "s2": udp})
    objects = desired(mesh, "n1", _host()).objects
    assert _chain(objects, "tcp-8080") == "meta l4proto tcp reject with tcp reset"
    assert _chain(objects, "udp-53") == "meta l4proto udp reject with icmp type port-unreachable"


def test_a_task_that_leaves_gets_nothing_new_and_stays_reachable() -> None:
    stays, leaves = MeshEndpoint("10.0.0.7", "n2"), MeshEndpoint("10.0.0.8", "n2", takes_new=False)
    objects = desired(_mesh(stays, leaves), "n1", _host()).objects
    assert "10.0.0.8" not in _chain(objects, "tcp-8080")
    assert {each.address for each in _of(objects, Neighbour)} == {"10.0.0.7", "10.0.0.8"}
    removed = Mesh(NETWORK, NODES, {"s1": MeshService("s1", "web", (), (leaves,))})
    objects = desired(removed, "n1", _host()).objects
    assert _of(objects, PortJump) == []
    assert [each.address for each in _of(objects, Neighbour)] == ["10.0.0.8"]


def test_nodes_do_not_begin_with_the_same_task() -> None:
    mesh = _mesh(*(MeshEndpoint(f"10.0.0.{n}", "n2") for n in (7, 8, 9)))
    firsts = {
        _chain(desired(mesh, node, _host(node)).objects, "tcp-8080").partition("0 : ")[2][:8]
        for node in NODES
    }
    assert len(firsts) == 3


def test_a_port_that_somebody_else_has_is_left_to_him() -> None:
    objects = desired(_mesh(), "n1", _host(), refused={("tcp", 8080)}).objects
    assert _of(objects, PortJump) == []


def test_udp_of_tasks_on_several_networks_is_asked_by_the_node() -> None:
    here = MeshEndpoint("10.0.0.7", "n1")
    assert "masquerade" not in _chain(desired(_mesh(here), "n1", _host()).objects, "leave")
    objects = desired(_mesh(here, alone=False), "n1", _host()).objects
    assert "meta l4proto udp ip daddr { 10.0.0.7 } masquerade" in _chain(objects, "leave")
    objects = desired(_mesh(here, alone=False), "n2", _host("n2")).objects
    assert "masquerade" not in _chain(objects, "leave")


def test_daemons_that_share_a_host_share_its_tasks() -> None:
    nodes = dict.fromkeys(NODES, "127.0.0.1")
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n1"), MeshEndpoint("10.0.0.8", "n2"), nodes=nodes)
    made = desired(mesh, "n1", _host())
    assert made.failures == ()
    assert _of(made.objects, Tunnel) == _of(made.objects, Neighbour) == []
    assert "10.0.0.7" in _chain(made.objects, "tcp-8080")
    assert "10.0.0.8" in _chain(made.objects, "tcp-8080")
    assert "saddr type local masquerade" in _chain(made.objects, "leave")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("127.0.0.1", "127.0.0.1 is for this host alone"),
        ("198.51.100.1", "198.51.100.1 is none of this host's"),
        ("2001:db8::1", "2001:db8::1 is none of one host's, of IPv4"),
        ("", "the manager knows no address of this node"),
        ("0.0.0.0", "0.0.0.0 is none of one host's"),
        ("224.0.0.1", "224.0.0.1 is none of one host's"),
    ],
)
def test_a_node_that_has_no_way_to_others_says_why_and_serves_its_own(own: str, said: str) -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n1"), MeshEndpoint("10.0.0.8", "n2"), nodes={**NODES, "n1": own})
    made = desired(mesh, "n1", _host())
    assert said in made.failures[0]
    if made.objects:
        assert "10.0.0.7:80" in _chain(made.objects, "tcp-8080")
        assert _of(made.objects, Neighbour) == _of(made.objects, ReturnRule) == []


@pytest.mark.parametrize(
    "bad",
    [
        "0.0.0.0",
        "0.0.0.9",
        "127.0.0.5",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.0.0.1",
        "192.0.2.255",  # all hosts of this one's network
        "172.17.0.1",  # a bridge that each host has
    ],
)
def test_one_nodes_bad_address_costs_no_other_node_anything(bad: str) -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n1"), MeshEndpoint("10.0.0.8", "n2"), nodes={**NODES, "n2": bad})
    here = frozenset({NODES["n1"], "172.17.0.1"})
    made = desired(mesh, "n1", Host(here, broadcasts=frozenset({"192.0.2.255"})))
    assert made.failures == ()
    assert [each.remote for each in _of(made.objects, Forward)] == ["192.0.2.3"]
    assert [each.via for each in _of(made.objects, ReturnRoute)] == ["192.0.2.3"]
    assert "10.0.0.8" not in _chain(made.objects, "tcp-8080")


def test_an_address_that_is_a_tasks_makes_no_node() -> None:
    """Whoever says it gets nothing that is for the task."""
    tasks = (MeshEndpoint("10.0.0.7", "n1"), MeshEndpoint("10.0.0.8", "n2"), MeshEndpoint("10.0.0.9", "bad"))
    made = desired(_mesh(*tasks, nodes={**NODES, "bad": "10.0.0.8"}), "n1", _host())
    (said,) = made.failures
    assert said.startswith(
        "nodes with an address of the mesh's own network 10.0.0.0/24 are not reached by published ports:"
        " bad (10.0.0.8). On each: docker swarm leave, then join with --data-path-addr; or, if it has no"
    )
    whole = desired(_mesh(*tasks[:2]), "n1", _host())
    assert made.objects == whole.objects


def test_nodes_that_have_no_way_are_named_as_far_as_there_is_room() -> None:
    many = {f"{n:025}": f"10.0.0.{n}" for n in range(100, 250)}
    (said,) = desired(_mesh(nodes={**NODES, **many}), "n1", _host()).failures
    assert "(10.0.0.100), " in said
    assert "(10.0.0.102) and 147 more. On each: " in said
    assert len(said.encode()) <= FAILURE_MAX_BYTES


def test_the_tunnel_is_the_nodes_own() -> None:
    """Also where a node has no tasks, and where it is the only one."""
    frames = "udp dport 4789 @th,96,24 4097"
    objects = desired(_mesh(MeshEndpoint("10.0.0.7", "n2")), "n1", _host()).objects
    assert f"{frames} ip saddr {{ 192.0.2.2, 192.0.2.3 }} meta mark" in _chain(objects, "senders")
    assert 'iifname "skb4097" ip daddr != 10.0.0.0/24 drop' in _chain(objects, "tunnelled")
    alone = desired(_mesh(nodes={"n1": NODES["n1"]}), "n1", _host()).objects
    assert f"{frames} drop" == _chain(alone, "senders").splitlines()[-1]
    assert "accept" not in _chain(alone, "senders").replace("meta l4proto != udp accept", "")
    shared = desired(_mesh(nodes=dict.fromkeys(NODES, "127.0.0.1")), "n1", _host()).objects
    assert "senders" not in {each.name for each in shared if isinstance(each, Chain)}
    counted = f"ct mark and {OURS_MASK | NUMBER_MASK | 0x40000:#x} == {OURS:#x} goto port-bytes"
    assert _chain(shared, "steer") == counted


def test_the_tunnels_mark_is_no_nodes_number() -> None:
    assert TUNNELLED & OURS_MASK == OURS
    assert TUNNELLED & NUMBER_MASK == 0
    assert TUNNELLED != OURS


def test_a_bridge_of_an_earlier_skep_is_said_with_what_to_do() -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n1"))
    devices = {"192.0.2.1": "eth0", "10.0.0.2": "skb4097"}
    assert desired(mesh, "n1", _host(devices=devices)).failures == ()
    (said,) = desired(mesh, "n1", _host(devices={**devices, "10.0.0.2": "br-0123456789ab"})).failures
    assert said.startswith(
        "device br-0123456789ab has address 10.0.0.2 of the mesh's own network 10.0.0.0/24: "
    )
    assert "docker node update --availability drain" in said


LAN = Route("192.0.2.0/24", ("eth0",))
OWN = Route("10.0.0.0/24", ("skb4097",))


def _with(*routes: Route, **facts: object) -> Host:
    return _host(
        routes=frozenset({LAN, OWN, Route("0.0.0.0/0", ("eth0",), ("192.0.2.254",)), *routes}), **facts
    )


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (_with(Route("10.0.0.0/24", ("eth0",))), "this host's route to 10.0.0.0/24 by eth0"),
        (_with(Route("10.0.0.0/16", ("eth0",))), "this host's route to 10.0.0.0/16 by eth0"),
        (_with(Route("10.0.0.7/32", ("eth0",))), "this host's route to 10.0.0.7/32 by eth0"),
        (_with(Route("10.0.0.0/8", ("wg0", "eth0"), ("192.0.2.7",))), "10.0.0.0/8 by wg0, eth0"),
        (_with(Route("10.0.0.0/24", ("br0",))), "this host's route to 10.0.0.0/24 by br0"),
        (_with(Route("10.0.0.0/16", ("br-0123456789ab",))), "10.0.0.0/16 by br-0123456789ab"),
        (_with(Route("10.0.0.128/25")), "this host's route to 10.0.0.128/25 by no device"),
        (_with(Route("0.0.0.0/0", ("eth0",), ("10.0.0.1",))), "the gateway 10.0.0.1 of this host's route"),
        (_with(devices={"10.0.0.9": "lo"}), "this host's address 10.0.0.9 of device lo"),
        (_with(nameservers=frozenset({"10.0.0.2", "fd00::1"})), "its nameserver 10.0.0.2"),
    ],
)
def test_what_this_host_has_already_is_not_taken_away(host: Host, said: str) -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n1"), MeshEndpoint("10.0.0.8", "n2"))
    made = desired(mesh, "n1", host)
    assert (made.objects, made.is_unknown) == ((), False)
    (text,) = made.failures
    assert text.startswith("the routing mesh is not here, as its network 10.0.0.0/24 would take away ")
    assert said in text
    assert "docker network create --ingress --driver overlay --subnet" in text
    assert len(text.encode()) <= FAILURE_MAX_BYTES


def test_managers_are_not_taken_away() -> None:
    mesh = replace(_mesh(MeshEndpoint("10.0.0.7", "n1")), managers=("m0", "192.0.2.1", "10.0.0.2"))
    made = desired(mesh, "n1", _with())
    assert made.objects == ()
    assert "would take away the way to the manager 10.0.0.2. " in made.failures[0]
    assert desired(replace(mesh, managers=("m0", "[::1]")), "n1", _with()).failures == ()


def test_an_address_of_its_own_within_the_meshs_network_is_said() -> None:
    made = desired(_mesh(nodes={**NODES, "n1": "10.0.0.1"}), "n1", _with())
    assert made.objects == ()
    assert "would take away this node's own address 10.0.0.1. " in made.failures[0]


@pytest.mark.parametrize(
    "host",
    [
        _with(),
        _with(Route("10.0.1.0/24", ("eth0",)), devices={"10.0.0.2": "skb4097"}),
        _with(Route("0.0.0.0/1", ("tun0",), ("192.0.2.7",)), Route("128.0.0.0/1", ("tun0",), ("192.0.2.7",))),
        _with(Route("10.0.0.0/24", ("skb99",))),  # of a swarm that was left, until its containers are gone
        _with(Route("10.0.0.0/24", ("br-0123456789ab",))),  # an engine's, of an earlier skep
    ],
)
def test_what_is_its_own_and_what_leads_to_the_world_is_no_clash(host: Host) -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n1"), MeshEndpoint("10.0.0.8", "n2"))
    made = desired(mesh, "n1", host)
    assert (made.objects != (), made.failures) == (True, ())


def test_a_bridge_by_which_the_world_is_reached_is_not_spared() -> None:
    host = replace(_with(Route("10.0.0.0/24", ("br-0123456789ab",))), uplinks=frozenset({"br-0123456789ab"}))
    assert desired(_mesh(), "n1", host).objects == ()


def test_nameservers_are_read(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert nameservers(file) == ()
    file.write_text("# of yours\nsearch x\nnameserver\nnameserver 10.0.0.2 \nnameserver fd00::1\n")
    assert nameservers(file) == ("10.0.0.2", "fd00::1")


def test_numbers_fit_the_mark() -> None:
    assert RETURNS_MAX < 0xFFFF < OURS_MASK


# What is to be done

OBJECTS = st.one_of(
    st.builds(Bridge, st.sampled_from(["skb1", "skb2"]), st.sampled_from(["m1", "m2"]), st.just(1450)),
    st.builds(Neighbour, st.just("skb1"), st.sampled_from(["a", "b"]), st.sampled_from(["m1", "m2"])),
    st.builds(PortJump, st.just("tcp"), st.integers(1, 3), st.sampled_from(["x", "y"])),
    st.builds(Chain, st.sampled_from(["x", "y"]), st.none(), st.sampled_from([("1",), ("2",)])),
    st.builds(Sysctl, st.sampled_from(["p", "q"]), st.sampled_from(["0", "1"])),
)


def _keyed(objects: list[Object]) -> frozenset[Object]:
    return frozenset({(type(each), each.key): each for each in objects}.values())


@given(st.lists(OBJECTS), st.lists(OBJECTS))
def test_what_is_done_makes_what_is_wanted(want: list[Object], have: list[Object]) -> None:
    bridges = {each.name for each in _keyed(want) if isinstance(each, Bridge)}
    want = [each for each in want if not isinstance(each, Neighbour) or each.device in bridges]
    wanted, there = _keyed(want), _keyed(have)
    changes = diff(wanted, there)
    made = after(there, changes)
    assert {each for each in made if not isinstance(each, Sysctl)} == {
        each for each in wanted if not isinstance(each, Sysctl)
    }
    assert made == wanted | set(changes.stays)
    assert not diff(wanted, made)


@given(st.lists(OBJECTS), st.lists(OBJECTS))
def test_it_is_done_in_an_order_in_which_it_can_be(want: list[Object], have: list[Object]) -> None:
    changes = diff(_keyed(want), _keyed(have))
    puts = [ORDER.index(type(each)) for each in changes.puts]
    drops = [ORDER.index(type(each)) for each in changes.drops]
    assert (puts, drops) == (sorted(puts), sorted(drops, reverse=True))


def test_what_is_lost_with_a_device_is_put_anew_with_it() -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n2"))
    before = desired(mesh, "n1", _host()).objects
    moved = {**NODES, "n1": "192.0.2.9"}
    host = Host(frozenset({"192.0.2.9"}))
    after_it = desired(_mesh(MeshEndpoint("10.0.0.7", "n2"), nodes=moved), "n1", host).objects
    puts = diff(after_it, before).puts
    for kind in (Bridge, Tunnel, Neighbour, Forward, PortForward):
        assert _of(puts, kind) == _of(after_it, kind), kind


def test_a_bridge_that_containers_are_on_stays() -> None:
    bridge = Bridge("skb1", "m1", 1450)
    assert diff((), [bridge]).drops == (bridge,)
    assert not diff((), [bridge, Port("veth1", "skb1"), Gateway("skb1", "10.0.0.2/24")])
    assert diff((), [bridge, Port("veth1", "skb2")]).drops == (bridge,)


def test_without_an_address_of_its_own_what_there_is_stays() -> None:
    mesh = _mesh(MeshEndpoint("10.0.0.7", "n2"), nodes={**NODES, "n1": ""})
    assert desired(mesh, "n1", _host()).is_unknown
    whole = desired(_mesh(MeshEndpoint("10.0.0.7", "n2")), "n1", _host())
    lost = Host(frozenset(), frozenset({"eth0"}), tunnels=frozenset({NODES["n1"]}))
    made = desired(_mesh(MeshEndpoint("10.0.0.7", "n2")), "n1", lost)
    assert made.objects == whole.objects
    assert "is none of this host's" in made.failures[0]


def test_all_at_once_and_jumps_only_while_there_is_where_to() -> None:
    objects = desired(_mesh(MeshEndpoint("10.0.0.7", "n1")), "n1", _host()).objects
    lines = transaction(diff(objects, ())).splitlines()
    assert lines[0] == "add table ip skep"
    jump = lines.index("add element ip skep ports { tcp . 8080 : goto tcp-8080 }")
    (made,) = [n for n, line in enumerate(lines) if line.startswith("add chain ip skep tcp-8080")]
    assert made < jump
    counts = [n for n, line in enumerate(lines) if 'counter name "tcp-8080"' in line]
    assert counts > [lines.index("add counter ip skep tcp-8080")]
    made = lines.index("add set ip skep tcp-bytes { type ct_dir . inet_service; counter; }")
    assert made < lines.index("add element ip skep tcp-bytes { original . 8080, reply . 8080 }")
    gone = transaction(diff(desired(_mesh(), "n1", _host(), refused={("tcp", 8080)}).objects, objects))
    assert "delete element ip skep tcp-bytes { original . 8080, reply . 8080 }" in gone
    assert gone.index("delete element ip skep ports") < gone.index("delete chain ip skep tcp-8080")
    assert gone.index("delete chain ip skep tcp-8080") < gone.index("delete counter ip skep tcp-8080")
    assert transaction(diff((), objects)) == "delete table ip skep\n"
    assert transaction(Changes()) == ""


def _element(way: str, of: int, octets: int) -> dict[str, object]:
    return {"elem": {"val": {"concat": [way, of]}, "counter": {"packets": 9, "bytes": octets}}}


def test_a_listing_shows_what_was_made() -> None:
    made = desired(_mesh(MeshEndpoint("10.0.0.7", "n1")), "n1", _host()).objects
    rules: list[Object] = [
        each for each in made if isinstance(each, Table | Chain | Counter | Traffic | PortJump)
    ]
    entries: list[object] = [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": "skep"}}]
    for each in rules:
        if isinstance(each, Chain):
            hook = {} if each.hook is None else dict(zip(("type", "hook", "prio"), each.hook, strict=True))
            entries.append({"chain": {"name": each.name, **hook}})
            entries += [{"rule": {"chain": each.name, "comment": stamp}} for stamp in each.stamps]
    entries.append({"counter": {"name": "tcp-8080", "packets": 7, "bytes": 420}})
    elements = [_element("original", 8080, 1000), _element("reply", 8080, 20_000)]
    entries.append({"set": {"name": "tcp-bytes", "elem": elements}})
    entries.append({"set": {"name": "udp-bytes", "stmt": [{"counter": None}]}})
    jump = [{"concat": ["tcp", 8080]}, {"goto": {"target": "tcp-8080"}}]
    entries.append({"map": {"name": "ports", "elem": [jump]}})
    there = list(found(json.dumps({"nftables": entries})))
    assert not diff(rules, there), "how much was counted is no difference"
    assert Counter("tcp-8080", 7, 420) in there
    assert Traffic("tcp", "8080", 1000, 20_000) in there
    jump_only = PortJump("tcp", 8080, "tcp-8080")
    assert diff(rules, there[:-3]).puts == (Counter("tcp-8080"), Traffic("tcp", "8080"), jump_only)


def test_half_of_what_counts_bytes_is_made_whole_or_taken_away() -> None:
    elements = [_element("original", 8080, 1000)]
    entries = [{"map": {"name": "ports"}}, {"set": {"name": "tcp-bytes", "elem": elements}}]
    (half,) = (each for each in found(json.dumps({"nftables": entries})) if isinstance(each, Traffic))
    assert not half.is_whole
    both = "{ original . 8080, reply . 8080 }"
    assert f"add element ip skep tcp-bytes {both}" in transaction(diff([Traffic("tcp", "8080")], [half]))
    away = transaction(diff((), [half])).splitlines()
    assert away[-2:] == [f"{verb} element ip skep tcp-bytes {both}" for verb in ("add", "delete")]


def test_bytes_are_counted_by_where_clients_went() -> None:
    objects = desired(_mesh(MeshEndpoint("10.0.0.7", "n1")), "n1", _host()).objects
    assert _of(objects, Traffic) == [Traffic("tcp", "8080")]
    assert _chain(objects, "quiet").splitlines()[-1] == _chain(objects, "steer").splitlines()[-1]
    to = "ct direction . ct original proto-dst"
    assert _chain(objects, "port-bytes").splitlines() == [
        f"meta l4proto {kind} {to} @{kind}-bytes accept" for kind in ("tcp", "udp")
    ]
    back = Overlay(OverlayNetwork("b", "10.1.0.0/24", 4098, 4789, "b"), NODES, {}, endpoints={})
    here = {"x": OverlayEndpoint("10.1.0.7", "n1")}
    both = replace(_mesh(MeshEndpoint("10.0.0.7", "n1")), overlays={"b": replace(back, endpoints=here)})
    objects = desired(both, "n1", _host()).objects
    ports, vips = _chain(objects, "steer").splitlines()[-2:]
    assert ports == _chain(objects, "quiet").splitlines()[-1]
    assert vips == "ct mark and 0xff04ffff == 0x5a040000 ct direction . ct original ip daddr @vip-bytes"
    for mark, is_port in ((OURS, True), (STEERED, True), (SERVED, False), (OURS | 3, None)):
        assert (mark & 0xFF04FFFF == OURS, mark & 0xFF04FFFF == SERVED) == (is_port is True, is_port is False)


def test_a_firewall_that_drops_what_is_forwarded_is_said() -> None:
    chains = [
        {
            "family": "ip",
            "table": "filter",
            "name": "FORWARD",
            "hook": "forward",
            "policy": "drop",
        },  # iptables'
        {"family": "ip6", "table": "f6", "name": "forward", "hook": "forward", "policy": "drop"},
        {"family": "inet", "table": "open", "name": "forward", "hook": "forward", "policy": "accept"},
        {"family": "inet", "table": "fw", "name": "input", "hook": "input", "policy": "drop"},
        {"family": "inet", "table": "fw", "name": "other"},
        {"family": "inet", "table": "shut", "name": "forward", "hook": "forward", "policy": "drop"},
    ]
    assert dropping(json.dumps({"nftables": [{"metainfo": {}}, *({"chain": c} for c in chains)]})) == [
        "inet shut"
    ]
    with pytest.raises(Corrupt):
        dropping('{"nftables": [{"chain": {"hook": "forward", "policy": "drop"}}]}')
    (said,) = desired(_mesh(), "n1", _host(firewalls=("inet shut",))).failures
    assert said.startswith("the nftables table inet shut drops what is forwarded")
    assert said.endswith("ct mark and 0xff000000 == 0x5a000000 accept")


def test_a_table_of_that_name_that_a_user_made_is_left_alone() -> None:
    his = [{"table": {"family": "ip", "name": "skep"}}, {"chain": {"name": "mine"}}]
    with pytest.raises(Corrupt, match="is not skepd's, which needs that name: rename it"):
        found(json.dumps({"nftables": his}))


@pytest.mark.parametrize(
    "listing", ["", "{}", '{"nftables": [{"map": {"name": "ports", "elem": [[1, 2]]}}]}']
)
def test_a_listing_that_makes_no_sense_is_said_to(listing: str) -> None:
    with pytest.raises(Corrupt, match="cannot be understood"):
        found(listing)


def test_what_is_told_is_added_to_what_was() -> None:
    mesh = Mesh().told(NETWORK, NODES.items(), (), _mesh().services.values(), ())
    assert mesh == _mesh()
    other = MeshService("s2", "db", ())
    mesh = mesh.told(None, [("n4", "192.0.2.4")], ["n1"], [other], ["s1"])
    assert (sorted(mesh.nodes), list(mesh.services), mesh.network) == (["n2", "n3", "n4"], ["s2"], NETWORK)
