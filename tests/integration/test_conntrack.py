"""Which of the kernel's connections are forgotten, in a network of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .mesh_hosts import Namespace

pytestmark = pytest.mark.root

# Two tasks at 10.99.0.1 and .2, led to by ports of 127.0.0.1 with the mesh's mark; .3 is asked as it is, .4 is led to
# as well, and its connections have no mark. Each gets so many connections, over TCP, or UDP, from a port each.
BEGIN = """
import json, socket, subprocess, sys
from skep.network.nftables import Nftables
from skep.network import conntrack
for n in range(1, 5):
    subprocess.run(["ip", "addr", "add", f"10.99.0.{n}/24", "dev", "lo"], check=True)
Nftables().run("".join(f"{each}\\n" for each in (
    "add table ip t", "add chain ip t c { type nat hook output priority -100; policy accept; }",
    *(f"add rule ip t c ip daddr 127.0.0.1 {p} dport 8{n} ct mark set 0x5a00000{n} dnat to 10.99.0.{n}:80"
      for p in ("tcp", "udp") for n in (1, 2)),
    "add rule ip t c ip daddr 127.0.0.1 tcp dport 84 dnat to 10.99.0.4:80",
)))
servers = []
for n in range(1, 5):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        made = socket.socket(socket.AF_INET, kind)
        made.bind((f"10.99.0.{n}", 80))
        made.listen(512) if kind == socket.SOCK_STREAM else None
        servers.append(made)
kept = []
def connect(to, count, kind=socket.SOCK_STREAM):
    for _ in range(count):
        made = socket.socket(socket.AF_INET, kind)
        made.connect(to)
        made.send(b"x")
        kept.append(made)
for n, count in ((1, 250), (2, 3), (4, 4)):
    connect(("127.0.0.1", 80 + n), count)
connect(("10.99.0.3", 80), 5)
for n in (1, 2):
    connect(("127.0.0.1", 80 + n), 6, socket.SOCK_DGRAM)
print(json.dumps([WHAT]))
"""


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = Namespace("ct")
    try:
        yield made
    finally:
        made.remove()


def _done(space: Namespace, *calls: str) -> list[int]:
    """Returns how many connections each of these forgets, one after the other."""
    program = BEGIN.replace("WHAT", ", ".join(f"conntrack.{each}" for each in calls))
    command = [*space.prefix, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_those_to_a_task_that_is_gone(space: Namespace) -> None:
    """Of TCP and UDP; in several parts, and once."""
    one = "forget_tasks({'10.99.0.1'})"
    assert _done(space, one, one, "forget_tasks({'10.99.0.2', '10.99.0.77'})") == [256, 0, 9]


def test_those_to_many_tasks_are_the_meshs(space: Namespace) -> None:
    many = "forget_tasks({f'10.99.0.{n}' for n in range(2, 90)})"
    assert _done(space, many, many) == [9, 0], "neither the first's, nor what has no mark"


def test_who_is_back_meanwhile_keeps_those_that_are_left(space: Namespace) -> None:
    back = "forget_tasks(type('Back', (set,), {'__contains__': lambda s, a: [s.discard(a), False][1]})(['10.99.0.1']))"
    assert _done(space, back, "forget_tasks({'10.99.0.1'})") == [0, 256]


@pytest.mark.parametrize("asked", ["{'10.99.0.3', '127.0.0.1'}", "{f'10.99.0.{n}' for n in range(1, 90)}"])
def test_those_to_an_address_that_nothing_translates(space: Namespace, asked: str) -> None:
    untranslated = f"forget_untranslated({asked})"
    assert _done(space, untranslated, untranslated, "forget_tasks({'10.99.0.1'})") == [5, 0, 256]


def test_udp_to_a_port_but_for_those_to_its_tasks(space: Namespace) -> None:
    here = "{'127.0.0.1'}"
    assert _done(
        space,
        f"forget_udp(81, {here}, {{'10.99.0.1'}})",
        "forget_udp(81, {'192.0.2.1'}, set())",
        f"forget_udp(81, {here}, {{'10.99.0.2'}})",
        f"forget_udp(81, {here}, set())",
        "forget_tasks({'10.99.0.2'})",
    ) == [0, 0, 6, 0, 9]
