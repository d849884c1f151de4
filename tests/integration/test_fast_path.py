"""Containers of two hosts that address each other directly: no rule of their hosts' is asked for that."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .mesh_hosts import PREFIX, Lan, MeshHost
from .overlay_hosts import BACK, names_of
from .test_mesh_vips import VIP, Services

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BRIDGE, _ = names_of(BACK)
# What is forwarded between containers is counted where users' rules would see it.
COUNT = f"""
from skep.network.nftables import Nftables
Nftables().run("add table ip seen\\nadd chain ip seen ways {{ type filter hook forward priority 0; }}\\n"
    'add rule ip seen ways iifname "{BRIDGE}" counter')
"""
COUNTED = """
import json
from skep.network.nftables import Nftables
listed = json.loads(Nftables().list("list chain ip seen ways"))["nftables"]
print(next(e["rule"] for e in listed if "rule" in e)["expr"][-1]["counter"]["packets"])
"""
# Asks twice from one port, by one address each, and says what is answered.
SAME_PORT = """
import socket, sys
for address in sys.argv[1:]:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")  # no TIME_WAIT here
    made.bind(("", 5555))
    made.settimeout(3)
    try:
        made.connect((address, 80))
        print(made.recv(100).decode().strip())
    except OSError as error:
        print("error", type(error).__name__)
    made.close()
"""


@pytest.fixture
def web(lan: Lan) -> Iterator[Services]:
    """A task on each host, and a client on the first."""
    made = Services(lan)
    try:
        made.serving()
        made.client(1, "x", "10.1.0.21")
        yield made
    finally:
        made.stop()
        made.members.clear()
        made.tell()


def counting(host: MeshHost) -> None:
    host.run(sys.executable, "-c", COUNT)


def counted(host: MeshHost) -> int:
    return int(host.run(sys.executable, "-c", COUNTED))


def uncount(host: MeshHost) -> None:
    host.run(
        sys.executable,
        "-c",
        "from skep.network.nftables import Nftables; Nftables().run('delete table ip seen')",
    )


@pytest.fixture
def rules(web: Services) -> Iterator[list[MeshHost]]:
    """Hosts that count what is forwarded."""
    hosts = web.hosts[:2]
    for host in hosts:
        counting(host)
    try:
        yield hosts
    finally:
        for host in hosts:
            uncount(host)


def test_connections_by_address_pass_no_rules_of_either_host(web: Services, rules: list[MeshHost]) -> None:
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]  # what it answers makes it known
    assert counted(rules[0]) == 0, "who asks is known from the first packet on"
    before = counted(rules[1])
    assert before <= 1, "who is asked from its first answer on"
    assert client.ask(task.address, 80, 20) == [f"b {client.address}"] * 20
    assert [counted(host) for host in rules] == [0, before]


def test_connections_by_a_services_address_pass_the_clients_host(
    web: Services, rules: list[MeshHost]
) -> None:
    client = web.clients[0]
    answers = client.ask(VIP, 80, 30)
    assert {each.split()[0] for each in answers} == set("abc")
    assert {each.split()[1] for each in answers} == {client.address}
    assert counted(rules[0]) > 0


def test_a_port_that_came_by_address_comes_by_the_services_address(web: Services) -> None:
    """A connection that is known by its ports is not in the way of another one that is to be replaced."""
    client, task = web.clients[0], web.members[1]
    web.leaving = [each for each in web.members if each not in (client, task)]  # all are led to that one
    web.tell()
    for _ in range(3):
        said = client.run(sys.executable, "-c", SAME_PORT, task.address, VIP, task.address, VIP).splitlines()
        assert said == [f"b {client.address}"] * 4


def test_where_one_host_has_no_fast_path_both_ways_pass_its_rules(
    web: Services, rules: list[MeshHost]
) -> None:
    client, task = web.clients[0], web.members[1]
    delete = "from skep.network.nftables import Nftables; Nftables().run('delete table netdev skep')"
    rules[1].run(sys.executable, "-c", delete)
    assert client.ask(task.address, 80, 5) == [f"b {client.address}"] * 5
    assert counted(rules[0]) == 0
    assert counted(rules[1]) > 5 * 6, "both directions"
    web.tell()  # looks, and mends
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    before = counted(rules[1])
    assert client.ask(task.address, 80, 5) == [f"b {client.address}"] * 5
    assert counted(rules[1]) == before


def test_what_goes_leaves_nothing(web: Services) -> None:
    host, extra = web.hosts[1], web.add(2, "e", "10.1.0.15")
    web.tell()
    device = f"veth0{extra.name.removeprefix(PREFIX)}"
    listed = host.seen(web.for_host(host))
    assert listed["Missing"] == listed["Surplus"] == []
    assert device in chains(host)
    web.remove(extra)
    web.tell("quick")
    assert device not in chains(host)
    listed = host.seen(web.for_host(host))
    assert listed["Missing"] == listed["Surplus"] == []


def test_a_node_that_leaves_has_no_table_of_it(web: Services) -> None:
    host: MeshHost = web.hosts[2]
    assert chains(host)
    for member in [each for each in web.members if each.host is host]:
        web.remove(member)
    host.clear()
    assert chains(host) == ""


def chains(host: MeshHost) -> str:
    """Returns the fast path's chains, as nftables lists them."""
    program = "from skep.network.nftables import Nftables; print(Nftables().list('list chains netdev'))"
    listed = host.run(sys.executable, "-c", program)
    return listed if "fast-" in listed else ""
