"""Overlay networks' packets: real tunnels and tables of three hosts, and containers that reach each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from skep.model.mesh import MeshEndpoint, MeshPort, MeshService
from skep.network.ways import mac_of

from .mesh_hosts import BRIDGE as MESHS_BRIDGE
from .mesh_hosts import CLIENT, NETWORK, MeshHost, Namespace, three_hosts
from .overlay_hosts import (
    ANSWERED,
    BACK,
    FRONT,
    UNANSWERED,
    Member,
    Overlays,
    gateway,
    names_of,
    on_overlays,
)
from .test_mesh import DOCKERS, FIREWALL, FLUSH, RULE
from .test_mesh_leaving import LISTED
from .test_mesh_tunnel import forged

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

BRIDGE, TUNNEL = names_of(BACK)


@pytest.fixture
def overlays() -> Iterator[Overlays]:
    with three_hosts() as lan, on_overlays(lan) as made:
        yield made


def _assert_nothing_is_left(host: MeshHost, *but: str) -> None:
    for command in ("ip link", "ip rule", "ip route show table all", "ip neigh", "iptables -S"):
        left = [line for line in host.run(*command.split()).splitlines() if not any(b in line for b in but)]
        assert not any(word in line for word in ("skb", "skv") for line in left), left
    assert host.run(sys.executable, "-c", LISTED).strip() == "None"


def test_each_reaches_each_by_address_with_its_own(overlays: Overlays) -> None:
    overlays.serving().add(1, "d", "10.1.0.14")
    overlays.tell()
    overlays.assert_all_reach_all()
    a, b, c, d = overlays.members
    for asker, asked in ((a, b), (b, c), (c, a), (d, b), (a, d)):
        assert asker.ping(asked.address, BACK.mtu) == ANSWERED
    assert a.ping("10.1.0.99") == UNANSWERED
    for host in overlays.hosts:
        assert host.told(overlays.for_host(host)) == {
            "failures": [],
            "changed": 0,
            "lingers": False,
            "vips": [],
            "unsure": [],
            "has_lost": False,
        }


def test_a_network_has_its_own_mtu_and_nobody_is_told_of_a_shorter_way(overlays: Overlays) -> None:
    a, b = overlays.add(1, "a", "10.2.0.11"), overlays.add(2, "b", "10.2.0.12")
    for _ in range(3):  # a host says from the second one on that there is a shorter way
        assert a.ping(b.address, FRONT.mtu) == ANSWERED
    bridge, tunnel = names_of(FRONT)
    for device in (bridge, tunnel):
        assert f"mtu {FRONT.mtu} " in overlays.hosts[0].run("ip", "link", "show", device)


# What comes by the tunnels within some time: each frame's type and to whom.
SNIFF = """
import socket, struct, sys
made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
made.bind(("eth0", 3))
print("ready", flush=True)
made.settimeout(float(sys.argv[1]))
seen = set()
try:
    while True:
        data = made.recv(2000)
        if data[12:14] == b"\\x08\\x00" and data[23] == 17 and data[36:38] == struct.pack("!H", 4789):
            frame = data[50:]
            to = "many" if frame[0] & 1 else "one"
            line = f"{frame[12:14].hex()} {to}"
            if line not in seen:
                print(line, flush=True)
            seen.add(line)
except OSError:
    pass
"""
FLOOD = """
import socket
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for to in ("10.1.0.255", "255.255.255.255", "224.0.0.251", "10.1.0.98"):
    made.sendto(b"x", (to, 80))
