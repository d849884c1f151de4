"""Which packets take the fast path, as rules, and what of it is found again."""

from __future__ import annotations

import json
import re

from msgspec.structs import replace

from skep.model.mesh import Mesh
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network import fast_path_rules
from skep.network.desired import desired
from skep.network.diff import STILL_LED_MAX, Changes, diff
from skep.network.host import HostFacts, HostRoute
from skep.network.objects import (
    Chain,
    FastPath,
    FastTable,
    LedAddress,
    Neighbour,
    Object,
    Port,
    SubnetRoute,
    Tunnel,
)

BACK = OverlayNetwork("back-id", "10.1.0.0/24", 4098, 4789, "back")
FRONT = OverlayNetwork("front-id", "10.2.0.0/24", 4099, 4789, "front")
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2"}
HERE, THERE = OverlayEndpoint("10.1.0.11", "n1", "web.1.a"), OverlayEndpoint("10.1.0.12", "n2", "web.2.b")
WEB = OverlayService("s", "web", ("www",), "10.1.0.100", (HERE, THERE))
PORTS = frozenset({Port("veth1", "skb4098"), Port("veth2", "skb4098"), Port("veth3", "skb4099")})
HOST = HostFacts(
    frozenset({NODES["n1"], "127.0.0.1"}),
    routes=frozenset({HostRoute("192.0.2.0/24", ("eth0",))}),
    bridges=frozenset({"skb4098"}),
    ports=PORTS,
    has_fast_path=True,
)


def made(host: HostFacts = HOST, *services: OverlayService) -> list[Object]:
    overlay = Overlay(BACK, NODES, {each.id: each for each in services or (WEB,)})
    return list(desired(Mesh(nodes=NODES, overlays={BACK.id: overlay}), "n1", host).objects)


def hooks(objects: list[Object]) -> dict[str, FastPath]:
    return {each.device: each for each in objects if isinstance(each, FastPath)}


def test_the_tunnel_and_the_containers_of_the_network_have_one() -> None:
    objects = made()
    assert hooks(objects).keys() == {"skv4098", "veth1", "veth2"}
    assert FastTable() in objects
    assert LedAddress("10.1.0.100") in objects


def test_nothing_of_it_is_wanted_where_the_kernel_cannot_or_there_is_no_tunnel() -> None:
    fast = (FastPath, FastTable, LedAddress)
    assert not [each for each in made(replace(HOST, has_fast_path=False)) if isinstance(each, fast)]
    elsewhere = replace(HOST, addresses=frozenset({"127.0.0.1"}))
    assert not [each for each in made(elsewhere) if isinstance(each, FastPath | FastTable)]


def test_only_what_both_ends_need_no_rules_for_takes_it() -> None:
    found = hooks(made())
    known, led, new = found["veth1"].rules
    for rule in (known, new, *found["skv4098"].rules):
        assert rule.startswith("ip frag-off & 0x3fff == 0 "), "a part says nothing of its connection"
        assert "tcp" in rule
        assert rule.endswith('fwd ip to ip daddr device "skb4098"')
    assert "@direct" in known
    assert "!= @led" in known
    assert led == "tcp flags & (syn | ack) == syn ip daddr @services update @led { ip saddr . tcp sport }"
    for kept in ("ip daddr != @services", "!= @led", "fib daddr type unicast", "ip saddr 10.1.0.0/24"):
        assert kept in new
    assert "ether daddr 02:6e:c0:00:02:01 " in new, "what is for a container here goes straight to it"
    came, begins = found["skv4098"].rules
    assert "!= @led" in came, "what answers for a service is translated"
    assert "ip daddr @homes" in begins, "its answer is to be known, too"
    for rule in (known, new, came, begins):
        assert "ip ttl > 1" in rule, "its sender hears of it from the host"
    for rule in (new, begins):
        assert "fib saddr type unicast" in rule, "nobody sends as the host"


def test_half_of_a_connection_is_nothing_to_conntrack() -> None:
    (found,) = [each for each in made() if isinstance(each, Chain) and each.name == "halves"]
    assert found.hook is not None
    assert found.hook[:2] == ("filter", "forward")
    assert found.hook[2] < -150, "before users' rules"
    (rule,) = found.rules
    assert rule.startswith('iifname "skb*" oifname "skb*" ct state invalid ')
    assert rule.endswith(" notrack")
    without = made(replace(HOST, has_fast_path=False))
    assert not [each for each in without if isinstance(each, Chain) and each.name == "halves"]


def test_a_device_that_no_chain_can_be_named_by_is_left_out() -> None:
    odd = Port('x"; drop', "skb4098")
    assert hooks(made(replace(HOST, ports=PORTS | {odd}))).keys() == {"skv4098", "veth1", "veth2"}


def listed(objects: list[Object]) -> list[Object]:
    """Returns what nftables would list of these."""
    chains = [
        {"chain": {"family": "netdev", "table": "skep", "name": each.chain, "hook": "ingress"}}
        for each in objects
        if isinstance(each, FastPath)
    ]
    chains.append({"chain": {"family": "netdev", "table": "others", "name": "x", "hook": "ingress"}})
    led = [each.address for each in objects if isinstance(each, LedAddress)]
    text = json.dumps({"nftables": [{"metainfo": {}}, {"set": {"name": "services", "elem": led}}]})
    return list(fast_path_rules.found(json.dumps({"nftables": chains}), text))


