"""What a node finds in its kernel: what is there, what somebody took away, and the connections that it has led."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from skep.model.mesh import Mesh, MeshPort

from .mesh_hosts import BRIDGE, PREFIX, TUNNEL, Lan, MeshHost, Namespace
from .test_mesh_vips import VIP, Services

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


Counts = Callable[[], dict[str, int]]


@pytest.fixture(scope="module")
def lan(lan: Lan) -> Lan:
    return lan.serving()


def test_connections_are_counted_also_over_changes_of_the_service(lan: Lan) -> None:
    host = lan.hosts[2]
    before = host.seen(lan.mesh(*lan.tasks))["Connections"]
    assert set(before) == {"8080/tcp", "8080/udp"}
    lan.client.ask(host.address, 8080, 5)
    lan.client.ask(host.address, 8080, 3, "udp")
    lan.tell(lan.mesh(*lan.tasks[:1]))
    lan.client.ask(host.address, 8080, 2)
    lan.tell(lan.mesh())
    assert lan.client.ask(host.address, 8080, 1) == ["error ConnectionRefusedError"]
    lan.tell(lan.mesh(*lan.tasks))
    seen = host.seen(lan.mesh(*lan.tasks))["Connections"]
    assert {port: seen[port] - before[port] for port in seen} == {"8080/tcp": 7, "8080/udp": 3}


COUNTED = ["-m", "conntrack", "--ctorigdstport"]
WAYS = {"Received": ("OUTPUT", "ORIGINAL"), "Sent": ("INPUT", "REPLY")}


@contextlib.contextmanager
def counted(client: Namespace, kind: str, port: int) -> Iterator[Callable[[], dict[str, int]]]:
    """Yields what says how many bytes the client has sent there and got from there, as its iptables counts."""
    its = {
        way: [chain, "-p", kind, *COUNTED, str(port), "--ctdir", direction]
        for way, (chain, direction) in WAYS.items()
    }

    def count() -> dict[str, int]:
        said = client.run("iptables", "-w", "-vxnL").splitlines()
        rows = [line.split() for line in said if f"ctorigdstport {port}" in line]
        return {way: int(row[1]) for row in rows for way in WAYS if f"ctdir {WAYS[way][1]}" in " ".join(row)}

    for rule in its.values():
        client.run("iptables", "-w", "-A", *rule)
    try:
        yield count
    finally:
        for rule in its.values():
            client.run("iptables", "-w", "-D", *rule)


def assert_counts(host: MeshHost, mesh: Mesh, of: str, before: dict[str, int], count: Counts) -> None:
    """What a connection says last may still be on its way."""
    deadline = time.monotonic() + 5
    while True:
        seen = host.seen(mesh)["Bytes"][of]
        found = {way: seen[way] - before[way] for way in WAYS}
        if found == (expected := count()) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert found == expected
    assert min(found.values()) > 0


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_bytes_are_counted_once_on_the_node_that_was_asked(lan: Lan, kind: str) -> None:
    """From outside, with a task on the asked node and without, and from a host itself; also over a change."""
    mesh, of = lan.mesh(*lan.tasks), f"8080/{kind}"
    for host in lan.hosts:
        others = {each: each.seen(mesh)["Bytes"][of] for each in lan.hosts if each is not host}
        for client in (lan.client, host):
            before = host.seen(mesh)["Bytes"][of]
            with counted(client, kind, 8080) as count:
                client.ask(host.address, 8080, 4, kind)
                lan.tell(lan.mesh(*lan.tasks[:1]))
                lan.tell(mesh)
                client.ask(host.address, 8080, 3, kind)
                assert_counts(host, mesh, of, before, count)
        assert {each: each.seen(mesh)["Bytes"][of] for each in others} == others, host.label


def test_what_is_counted_can_be_read_alone(lan: Lan) -> None:
    host, mesh = lan.hosts[0], lan.mesh(*lan.tasks)
    lan.client.ask(host.address, 8080, 2)
    lan.client.ask(host.address, 8080, 1, "udp")

    def is_same() -> bool:  # a connection's end may be on its way
        seen = host.seen(mesh)
        return host.carried() == {
            of: (seen["Connections"][of], moved["Received"], moved["Sent"])
            for of, moved in seen["Bytes"].items()
        }

    assert set(host.carried()) == {"8080/tcp", "8080/udp"}
    assert min(map(min, host.carried().values())) > 0
    assert any(is_same() for _ in range(20))


def test_what_counts_bytes_is_mended(lan: Lan) -> None:
    host, mesh = lan.hosts[0], lan.mesh(*lan.tasks)
    halves = ("tcp-bytes { reply . 8080 }", "udp-bytes { original . 8080 }")
    broken = "; ".join(f"delete element ip skep {half}" for half in halves)
    program = f"from skep.network.nftables import Nftables; Nftables().run({broken!r})"
    before = host.seen(mesh)["Bytes"]["8080/tcp"]
    host.run(sys.executable, "-c", program)
    missing = host.seen(mesh)["Missing"]
    assert sorted(missing) == ["counter of bytes 8080/tcp", "counter of bytes 8080/udp"]
    assert host.told(mesh)["failures"] == []
    seen = host.seen(mesh)
    assert (seen["Missing"], seen["Surplus"]) == ([], [])
    assert seen["Bytes"]["8080/tcp"] == {**before, "Sent": 0}


def test_what_is_missing_and_what_is_too_much_is_named(lan: Lan) -> None:
    mesh = lan.mesh(*lan.tasks)
    host = lan.hosts[0]
    seen = host.seen(mesh)
    assert (seen["Missing"], seen["Surplus"], seen["Failures"]) == ([], [], [])
    assert (seen["Objects"]["bridges"], seen["Objects"]["tunnels"]) == (1, 1)
    host.run("ip", "link", "del", TUNNEL)
    host.run(
        "ip", "neigh", "add", "10.0.0.99", "lladdr", "02:42:0a:00:00:63", "dev", BRIDGE, "nud", "permanent"
    )
    seen = host.seen(mesh)
    assert f"tunnel {TUNNEL}" in seen["Missing"]
    assert seen["MissingCount"] == len(seen["Missing"]) > 1, "what was on it is missing, too"
    assert seen["Surplus"] == [f"neighbour 10.0.0.99 on {BRIDGE}"]
    assert host.seen(mesh) == seen, "nothing is changed by looking"
    assert host.told(mesh)["failures"] == []
    seen = host.seen(mesh)
    assert (seen["Missing"], seen["Surplus"]) == ([], [])


def test_a_fellow_says_that_another_one_does_it(lan: Lan) -> None:
    mesh = lan.mesh(*lan.tasks)
    fellow = lan.hosts[0].fellow()
    try:
        (said,) = fellow.seen(mesh)["Failures"]
        assert said == "another skepd on this host has the swarm's networks in hand"
    finally:
        fellow.die()


def test_who_looks_and_has_nothing_keeps_nobody_from_it(lan: Lan) -> None:
    """The turn is another swarm's who needs it."""
    space = lan.client
    program = (
        "import os, pathlib\n"
        "from skep.model.mesh import Mesh\n"
        "from skep.network.plane import DataPlane\n"
        "from skep.network.turn import Turn\n"
        "made = DataPlane('n', 'one', pathlib.Path(os.devnull))\n"
        "made.apply(Mesh())\n"
        "print(made.seen(Mesh()).failures, Turn().take('two'))\n"
    )
    assert space.run(sys.executable, "-c", program) == "[] None\n"


