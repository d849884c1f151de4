"""Connections that a host has seen half of: one direction by the fast path, the other by its rules, where a
firewall drops what conntrack does not know. And what no container may do by the fast path."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from .fast_paths import CONNECTIONS_MAX, fast_path, said, talk
from .mesh_hosts import PREFIX, Lan, Namespace
from .overlay_hosts import BACK, gateway
from .test_mesh_vips import VIP, Services

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RULES = "import sys; from skep.network.nftables import Nftables; Nftables().run(sys.stdin.read())"
# As firewalld's, and many a firewall's by hand.
STRICT = """
add table ip strict
add chain ip strict ways { type filter hook forward priority 10; }
add rule ip strict ways ct state invalid drop
"""
# Connects by packets that live so long, and says what becomes of it.
SHORT = """
import socket, sys
made = socket.socket()
made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(sys.argv[2]))
made.settimeout(2)
try:
    made.connect((sys.argv[1], 80))
    print("connected")
except OSError as error:
    print(error.strerror or type(error).__name__)
"""
# A first packet of TCP from whatever address.
FORGED = """
import socket, struct, sys
own, to = map(socket.inet_aton, sys.argv[1:3])
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 7, 0, 64, 6, 0, own, to)
made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
made.sendto(head + struct.pack("!HHIIBBHHH", 4444, 80, 1, 0, 0x50, 2, 1000, 0, 0), (sys.argv[2], 0))
"""


@pytest.fixture
def web(lan: Lan) -> Iterator[Services]:
    """A task on each host, a client on the first, and firewalls on the first two."""
    made = Services(lan)
    try:
        made.serving()
        made.client(1, "x", "10.1.0.21")
        for host in made.hosts[:2]:
            rules(host, STRICT)
        yield made
    finally:
        for host in made.hosts[:2]:
            rules(host, "add table ip strict\ndelete table ip strict\n")
        made.stop()
        made.members.clear()
        made.tell()


def rules(host: Namespace, text: str) -> None:
    command = [*host.prefix, sys.executable, "-c", RULES]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_first_connection_to_a_container_goes_on_when_it_is_forgotten(web: Services) -> None:
    """Its first packet came by the rules, and the answer went by the fast path: conntrack waits for one."""
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        fast_path(task.host, "forget")
        assert said(talking, "ask") == f"b {client.address}"


def test_that_a_forgotten_connection_ends_is_heard(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        fast_path(client.host, "forget")
        assert task.server is not None
        task.server.kill()
        task.server.wait(5)
        assert said(talking, "hear") in ("", "error ConnectionResetError")


def test_where_no_more_connections_fit_new_ones_go_by_the_rules(web: Services) -> None:
    """And those that are known stay, to services, too: nobody ends another one's by beginning very many."""
    client, task = web.clients[0], web.members[1]
    web.leaving = [each for each in web.members if each not in (client, task)]
    web.tell()
    with talk(client, VIP) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        for host in (client.host, task.host):
            fast_path(host, "fill", str(2 * CONNECTIONS_MAX), "10")
        for to in (task.address, VIP):
            assert client.ask(to, 80, 3) == [f"b {client.address}"] * 3
        assert said(talking, "ask") == f"b {client.address}"
        web.tell()
        assert client.ask(VIP, 80) == [f"b {client.address}"]
        assert len(fast_path(client.host, "flows").splitlines()) == CONNECTIONS_MAX, "they may be somebody's"


def test_what_nobody_ended_is_forgotten_where_others_do_not_fit(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        fast_path(client.host, "fill", str(2 * CONNECTIONS_MAX), "1000")
        assert client.ask(task.address, 80) == [f"b {client.address}"]
        client.host.die()  # one process looks at all of them once in five minutes
        web.tell()
        web.tell()
        known = fast_path(client.host, "flows")
        assert f"{client.address}:" in known
        assert len(known.splitlines()) < 100
        assert said(talking, "ask") == f"b {client.address}"


def test_a_port_that_is_not_known_yet_answers(web: Services) -> None:
    """A container with an address that one had a moment ago, until the node has seen its port."""
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    device = f"veth0{task.name.removeprefix(PREFIX)}"
    fast_path(task.host, "detach", device)
    assert client.ask(task.address, 80, 3) == [f"b {client.address}"] * 3


def test_packets_live_no_longer_than_they_say(web: Services) -> None:
    """Hosts that take each other for an address's would send them to and fro for ever."""
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    for hops in (1, 2):
        assert client.run(sys.executable, "-c", SHORT, task.address, str(hops)).strip() == "No route to host"
    assert client.run(sys.executable, "-c", SHORT, task.address, "3").strip() == "connected"


def test_nobody_sends_as_a_host(web: Services) -> None:
    client, task, own = web.clients[0], web.members[1], gateway(web.hosts[0], BACK)
    client.run(sys.executable, "-c", FORGED, own, task.address)
    assert own not in fast_path(client.host, "homes")
    client.run(sys.executable, "-c", FORGED, "10.1.0.77", task.address)
    assert "10.1.0.77" in fast_path(client.host, "homes"), "what a host has not is looked for"
