"""Large overlay networks on three hosts' kernels: nobody is told of what nobody has asked for, and all reach all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.message
import dns.query
import msgspec
import pytest
from msgspec.structs import replace

from skep.model.overlay import Overlay, OverlayEndpoint, OverlayService
from skep.network.dns_forward import ASKER_UNDER_WAY_MAX
from skep.network.ways import mac_of

from .dns_hosts import Reply, inside
from .mesh_hosts import Lan, MeshHost, three_hosts
from .overlay_hosts import ANSWERED, BACK, Member, gateway, names_of
from .test_mesh_tunnel import forged

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(120)]

LARGE = replace(BACK, is_large=True)
BRIDGE, TUNNEL = names_of(LARGE)
VIP = "10.1.0.100"
SOON_S = 0.8  # what waits for a second question of ARP takes a second


class Node:
    """A host's node, told what it asks for (`large_process`)."""

    def __init__(self, host: MeshHost) -> None:
        self.host = host
        command = [*host.prefix, sys.executable, "-m", "tests.integration.large_process", host.node_id]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def say(self, *command: Any) -> dict[str, Any]:
        """Returns what its manager was asked since, what it knows, and what fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(command).decode() + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the node's process ended"
        return dict(json.loads(answer))

    def knows(self) -> list[str]:
        return list(self.say("what?")["known"])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(5)


class Large:
    """One network with an asker on each host, and tasks of the service `web` on the second and the third."""

    def __init__(self, lan: Lan) -> None:
        self.hosts = lan.hosts
        self.nodes = [Node(host) for host in lan.hosts]
        self.members: dict[str, Member] = {}
        self.web: dict[str, OverlayEndpoint] = {}
        self.others: dict[str, OverlayService] = {}

    def start(self) -> Large:
        for number in (1, 2, 3):
            self.add(number, f"a{number}", f"10.1.0.1{number}")
        for number in (2, 3):
            self.add(number, f"w{number}", f"10.1.0.2{number}", is_web=True)
        for node in self.nodes:
            node.say("serve", LARGE.id, gateway(node.host, LARGE))
        return self

    def begin_anew(self, number: int) -> None:
        """That node's daemon does; what it made stands until then."""
        self.nodes[number - 1].stop()
        node = self.nodes[number - 1] = Node(self.hosts[number - 1])
        node.say("world", self.world())
        node.say("serve", LARGE.id, gateway(node.host, LARGE))

    def add(self, number: int, name: str, address: str, is_web: bool = False) -> Member:
        endpoint = OverlayEndpoint(address, f"h{number}", f"{name}.1.t")
        if is_web:
            self.web[name] = endpoint
        else:
            self.others[name] = OverlayService(f"id-{name}", name, (), "", (endpoint,))
        self.tell()
        made = self.members[name] = Member(self.hosts[number - 1], name, {LARGE: address})
        made.start()
        return made

    def remove(self, name: str) -> None:
        self.web.pop(name, None)
        self.others.pop(name, None)
        self.tell()
        self.members.pop(name).end()

    def world(self) -> Overlay:
        web = OverlayService("id-web", "web", ("www",), VIP, tuple(self.web.values()))
        services = {each.id: each for each in (web, *self.others.values())}
        return Overlay(LARGE, {host.node_id: host.address for host in self.hosts}, services)

    def tell(self) -> None:
        for node in self.nodes:
            assert node.say("world", self.world())["failures"] == []

    def ask(self, name: str, question: str, kind: str = "A", tcp: bool = False) -> Reply:
        """Returns what the host of that container answers it."""
        member = self.members[name]
        asked, at = dns.message.make_query(question, kind), gateway(member.host, LARGE)
        how = dns.query.tcp if tcp else dns.query.udp
        return Reply(inside(member, lambda: how(asked, at, timeout=8)))

    def stop(self) -> None:
        for member in self.members.values():
            member.end()
        for node in self.nodes:
            node.stop()


@pytest.fixture
def large() -> Iterator[Large]:
    with three_hosts() as lan:
        made = Large(lan)
        try:
            yield made.start()
        finally:
            made.stop()


def _soon(call: Callable[[], list[str]]) -> list[str]:
    """Returns what a call does, which must not wait for a second question of ARP."""
    began = time.monotonic()
    said = call()
    took_s = time.monotonic() - began
    print(f"{took_s:.3f} s: {said}")
    assert took_s < SOON_S, said
    return said