def test_what_is_found_is_known_again() -> None:
    objects = made()
    fast = [each for each in objects if isinstance(each, FastPath | FastTable | LedAddress)]
    assert not diff(fast, listed(objects))
    assert list(fast_path_rules.found("", None)) == []


def test_a_device_with_other_rules_loses_those() -> None:
    before = listed(made())
    other = replace(HOST, addresses=frozenset({"192.0.2.9", "127.0.0.1"}))
    overlay = Overlay(BACK, {**NODES, "n1": "192.0.2.9"}, {"s": WEB})
    moved = list(desired(Mesh(nodes=NODES, overlays={BACK.id: overlay}), "n1", other).objects)
    wanted = [each for each in moved if isinstance(each, FastPath | FastTable | LedAddress)]
    changes = diff(wanted, before)
    assert {each.device for each in changes.puts if isinstance(each, FastPath)} == {"veth1", "veth2"}
    text = fast_path_rules.begun(changes)
    for device in ("veth1", "veth2"):
        old = next(each.chain for each in before if isinstance(each, FastPath) and each.device == device)
        assert f"delete chain netdev skep {old}\n" in text
    assert "skv4098" not in text, "its rules name nobody's address"


def test_a_tunnel_that_is_made_anew_gets_its_rules_again() -> None:
    objects = made()
    tunnel = next(each for each in objects if isinstance(each, Tunnel))
    fast = [each for each in objects if isinstance(each, FastPath | FastTable | LedAddress)]
    changes = diff([tunnel, *fast], fast)
    assert [each.device for each in changes.puts if isinstance(each, FastPath)] == ["skv4098"]


def test_a_device_that_went_takes_its_chain_along_or_not() -> None:
    """Kernels differ: the chain is made before it is deleted."""
    gone = hooks(made())["veth1"]
    lines = fast_path_rules.begun(Changes(drops=(gone,))).splitlines()
    at = lines.index(f"add chain netdev skep {gone.chain}")
    assert lines[at + 1] == f"delete chain netdev skep {gone.chain}"


def test_services_are_known_before_they_are_asked_for_and_the_table_goes_whole() -> None:
    text = fast_path_rules.begun(Changes(puts=(LedAddress("10.1.0.100"),), drops=(LedAddress("10.1.0.9"),)))
    assert "add element netdev skep services { 10.1.0.100 }\n" in text
    assert "delete element netdev skep services { 10.1.0.9 }\n" in text
    whole = fast_path_rules.begun(
        Changes(drops=(*hooks(made()).values(), LedAddress("10.1.0.100"), FastTable()))
    )
    assert whole == "add table netdev skep\ndelete table netdev skep\n"
    assert fast_path_rules.begun(Changes()) == ""


def test_connections_are_looked_at_anew_when_a_service_comes() -> None:
    """Of a large network it is heard of when somebody has sent to its address."""
    came = fast_path_rules.begun(Changes(puts=(LedAddress("10.1.0.100"),)))
    assert came.endswith("{ 10.1.0.100 }\nflush set netdev skep direct\n")
    assert "flush" not in fast_path_rules.begun(Changes(puts=(FastTable(),)))


def test_a_services_address_stays_led_until_somebody_else_has_it() -> None:
    """Connections to it go on, also where the service is not known any more."""
    led, table = LedAddress("10.1.0.100"), FastTable()
    gone = diff([table], [table, led])
    assert not gone
    assert gone.stays == (led,)
    somebodys = Neighbour("skb4098", led.address, "02:6e:c0:00:02:02")
    assert diff([table, somebodys], [table, led]).drops == (led,)
    assert set(diff([], [table, led]).drops) == {table, led}, "with the table all of it goes"


def test_with_a_network_its_services_addresses_go() -> None:
    """Networks come and go, each with addresses of its own: what stays of them would never end."""
    table, led, others = FastTable(), LedAddress("10.1.0.100"), LedAddress("10.2.0.100")
    back, front = SubnetRoute("10.1.0.0/24", "skb4098"), SubnetRoute("10.2.0.0/24", "skb4099")
    gone = diff([table, front], [table, back, front, led, others])
    assert set(gone.drops) == {back, led}
    assert gone.stays == (others,)


def test_not_all_services_addresses_that_were_stay_for_ever() -> None:
    table, route = FastTable(), SubnetRoute("10.1.0.0/16", "skb4098")
    led = [LedAddress(f"10.1.{n >> 8}.{n & 255}") for n in range(STILL_LED_MAX + 10)]
    gone = diff([table, route], [table, route, *led])
    assert len(gone.stays) == STILL_LED_MAX
    assert {*gone.stays, *gone.drops} == {*led}
    assert not diff([table, route], [table, route, *gone.stays])


def test_the_trial_leaves_nothing_and_touches_nothing_of_ours() -> None:
    lines = fast_path_rules.trial().splitlines()
    assert lines[0] == "add table netdev skep-trial"
    assert lines[-2:] == ["delete table netdev skep-trial", "delete table ip skep-trial"]
    assert all(re.search(r" (netdev|ip) skep-trial( |$)", line) for line in lines)
    assert any("notrack" in line for line in lines), "it is refused with all other rules, where it is"
