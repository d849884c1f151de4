"""What a node should have for services' own addresses on its networks, and which names lead to those."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skep.model.mesh import Mesh
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network import network_names
from skep.network.desired import desired
from skep.network.diff import diff
from skep.network.host import Host, Route
from skep.network.names import Answer, Names, find
from skep.network.objects import Chain, Filtered, Neighbour, Object, Table, Tunnel, VipJump
from skep.network.ruleset import found, transaction
from skep.network.ways import mac_of

BACK = OverlayNetwork("back-id", "10.1.0.0/24", 4098, 4789, "back")
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2"}
VIP = "10.1.0.100"
HERE = OverlayEndpoint("10.1.0.11", "n1", "web.1.a")
THERE = OverlayEndpoint("10.1.0.12", "n2", "web.2.b")
LEAVING = OverlayEndpoint("10.1.0.13", "n2", "web.3.c", False)
WEB = OverlayService("s", "web", ("www",), VIP, (HERE, THERE, LEAVING))
HOST = Host(
    frozenset({NODES["n1"], "127.0.0.1"}),
    routes=frozenset({Route("192.0.2.0/24", ("eth0",))}),
    filters_bridges=True,
)


def made(*services: OverlayService, host: Host = HOST, nodes: dict[str, str] = NODES) -> list[Object]:
    overlay = Overlay(BACK, nodes, {each.id: each for each in services})
    return list(desired(Mesh(nodes=nodes, overlays={BACK.id: overlay}), "n1", host).objects)


def rules(objects: list[Object]) -> dict[str, str]:
    return {each.name: "\n".join(each.rules) for each in objects if isinstance(each, Chain)}


def test_it_leads_to_tasks_that_take_new_connections_of_the_networks_own_containers() -> None:
    objects = made(WEB)
    chains = rules(objects)
    assert [each for each in objects if isinstance(each, VipJump)] == [VipJump(VIP, "vip-10-1-0-100")]
    assert "10.1.0.11" in chains["vip-10-1-0-100"]
    assert "10.1.0.12" in chains["vip-10-1-0-100"]
    assert "10.1.0.13" not in chains["vip-10-1-0-100"]
    assert chains["serve"] == 'iifname "skb4098" ip daddr 10.1.0.0/24 ip daddr vmap @vips'
    assert Neighbour("skv4098", VIP, mac_of(NODES["n1"])) in objects, "who asks goes by this host"
    assert Filtered("skb4098") in objects
    assert "10.1.0.11 . 10.1.0.11" in chains["back"], "a task that is led to itself"
    assert "10.1.0.12 . 10.1.0.12" not in chains["back"], "one of another host is not led by this one"


def test_one_task_needs_no_turn_and_none_is_a_refusal() -> None:
    assert rules(made(replace(WEB, endpoints=(HERE,))))["vip-10-1-0-100"].endswith("dnat to 10.1.0.11")
    refused = rules(made(replace(WEB, endpoints=(replace(HERE, takes_new=False),))))["vip-10-1-0-100"]
    assert "tcp reset" in refused
    assert "dnat" not in refused


def test_nodes_begin_with_different_tasks() -> None:
    tasks = tuple(OverlayEndpoint(f"10.1.0.{n}", "n1") for n in range(20, 30))
    overlay = Overlay(BACK, NODES, {"s": replace(WEB, endpoints=(*tasks, THERE))})
    mesh = Mesh(nodes=NODES, overlays={BACK.id: overlay})
    host = replace(HOST, addresses=frozenset(NODES.values()))
    one, other = (rules(list(desired(mesh, each, host).objects))["vip-10-1-0-100"] for each in NODES)
    assert one != other


def test_without_the_bridges_filter_addresses_are_replaced_between_containers_of_the_host() -> None:
    client = OverlayService("c", endpoints=(OverlayEndpoint("10.1.0.30", "n1"),))
    objects = made(WEB, client, host=replace(HOST, filters_bridges=False))
    back = rules(objects)["back"]
    assert "ip saddr { 10.1.0.11, 10.1.0.30 } ip daddr { 10.1.0.11 } masquerade" in back
    assert Filtered("skb4098") not in objects


def test_an_address_that_is_somebodys_or_of_elsewhere_is_no_services() -> None:
    for vip in ("10.1.0.11", "10.2.0.100", "192.0.2.2", "no address", ""):
        objects = made(replace(WEB, vip=vip))
        assert not [each for each in objects if isinstance(each, VipJump)], vip
        assert "serve" not in rules(objects)


def test_where_no_tunnel_can_begin_names_lead_to_tasks() -> None:
    """As where the node's address is another's, who translates: nobody would answer for the service's."""
    objects = made(WEB, host=replace(HOST, addresses=frozenset({"10.9.9.9"})))
    assert not [each for each in objects if isinstance(each, VipJump | Filtered)]
    assert "serve" not in rules(objects)


