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
    make_bridge("skb9", 1400, *sys.argv[1:])
except Conflict as error:
    print(error)
"""


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


def test_another_networks_is_not_taken(space: Namespace) -> None:
    _make(space, "10.9.0.0/24", "10.9.0.2/24")
    assert "has address 10.9.0.2/24 of another network" in _make(space, "10.8.0.0/24")
