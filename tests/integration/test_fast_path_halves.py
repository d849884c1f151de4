"""Connections that a host has seen half of: one direction by the fast path, the other by its rules, where a
firewall drops what conntrack does not know. And what no container may do by the fast path."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skep.network.fast_path import CONNECTIONS_MAX

from .mesh_hosts import PREFIX, Lan, MeshHost, Namespace
from .overlay_hosts import BACK, Member, gateway
from .test_fast_path import chains
from .test_mesh_vips import Services

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RULES = "import sys; from skep.network.nftables import Nftables; Nftables().run(sys.stdin.read())"
# As firewalld's, and many a firewall's by hand.
STRICT = """
add table ip strict
add chain ip strict ways { type filter hook forward priority 10; }
add rule ip strict ways ct state invalid drop
"""
# What a minute without a packet of the container's does.
EXPIRED = "flush set netdev skep direct\n"
# Connects, and asks again over the same connection when it is told to.
TALK = """
import socket, sys
made = socket.create_connection((sys.argv[1], 80), 3)
made.settimeout(3)
for line in sys.stdin:
    try:
        if line.strip() == "ask":
            made.send(b"x")
        print(made.recv(100).decode().strip(), flush=True)
    except OSError as error:
        print("error", type(error).__name__, flush=True)
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


@contextlib.contextmanager
def talk(client: Member, to: str) -> Iterator[subprocess.Popen[str]]:
    command, pipe = [*client.prefix, sys.executable, "-c", TALK, to], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def said(process: subprocess.Popen[str], what: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_the_first_connection_to_a_container_goes_on_after_a_minute(web: Services) -> None:
    """Its first packet came by the rules, and the answer went by the fast path: conntrack waits for one."""
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        rules(task.host, EXPIRED)
        assert said(talking, "ask") == f"b {client.address}"


def test_that_a_quiet_connection_ends_is_heard(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        rules(client.host, EXPIRED)
        assert task.server is not None
        task.server.kill()
        task.server.wait(5)
        assert said(talking, "hear") in ("", "error ConnectionResetError")


def test_where_no_more_connections_fit_they_go_by_the_rules(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    others = (f"10.1.0.1 . 10.1.0.2 . {n >> 16} . {n & 0xFFFF}" for n in range(CONNECTIONS_MAX))
    rules(task.host, f"{EXPIRED}add element netdev skep direct {{ {', '.join(others)} }}\n")
    assert client.ask(task.address, 80, 3) == [f"b {client.address}"] * 3


def test_a_port_that_is_not_known_yet_answers(web: Services) -> None:
    """A container with an address that one had a moment ago, until the node has seen its port."""
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    device = f"veth0{task.name.removeprefix(PREFIX)}"
    name = next(each for each in chains(task.host).split('"') if each.endswith(f"-{device}"))
    rules(task.host, f"delete chain netdev skep {name}\n")
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
    assert own not in homes(client.host)
    client.run(sys.executable, "-c", FORGED, "10.1.0.77", task.address)
    assert "10.1.0.77" in homes(client.host), "what a host has not is looked for"


def homes(host: MeshHost) -> str:
    program = (
        "from skep.network.nftables import Nftables; print(Nftables().list('list set netdev skep homes'))"
    )
    return host.run(sys.executable, "-c", program)