def test_a_swarm_on_one_hosts_loopback_answers_for_it_too_and_lets_nobody_in() -> None:
    objects = made(WEB, nodes={"n1": "127.0.0.1", "n2": "127.0.0.1"})
    assert [each.local for each in objects if isinstance(each, Tunnel)] == ["127.0.0.1"]
    assert Neighbour("skv4098", VIP, mac_of("127.0.0.1")) in objects
    assert rules(objects)["senders"].endswith("@th,96,24 4098 drop")


def test_a_table_of_an_earlier_skep_gets_the_map() -> None:
    text = transaction(diff(made(WEB), ()))
    assert "add map ip skep vips { type ipv4_addr : verdict; }" in text
    assert f"add element ip skep vips {{ {VIP} : goto vip-10-1-0-100 }}" in text
    listing = (
        '{"nftables": [{"map": {"name": "ports"}}, {"map": {"name": "vips", "elem":'
        ' [["10.1.0.100", {"goto": {"target": "vip-10-1-0-100"}}]]}}]}'
    )
    there = list(found(listing))
    assert VipJump(VIP, "vip-10-1-0-100") in there
    gone = transaction(diff([Table()], there))
    assert f"delete element ip skep vips {{ {VIP} }}" in gone


def names(vips: frozenset[str]) -> Names:
    made = Names()
    made.told({BACK.id: Overlay(BACK, NODES, {"s": WEB})}, vips)
    return made


def answer(names: Names, name: str, kind: str = "A") -> Answer | None:
    return find(names.networks_of("10.1.0.11"), name, kind, 0)


def test_names_lead_to_it_once_the_kernel_does_and_to_tasks_before() -> None:
    before, now = names(frozenset()), names(frozenset({VIP, "10.9.0.1"}))
    for name in ("web", "www", "web.back"):
        assert answer(before, name) == Answer(("10.1.0.11", "10.1.0.12"))
        assert answer(now, name) == Answer((VIP,))
    assert answer(now, "tasks.web") == Answer(("10.1.0.11", "10.1.0.12"))
    assert answer(now, "web.3.c") == Answer(("10.1.0.13",))
    assert answer(now, "100.0.1.10.in-addr.arpa", "PTR") == Answer(name="web.back")


def test_only_names_of_a_service_whose_address_is_led_now_are_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, looked_at, of_one = names(frozenset()), [], network_names._named
    monkeypatch.setattr(
        network_names, "_named", lambda s, led: looked_at.append((s.id, led)) or of_one(s, led)
    )
    overlay = Overlay(BACK, NODES, {"s": WEB, "t": OverlayService("t", "db")})
    made.told({BACK.id: overlay}, frozenset({VIP}))
    assert looked_at == [("s", True), ("t", False)]
    made.told({BACK.id: overlay}, frozenset({VIP, "10.9.0.1"}))
    assert len(looked_at) == 2
    made.told({BACK.id: replace(overlay)}, frozenset())
    assert looked_at[2:] == [("s", False)]
    assert answer(made, "web") == Answer(("10.1.0.11", "10.1.0.12"))