"""


def test_no_question_and_no_flood_goes_by_the_tunnel(overlays: Overlays) -> None:
    a, b, _ = overlays.serving().members
    command = [*overlays.hosts[0].prefix, sys.executable, "-c", SNIFF, "3"]
    sniffing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert sniffing.stdout is not None
    assert sniffing.stdout.readline() == "ready\n"
    a.run(sys.executable, "-c", FLOOD)
    for asker, asked in ((a, b), (b, a)):
        asker.run("ip", "neigh", "flush", "all")
        assert asker.ping(asked.address) == ANSWERED
    assert a.ping("10.1.0.99") == UNANSWERED
    assert sniffing.communicate(timeout=30)[0].splitlines() == ["0800 one"]


def test_a_host_with_nobody_on_it_has_nothing_of_it(overlays: Overlays) -> None:
    overlays.add(1, "a", "10.1.0.11")
    overlays.add(2, "b", "10.1.0.12")
    overlays.assert_all_reach_all()
    _assert_nothing_is_left(overlays.hosts[2])


@pytest.mark.parametrize(
    "damage",
    [
        [sys.executable, "-c", FLUSH],
        ["ip", "link", "del", TUNNEL],
        ["ip", "link", "set", TUNNEL, "down"],
        ["ip", "link", "del", BRIDGE],
        ["ip", "neigh", "flush", "dev", BRIDGE, "nud", "permanent"],
        ["ip", "neigh", "flush", "dev", TUNNEL, "nud", "permanent"],
    ],
    ids=("rules", "tunnel", "tunnel-down", "bridge", "neighbours", "answers"),
)
def test_what_somebody_did_to_it_is_repaired(overlays: Overlays, damage: list[str]) -> None:
    overlays.serving()
    host = overlays.hosts[0]
    host.run(*damage)
    (told, *_) = overlays.tell()
    assert (told["failures"], told["changed"] > 0) == ([], True)
    overlays.members[0].run("ip", "neigh", "flush", "all")
    overlays.assert_all_reach_all(("tcp",))
    assert [told["changed"] for told in overlays.tell()] == [0, 0, 0]


def test_a_tunnel_of_before_that_says_nothing_of_misses_is_made_anew(overlays: Overlays) -> None:
    overlays.serving()
    host = overlays.hosts[0]
    assert " l3miss " in host.run("ip", "-d", "link", "show", TUNNEL)
    host.run("ip", "link", "del", TUNNEL)
    own = ("id", str(BACK.vni), "local", host.address, "dstport", "4789", "nolearning", "proxy")
    host.run("ip", "link", "add", TUNNEL, "mtu", str(BACK.mtu), "type", "vxlan", *own)
    host.run("ip", "link", "set", TUNNEL, "master", BRIDGE, "up")
    overlays.tell()
    assert " l3miss " in host.run("ip", "-d", "link", "show", TUNNEL)
    overlays.assert_all_reach_all(("tcp",))


@pytest.mark.parametrize("to", [2, 1])
def test_an_address_that_another_host_has_now_is_sought_there(overlays: Overlays, to: int) -> None:
    """Also by those who have been talking with it a moment ago."""
    first, second = (1, 2) if to == 2 else (2, 1)
    for number, name in ((1, "a"), (2, "c"), (3, "d")):
        overlays.add(number, name, f"10.1.0.2{number}")
    moves = overlays.add(first, "b", "10.1.0.12")
    overlays.assert_all_reach_all()
    overlays.remove(moves)
    overlays.add(second, "e", "10.1.0.12")
    overlays.assert_all_reach_all()


def test_the_last_ones_going_takes_all_of_it_away(overlays: Overlays) -> None:
    overlays.serving().add(1, "d", "10.1.0.14")
    a, *_, d = overlays.members
    host = overlays.hosts[0]
    overlays.remove(d)
    overlays.tell("quick")
    overlays.assert_all_reach_all(("tcp",))
    overlays.remove(a)
    told = host.told(overlays.for_host(host), "quick")
    assert (told["failures"], told["lingers"]) == ([], True)
    _assert_nothing_is_left(host, BRIDGE)
    assert BRIDGE in host.run("ip", "link")  # the engine's network is on it for a moment
    while host.told(overlays.for_host(host))["lingers"]:
        pass
    _assert_nothing_is_left(host)
    overlays.tell("quick")
    overlays.assert_all_reach_all(("tcp",))


def test_a_bridge_that_a_container_is_on_stays_with_it(overlays: Overlays) -> None:
    a, *_ = overlays.serving().members
    host = overlays.hosts[0]
    overlays.members.remove(a)
    for _ in range(5):
        told = host.told(overlays.for_host(host))
        assert (told["failures"], told["lingers"]) == ([], False)
    assert a.ping(gateway(host, BACK)) == ANSWERED
    overlays.members.append(a)
    overlays.tell()
    overlays.assert_all_reach_all(("tcp",))


def test_leaving_takes_all_of_it_away(overlays: Overlays) -> None:
    a, *_ = overlays.serving().members
    host = overlays.hosts[0]
    overlays.remove(a)
    host.die()
    assert host.clear() == []
    _assert_nothing_is_left(host)


def test_it_goes_on_without_its_process(overlays: Overlays) -> None:
    overlays.serving()
    for host in overlays.hosts:
        host.die()
    overlays.assert_all_reach_all(("tcp",))
    assert [told["changed"] for told in overlays.tell()] == [0, 0, 0]


ENGINES = (
    *DOCKERS,
    f"-A FORWARD -i {BRIDGE} -o {BRIDGE} -j ACCEPT",
    f"-A FORWARD -i {BRIDGE} ! -o {BRIDGE} -j ACCEPT",
)
INVALID = "-I FORWARD -m conntrack --ctstate INVALID -j DROP"


@pytest.mark.parametrize("bridged", ["0", "1"], ids=("routed", "br_netfilter"))
def test_the_engines_rules_and_those_against_invalid_packets_let_it_pass(
    overlays: Overlays, bridged: str
) -> None:
    overlays.serving().add(1, "d", "10.1.0.14")
    for host in overlays.hosts:
        for rule in (*ENGINES, INVALID):
            host.run("iptables", "-w", *rule.split())
        host.run("sysctl", "-w", f"net.bridge.bridge-nf-call-iptables={bridged}")
    assert [told["failures"] for told in overlays.tell()] == [[], [], []]
    overlays.assert_all_reach_all()


def test_two_networks_do_not_reach_each_other_and_one_on_both_reaches_both(overlays: Overlays) -> None:
    overlays.add(1, "a", "10.1.0.11")
    b, _, both = (
        overlays.add(1, "b", "10.2.0.12"),
        overlays.add(2, "c", "10.2.0.13"),
        overlays.add(2, "d", "10.1.0.14", "10.2.0.14"),
    )
    overlays.add(3, "e", "10.1.0.15")
    overlays.assert_all_reach_all()
    a = overlays.members[0]
    for asker, address in (
        (a, b.address),
        (a, "10.2.0.13"),
        (a, "10.2.0.14"),
        (b, a.address),
        (b, "10.1.0.15"),
    ):
        assert asker.ask(address, 80) == ["error TimeoutError"], (asker.label, address)
        assert both.ask(b.address, 80) == ["b 10.2.0.14"]


# Who can use the tunnel


def _forged(overlays: Overlays, by: int, target: str, hears: Namespace, mac: str, source: str) -> list[str]:
    """Returns what is heard of a forged packet that is sent to the first host's tunnel; 0: by a stranger."""
    sender = overlays.hosts[by - 1] if by else overlays.lan.client
    return forged(sender, overlays.hosts[0], target, hears, 9999, mac, source, BACK.vni)


