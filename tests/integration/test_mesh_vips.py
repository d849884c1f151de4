"""Services' own addresses on three hosts' kernels: connections by them reach all tasks, who see the client."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService

from .mesh_hosts import Lan, three_hosts
from .overlay_hosts import BACK, FRONT, Member, Overlays, gateway, names_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

VIP = "10.1.0.100"


class Services(Overlays):
    """All containers on BACK are tasks of one service, but the clients; those in `leaving` take no more."""

    def __init__(self, lan: Lan) -> None:
        super().__init__(lan)
        self.clients: list[Member] = []
        self.leaving: list[Member] = []

    def overlay(self, network: OverlayNetwork) -> Overlay:
        found = super().overlay(network)
        if network != BACK:
            return found
        tasks = [m for m in self.members if BACK in m.addresses and m not in self.clients]
        endpoints = tuple(
            OverlayEndpoint(m.addresses[BACK], m.host.node_id, m.label, m not in self.leaving) for m in tasks
        )
        services = {m.name: found.services[m.name] for m in self.clients if m in self.members}
        services["s"] = OverlayService("s", "web", vip=VIP, endpoints=endpoints)
        return replace(found, services=services)

    def meet(self) -> None:
        """Has all be seen by the fast path's program: from then on it leads to those of its host, too."""
        for member in self.members:
            if BACK in member.addresses:
                assert member.ask(gateway(member.host, BACK), 9) == ["error ConnectionRefusedError"]

    def client(self, number: int, name: str, address: str) -> Member:
        self.clients.append(made := self.add(number, name, address))
        self.tell()
        return made


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with three_hosts() as made:
        yield made


@pytest.fixture
def web(lan: Lan) -> Iterator[Services]:
    """A task and a client on each host, and a second task on the first."""
    made = Services(lan)
    try:
        made.serving()
        made.add(1, "d", "10.1.0.14")
        for number in (1, 2, 3):
            made.client(number, f"x{number}", f"10.1.0.2{number}")
        made.meet()
        yield made
    finally:
        made.stop()
        made.members.clear()
        made.tell()


def _names(answers: list[str]) -> Counter[str]:
    return Counter(each.split()[0] for each in answers)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_it_leads_to_all_tasks_in_turn_which_see_the_client(web: Services, kind: str) -> None:
    for client in web.clients:
        answers = client.ask(VIP, 80, 40, kind)
        assert _names(answers) == dict.fromkeys("abcd", 10), client.label
        assert {each.split()[1] for each in answers} == {client.address}


def test_a_task_that_asks_for_its_own_service_reaches_itself_too(web: Services) -> None:
    for task in web.members[:4]:
        answers = task.ask(VIP, 80, 40)  # when it is its own turn, the rules lead, to whose turn it is there
        assert _names(answers).keys() == set("abcd"), task.label
        others = {each.split()[1] for each in answers if each.split()[0] != task.label}
        assert others == {task.address}


def test_a_ping_is_answered(web: Services) -> None:
    for client in web.clients:
        assert client.ping(VIP) == "[0]"


def test_who_leaves_gets_nothing_new_and_keeps_what_he_has(web: Services) -> None:
    leaving = web.members[1]
    command = [*web.clients[0].prefix, "python3", "-c", KEEP, VIP]
    kept = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert kept.stdin is not None
    assert kept.stdout is not None
    assert kept.stdout.readline() == "b\n"
    try:
        web.leaving.append(leaving)
        web.tell("quick")
        for client in web.clients:
            answers = client.ask(VIP, 80, 9)
            assert _names(answers) == dict.fromkeys("acd", 3), (client.label, answers)
        kept.stdin.write("\n")
        kept.stdin.flush()
        assert kept.stdout.readline() == "b again\n"
    finally:
        kept.kill()
        kept.wait(5)


# Connects until it is `b` who answers, and asks that connection once more when it is told to.
KEEP = """
import socket, sys
while True:
    made = socket.create_connection((sys.argv[1], 80), 3)
    if made.recv(100).startswith(b"b"):
        break
    made.close()
print("b", flush=True)
sys.stdin.readline()
made.send(b"x")
print("b again" if made.recv(100).startswith(b"b") else "another", flush=True)
"""


def test_nobody_there_is_a_refusal_at_once(web: Services) -> None:
    web.leaving += [m for m in web.members if m not in web.clients]
    web.tell("quick")
    began = time.monotonic()
    for client in web.clients:
        assert client.ask(VIP, 80) == ["error ConnectionRefusedError"]
        assert client.ask(VIP, 80, kind="udp") == ["error ConnectionRefusedError"]
    assert time.monotonic() - began < 5


def test_other_networks_do_not_reach_it(web: Services) -> None:
    stranger = web.add(1, "f", "10.2.0.31")
    web.tell()
    assert stranger.ask(VIP, 80)[0].startswith("error")
    assert _names(web.clients[0].ask(VIP, 80, 4)) == dict.fromkeys("abcd", 1)


def test_a_task_that_is_gone_is_forgotten_by_flows_of_udp(web: Services) -> None:
    client, gone = web.clients[2], web.members[1]
    command = [*client.prefix, "python3", "-c", FLOW, VIP]
    flow = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert flow.stdin is not None
    assert flow.stdout is not None
    try:
        assert flow.stdout.readline() == "b\n"
        web.remove(gone)
        web.tell("quick")
        flow.stdin.write("\n")
        flow.stdin.flush()
        assert flow.stdout.readline().strip() in ("a", "c", "d")
    finally:
        flow.kill()
        flow.wait(5)


# One client's socket that is led to `b`, and asks again when it is told to.
FLOW = """
import socket, sys
while True:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(3)
    made.connect((sys.argv[1], 80))
    made.send(b"x")
    if made.recv(100).startswith(b"b"):
        break
print("b", flush=True)
sys.stdin.readline()
made.send(b"x")
print(made.recv(100).decode().split()[0], flush=True)
"""


def test_without_the_bridges_filter_the_hosts_address_is_seen_instead(web: Services) -> None:
    """What a kernel without `br_netfilter` does: rules for that are asked of `vips` by its test."""
    host = web.hosts[0]
    host.run("ip", "link", "set", names_of(BACK)[0], "type", "bridge", "nf_call_iptables", "0")
    web.tell("look")
    assert _names(web.clients[0].ask(VIP, 80, 4)) == dict.fromkeys("abcd", 1), "it is set again"


def test_nothing_is_left(web: Services) -> None:
    host = web.hosts[2]
    for member in [m for m in web.members if m.host is host]:
        web.remove(member)
    web.tell()
    time.sleep(0)
    assert names_of(BACK)[1] not in host.run("ip", "-o", "link")
    assert FRONT.name not in host.run("ip", "-o", "link")
