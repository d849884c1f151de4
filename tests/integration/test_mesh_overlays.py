"""Overlay networks' packets: real tunnels and tables of three hosts, and containers that reach each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from .mesh_hosts import MeshHost, three_hosts
from .overlay_hosts import ANSWERED, BACK, FRONT, UNANSWERED, Overlays, gateway, names_of, on_overlays
from .test_mesh import DOCKERS, FLUSH
from .test_mesh_leaving import LISTED

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
    overlays.assert_all_reach_all()
    a, b, c, d = overlays.members
    for asker, asked in ((a, b), (b, c), (c, a), (d, b), (a, d)):
        assert asker.ping(asked.address, BACK.mtu) == ANSWERED  # and no redirect before it
    assert a.ping("10.1.0.99") == UNANSWERED
    for host in overlays.hosts:
        assert host.told(overlays.for_host(host)) == {"failures": [], "changed": 0, "lingers": False}


def test_a_network_has_its_own_mtu(overlays: Overlays) -> None:
    a, b = overlays.add(1, "a", "10.2.0.11"), overlays.add(2, "b", "10.2.0.12")
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