def test_who_is_no_node_of_the_network_does_not_get_in_by_its_tunnel(overlays: Overlays) -> None:
    a, _ = overlays.add(1, "a", "10.1.0.11"), overlays.add(2, "b", "10.1.0.12")
    host, mac = overlays.hosts[0], mac_of(overlays.hosts[1].address)
    assert _forged(overlays, 2, a.address, a, mac, "10.1.0.12") == [
        "forged 10.1.0.12"
    ]  # so it would be heard
    for by in (0, 3):
        for target, hears in ((a.address, a), (gateway(host, BACK), host), (host.address, host)):
            assert _forged(overlays, by, target, hears, mac, "10.1.0.12") == [], (by, target)


def test_a_node_reaches_containers_by_the_tunnel_and_not_the_host_or_others(overlays: Overlays) -> None:
    overlays.serving()
    host, mac = overlays.hosts[0], mac_of(overlays.hosts[1].address)
    for target, hears in ((gateway(host, BACK), host), (host.address, host), (CLIENT, overlays.lan.client)):
        assert _forged(overlays, 2, target, hears, mac, "10.1.0.12") == [], target
    overlays.assert_all_reach_all(("tcp",))


def test_a_container_reaches_no_other_host_by_its_bridge(overlays: Overlays) -> None:
    a, *_ = overlays.serving().members
    own, other = overlays.hosts[:2]
    address = gateway(other, BACK)
    for mac in (mac_of(other.address), mac_of(own.address)):
        a.run("ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        server = other.serve("host", 9000)
        try:
            assert a.ask(address, 9000)[0].startswith("error"), mac
        finally:
            server.kill()
            server.wait(5)


# With what else there is on a host


def test_a_task_on_the_mesh_too_is_reached_by_both(overlays: Overlays) -> None:
    a, *_ = overlays.serving().members
    host, lan = overlays.hosts[0], overlays.lan
    port = MeshService("s1", "web", (MeshPort("tcp", 8080, 80),), (MeshEndpoint("10.0.0.11", "h1"),), False)
    overlays.mesh = replace(overlays.mesh, network=NETWORK, services={"s1": port})
    assert [told["failures"] for told in overlays.tell("quick")] == [[], [], []]
    host.run("ip", "addr", "add", "10.0.0.251/24", "dev", MESHS_BRIDGE)
    a.cable(host, MESHS_BRIDGE, "eth9", "10.0.0.11/24")
    for each in overlays.hosts:
        assert lan.client.ask(each.address, 8080)[0].startswith("a "), each.node_id
        assert each.ask("127.0.0.1", 8080)[0].startswith("a "), each.node_id
    for member in overlays.members[1:]:  # from a container on an overlay, by the published port of its host
        assert member.ask(member.host.address, 8080)[0].startswith("a ")
    overlays.assert_all_reach_all()
    assert a.ask("10.1.0.12", 80) == ["b 10.1.0.11"]


def test_a_network_that_would_cost_the_host_its_way_is_said_and_others_go_on(overlays: Overlays) -> None:
    host = overlays.hosts[0]
    host.run("ip", "route", "add", "10.2.0.0/16", "via", "10.214.0.254")
    a, b = overlays.add(1, "a", "10.1.0.11"), overlays.add(2, "b", "10.1.0.12")
    lone = Member(overlays.hosts[0], "c", {FRONT: "10.2.0.13"})
    overlays.members.append(lone)
    (said,) = host.told(overlays.for_host(host))["failures"]
    assert said.startswith("network front is not here, as its subnet 10.2.0.0/24 would take away this host's")
    assert "10.2.0.0/16 via 10.214.0.254 dev eth0" in host.run("ip", "route")
    assert a.ask(b.address, 80) == ["b 10.1.0.11"]


def test_a_firewall_that_lets_nothing_pass_is_said_with_the_rule_that_it_lacks(overlays: Overlays) -> None:
    a, b, _ = overlays.serving().members
    host = overlays.hosts[0]
    host.run(sys.executable, "-c", FIREWALL)
    assert a.ask(b.address, 80, kind="udp") == ["error TimeoutError"]
    (said,) = host.told(overlays.for_host(host))["failures"]
    assert "table inet fw drops what is forwarded, and has no rule for overlay networks" in said
    host.run(sys.executable, "-c", RULE % said.rpartition(": ")[2])
    assert host.told(overlays.for_host(host))["failures"] == []
    overlays.assert_all_reach_all()


def test_a_second_daemon_says_which_networks_the_first_one_has_not(overlays: Overlays) -> None:
    overlays.add(1, "a", "10.1.0.11")
    overlays.add(2, "b", "10.1.0.12")
    host = overlays.hosts[0]
    second = host.fellow()
    try:
        assert second.told(overlays.for_host(host))["failures"] == []
        networks = overlays.for_host(host).overlays
        front = replace(overlays.overlay(FRONT), nodes={"h1": host.address, "h2": "10.214.0.2"})
        mesh = replace(overlays.mesh, overlays={**networks, FRONT.id: front})
        (said,) = second.told(mesh)["failures"]
        assert said.startswith("network front ends at this host: another skepd here, of the same swarm, has")
    finally:
        second.die()
    overlays.assert_all_reach_all(("tcp",))
