"""What a node finds in its kernel: what is there, what somebody took away, and the connections that it has led."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .mesh_hosts import BRIDGE, PREFIX, TUNNEL, Lan, three_hosts
from .test_mesh_vips import Services

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with three_hosts() as made:
        made.serving()
        yield made


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