def test_a_service_is_found_by_its_name_and_answers_who_its_host_knows_nothing_of(large: Large) -> None:
    assert [node.knows() for node in large.nodes] == [
        ["10.1.0.11"],
        ["10.1.0.12", "10.1.0.22"],
        ["10.1.0.13", "10.1.0.23"],
    ]
    a1 = large.members["a1"]
    assert large.ask("a1", "web").records == [VIP]
    assert sorted(large.ask("a1", "tasks.web.back").records) == ["10.1.0.22", "10.1.0.23"]
    assert Counter(_soon(lambda: a1.ask(VIP, 80, 4))) == {"w2 10.1.0.11": 2, "w3 10.1.0.11": 2}
    assert large.nodes[1].say("what?")["asked"] == ["10.1.0.11"]
    assert large.nodes[1].knows() == ["10.1.0.11", "10.1.0.12", "10.1.0.22"]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_an_address_that_nobody_was_told_of_is_reached(large: Large, kind: str) -> None:
    a1, a3 = large.members["a1"], large.members["a3"]
    assert _soon(lambda: a1.ask("10.1.0.22", 80, kind=kind)) == ["w2 10.1.0.11"]
    assert _soon(lambda: a3.ask(a1.address, 80, kind=kind)) == [f"a1 {a3.address}"]
    assert large.nodes[0].knows() == ["10.1.0.11", "10.1.0.13", "10.1.0.22"]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_services_own_address_is_reached_without_its_name(large: Large, kind: str) -> None:
    a1 = large.members["a1"]
    assert _soon(lambda: a1.ask(VIP, 80, kind=kind))[0].endswith(" 10.1.0.11")
    assert Counter(a1.ask(VIP, 80, 4, kind)) == {"w2 10.1.0.11": 2, "w3 10.1.0.11": 2}


def test_containers_are_found_by_name_and_address(large: Large) -> None:
    assert large.ask("a1", "w3.1.t", tcp=True).records == ["10.1.0.23"]
    assert large.ask("a2", "23.0.1.10.in-addr.arpa", "PTR").records == ["w3.1.t.back."]
    assert repr(large.ask("a1", "web", "AAAA")) == "NOERROR []"
    for name, kind in (("nobody", "A"), ("99.0.1.10.in-addr.arpa", "PTR")):
        assert large.ask("a1", name, kind).code == "REFUSED", "the network is internal"
    assert "web" not in large.nodes[1].say("what?")["asked"]


def test_who_goes_is_gone_and_flows_to_him_go_on_elsewhere(large: Large) -> None:
    a1 = large.members["a1"]
    assert large.ask("a1", "web").records == [VIP]
    with a1.flow(VIP) as flow:
        first = flow.say()
        gone, stays = ("w2", "w3") if first.startswith("w2") else ("w3", "w2")
        large.remove(gone)
        assert large.ask("a1", "tasks.web").records == [large.members[stays].address]
        assert large.ask("a1", f"{gone}.1.t").code == "REFUSED"
        answers = [flow.say() for _ in range(10)]
        assert answers[-1] == f"{stays} 10.1.0.11", answers
    assert set(a1.ask(VIP, 80, 4)) == {f"{stays} 10.1.0.11"}
    assert a1.ping("10.1.0.22" if gone == "w2" else "10.1.0.23") != ANSWERED


def test_who_is_not_told_any_more_keeps_his_connections(large: Large) -> None:
    """A service that grows is told in parts, others than before: its tasks are as well there."""
    a1 = large.members["a1"]
    assert large.ask("a1", "web").records == [VIP]
    with a1.flow(VIP) as flow:
        first = flow.say()
        name = first.split()[0]
        other = large.web.pop(name)
        large.others[name] = OverlayService(f"id-{name}", "", (), "", (other,))
        large.tell()
        assert {flow.say() for _ in range(3)} == {first}
        assert name not in {each.split()[0] for each in a1.ask(VIP, 80, 4)}
    assert other.address in large.nodes[0].knows()


def test_an_address_that_is_somebody_elses_now_is_sought_there(large: Large) -> None:
    a1 = large.members["a1"]
    large.add(2, "b", "10.1.0.30")
    assert a1.ask("10.1.0.30", 80) == ["b 10.1.0.11"]
    large.remove("b")
    large.add(3, "c", "10.1.0.30")
    assert a1.ask("10.1.0.30", 80) == ["c 10.1.0.11"]
    large.remove("c")
    large.add(1, "d", "10.1.0.30")
    assert a1.ask("10.1.0.30", 80) == ["d 10.1.0.11"]


