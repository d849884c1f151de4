"""What this machine's own network says: which cards are bridges, and whose subnets are taken."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from skep.agent.executor.routes import clash_with_host
from skep.network.seen import Seen

pytestmark = pytest.mark.root
KINDS = {"sktbr": "bridge", "sktve": "veth peer name sktvf"}


@pytest.fixture
def cards() -> Iterator[None]:
    """A bridge and another card, in this process's network."""
    try:
        for number, (name, kind) in enumerate(KINDS.items()):
            for line in (
                f"link add {name} type {kind}",
                f"addr add 10.99.{number}.1/24 dev {name}",
                f"link set {name} up",
            ):
                subprocess.run(["ip", *line.split()], check=True, capture_output=True)
        yield
    finally:
        for name in KINDS:
            subprocess.run(["ip", "link", "del", name], capture_output=True)


@pytest.mark.usefixtures("cards")
def test_a_bridge_is_one_also_in_a_network_that_sys_does_not_show() -> None:
    with Seen() as seen:
        bridges = seen.all_bridges()
    assert {name: name in bridges for name in (*KINDS, "lo", "nobody")} == {
        "sktbr": True,
        "sktve": False,
        "lo": False,
        "nobody": False,
    }


@pytest.mark.usefixtures("cards")
def test_bridges_subnets_are_the_engines_to_look_after() -> None:
    assert clash_with_host("10.99.0.0/16") == "10.99.1.0/24 of sktve"
    assert clash_with_host("10.99.0.0/24") == ""


@pytest.mark.usefixtures("cards")
def test_a_bridge_by_which_this_machine_reaches_the_world_is_no_engines() -> None:
    route = "route add default via 10.99.0.9 dev sktbr metric 40000"  # it goes with the bridge
    subprocess.run(["ip", *route.split()], check=True, capture_output=True)
    assert clash_with_host("10.99.0.0/24") == "10.99.0.0/24 of sktbr"
