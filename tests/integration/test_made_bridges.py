"""Bridges that are made for an engine, in a kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .mesh_hosts import Namespace

pytestmark = pytest.mark.root

MAKE = """
import sys
from skep.network.netlink import make_bridge
from skep.runtime.errors import Conflict
try:
    make_bridge("skb9", 1400, *sys.argv[1:3], is_new=sys.argv[3:] == ["new"])
except Conflict as error:
    print(error)
"""

BARE = "from skep.network.netlink import make_bare_bridge; make_bare_bridge('skb9')"


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = Namespace("b")
    yield made
    made.remove()


def _make(space: Namespace, *arguments: str) -> str:
    return space.run(sys.executable, "-c", MAKE, *arguments)


def test_one_that_is_gone_has_its_address_again_and_one_that_is_there_keeps_what_it_has(
    space: Namespace,
) -> None:
    assert _make(space, "10.9.0.0/24") == ""
    assert "10.9.0." not in space.run("ip", "addr", "show", "skb9"), "that is the engine's to give"
    space.run("ip", "link", "del", "skb9")
    assert _make(space, "10.9.0.0/24", "10.9.0.2/24") == ""
    shown = space.run("ip", "addr", "show", "skb9")
    assert "inet 10.9.0.2/24" in shown
    assert "UP" in shown
    assert "mtu 1400" in shown
    assert _make(space, "10.9.0.0/24", "10.9.0.3/24") == ""
    assert "10.9.0.3" not in space.run("ip", "addr", "show", "skb9")


def test_one_with_another_address_has_the_new_one_and_keeps_its_ways(space: Namespace) -> None:
    """As an engine would not: it takes the old address away first, and the kernel all neighbours with it."""
    assert _make(space, "10.9.0.0/24", "10.9.0.2/24", "new") == ""
    neighbour = ["neigh", "replace", "10.9.0.77", "dev", "skb9", "lladdr", "02:6e:0a:00:00:07", "nud"]
    space.run("ip", *neighbour, "permanent")
    for address in ("10.9.0.5/24", "10.9.0.9/24", "10.9.0.2/24"):
        assert _make(space, "10.9.0.0/24", address, "new") == ""
        (shown,) = space.run("ip", "-4", "-o", "addr", "show", "skb9").splitlines()
        assert f"inet {address}" in shown
        assert "secondary" not in shown
        assert "PERMANENT" in space.run("ip", "neigh", "show", "10.9.0.77", "dev", "skb9")


def test_one_that_has_none_of_its_subnet_for_a_while_keeps_its_ways(space: Namespace) -> None:
    """As Podman 5.4 wants it: with the last address the kernel would take all of them away."""
    assert _make(space, "10.9.0.0/24", "10.9.0.2/24", "new") == ""
    neighbour = ["neigh", "replace", "10.9.0.77", "dev", "skb9", "lladdr", "02:6e:0a:00:00:07", "nud"]
    space.run("ip", *neighbour, "permanent")
    space.run("ip", "route", "add", "10.9.0.0/24", "dev", "skb9", "scope", "link", "metric", "7791")
    space.run("ip", "route", "add", "default", "via", "10.214.0.1", "dev", "skb9", "onlink", "table", "77")
    ways = ("ip -4 neigh show nud permanent", "ip -4 route show metric 7791", "ip route show table 77")
    before = [space.run(*each.split()) for each in ways]
    assert all(before)
    for _ in range(2):  # somebody may have died in between
        space.run(sys.executable, "-c", BARE)
        assert "inet 10.9." not in space.run("ip", "addr", "show", "skb9")
        assert [space.run(*each.split()) for each in ways] == before
    assert _make(space, "10.9.0.0/24", "10.9.0.3/24", "new") == ""
    (shown,) = space.run("ip", "-4", "-o", "addr", "show", "skb9").splitlines()
    assert "inet 10.9.0.3/24" in shown
    assert [space.run(*each.split()) for each in ways] == before


def test_another_networks_is_not_taken(space: Namespace) -> None:
    _make(space, "10.9.0.0/24", "10.9.0.2/24")
    assert "has address 10.9.0.2/24 of another network" in _make(space, "10.8.0.0/24")