def test_who_leads_anew_is_asked_for_all_that_was_known(large: Large) -> None:
    a1, node = large.members["a1"], large.nodes[0]
    large.add(2, "b", "10.1.0.30")
    assert large.ask("a1", "web").records == [VIP]
    assert a1.ask("10.1.0.30", 80) == ["b 10.1.0.11"]
    node.say("what?")
    with a1.flow(VIP) as flow:
        first = flow.say()
        large.others.pop("b")
        said = node.say("leads anew", large.world())
        assert sorted(said["asked"]) == ["10.1.0.30", "id-web"]
        assert said["known"] == ["10.1.0.11", "10.1.0.22", "10.1.0.23"]
        assert {flow.say() for _ in range(3)} == {first}
    large.remove("w3")
    assert set(a1.ask(VIP, 80, 4)) == {"w2 10.1.0.11"}, "it hears of changes again"


def test_a_node_that_begins_anew_asks_for_what_its_containers_go_on_with(large: Large) -> None:
    """They have a service's own address in mind, and know by ARP where it is."""
    a1 = large.members["a1"]
    assert Counter(a1.ask(VIP, 80, 2)) == {"w2 10.1.0.11": 1, "w3 10.1.0.11": 1}
    with a1.flow(VIP) as flow:
        first = flow.say()
        large.begin_anew(1)
        assert large.nodes[0].knows() == ["10.1.0.11"]
        assert flow.say() == first
        assert a1.ask(VIP, 80)[0].endswith(" 10.1.0.11"), "within two questions, a second apart"
    assert Counter(_soon(lambda: a1.ask(VIP, 80, 2))) == {"w2 10.1.0.11": 1, "w3 10.1.0.11": 1}


def test_a_containers_own_packets_do_not_come_in_by_its_hosts_tunnel(large: Large) -> None:
    """Those of any other host do: nobody knows where all nodes are."""
    a1, host, other = large.members["a1"], large.hosts[0], large.hosts[1]
    mac, vni = mac_of(other.address), LARGE.vni
    assert forged(other, host, a1.address, a1, 9999, mac, "10.1.0.22", vni) == ["forged 10.1.0.22"]
    for by in (a1, host):
        assert forged(by, host, a1.address, a1, 9999, mac, "10.1.0.22", vni) == []
    for target in (host.address, gateway(host, LARGE)):
        assert forged(other, host, target, host, 9999, mac, "10.1.0.22", vni) == []


# In a container: asks who has each address of a /16, as fast as it can, for some seconds.
FLOOD = """
import socket, struct, sys, time
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
line.bind(("eth0", 0))
mac, own = line.getsockname()[4], socket.inet_aton("10.1.0.11")
head = b"\\xff" * 6 + mac + b"\\x08\\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + own + bytes(6)
print("ready", flush=True)
until, n = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < until:
    n += 1
    line.send(head + bytes([10, 1, 0, 101 + n % 150]))
    if n % 50 == 0:
        time.sleep(0.001)
"""


def test_who_asks_for_all_addresses_keeps_nobody_from_his(large: Large) -> None:
    command = [*large.members["a1"].prefix, sys.executable, "-c", FLOOD, "4"]
    flooding = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert flooding.stdout is not None
    assert flooding.stdout.readline() == "ready\n"
    began = time.monotonic()
    assert large.ask("a1", "web").records == [VIP]
    assert Counter(large.members["a1"].ask(VIP, 80, 2)) == {"w2 10.1.0.11": 1, "w3 10.1.0.11": 1}
    # The kernel's words of what it misses are lost where there are too many, and said again a second later.
    answers = [large.members["a3"].ask("10.1.0.11", 80) for _ in range(2)]
    assert answers[-1] == ["a1 10.1.0.13"]
    assert time.monotonic() - began < 6
    flooding.wait(20)
    asked = Counter(large.nodes[0].say("what?")["asked"])
    assert max(asked.values()) <= 8, "each once in a second"


def test_a_manager_that_does_not_answer_delays_names_and_takes_no_connection(large: Large) -> None:
    a1, node = large.members["a1"], large.nodes[0]
    assert large.ask("a1", "web").records == [VIP]
    node.say("silent", True)
    with ThreadPoolExecutor(2 * ASKER_UNDER_WAY_MAX) as pool:
        asking = [pool.submit(large.ask, "a1", f"none{n}") for n in range(2 * ASKER_UNDER_WAY_MAX)]
        began = time.monotonic()
        codes = Counter(each.result().code for each in asking)
    assert 1.5 < time.monotonic() - began < 3.5
    assert codes == {"REFUSED": ASKER_UNDER_WAY_MAX, "SERVFAIL": ASKER_UNDER_WAY_MAX}
    assert large.ask("a1", "web").records == [VIP]
    assert Counter(a1.ask(VIP, 80, 2)) == {"w2 10.1.0.11": 1, "w3 10.1.0.11": 1}
    node.say("silent", False)
    assert a1.ask("10.1.0.13", 80) == ["a3 10.1.0.11"]