def test_a_first_overlay_is_whole_from_the_first_word_on(lan: Lan) -> None:
    """What its bridge needs depends on the host, which was looked at for published ports only."""
    made = Services(lan)
    try:
        made.add(1, "o", "10.1.0.11")
        seen = lan.hosts[0].seen(made.for_host(lan.hosts[0]))
        # What the container's port needs, which came after the word, comes with the next.
        device = f"veth0{made.members[0].name.removeprefix(PREFIX)}"
        assert [each for each in seen["Missing"] if device not in each] == []
        assert seen["Surplus"] == []
    finally:
        made.stop()


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_bytes_of_services_own_addresses_are_counted_on_the_clients_host(lan: Lan, kind: str) -> None:
    """With tasks there and elsewhere; at a port that is published, too, whose bytes these are not."""
    made = Services(lan)
    try:
        made.serving()
        client = made.client(1, "x1", "10.1.0.21")
        host, mesh = lan.hosts[0], made.for_host(lan.hosts[0])
        mesh = replace(lan.mesh(*lan.tasks, ports=(MeshPort(kind, 80, 80),)), overlays=mesh.overlays)
        assert host.told(mesh)["failures"] == []
        seen = host.seen(mesh)["Bytes"]
        with counted(client, kind, 80) as count:
            assert len({each.split()[0] for each in client.ask(VIP, 80, 8, kind)}) > 1
            assert_counts(host, mesh, VIP, seen[VIP], count)
        assert host.seen(mesh)["Bytes"][f"80/{kind}"] == seen[f"80/{kind}"]
    finally:
        made.stop()
        made.members.clear()
        made.tell()
