"""nftables' own library: chains with their rules, and what there is of ours afterwards, the same either way."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from skep.network.nftables import Nftables

from .mesh_hosts import Namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

# In a namespace: what the library can, then all rules of a mesh made, and changed, in both ways.
PROGRAM = """
from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.overlay import OverlayNetwork
from skep.network.desired import desired
from skep.network.diff import diff
from skep.network.host import HostFacts
from skep.network.nftables import Nftables
from skep.network.objects import Chain, ChainCounter, PortJump, Table, Traffic
from skep.network.ruleset import LIST, found, transaction

KINDS = Table | Chain | ChainCounter | PortJump | Traffic


def wanted(*numbers):
    tasks = tuple(MeshEndpoint(f"10.0.0.{n}", f"n{n % 3}") for n in numbers)
    service = MeshService("s", "web", (MeshPort("tcp", 8080, 80), MeshPort("udp", 53, 53)), tasks)
    network = OverlayNetwork("net", "10.0.0.0/24", 4097, 4789, "ingress")
    mesh = Mesh(network, {f"n{n}": f"192.0.2.{n + 1}" for n in range(3)}, {"s": service})
    made = desired(mesh, "n0", HostFacts(frozenset({"192.0.2.1"}), frozenset({"eth0"}))).objects
    return [each for each in made if isinstance(each, KINDS)]


nft = Nftables()
assert nft.takes_rules, nft.takes_rules
assert nft.list("list table ip skep-trial") is None
seen = []
for way in (True, False):
    before = []
    for now in (wanted(10), wanted(10, 11, 12), wanted(), wanted(11, 12)):
        nft.run(transaction(diff(now, before), way))
        before = list(found(nft.list(LIST)))
        assert not diff(now, before), (way, diff(now, before))
        seen.append(sorted(map(str, before)))
    nft.run(transaction(diff((), before), way))
    assert nft.list(LIST) is None
assert seen[:4] == seen[4:]
print("the same")
"""


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = Namespace("nft")
    try:
        yield made
    finally:
        made.remove()


def test_chains_that_come_with_their_rules_have_them(space: Namespace) -> None:
    assert space.run(sys.executable, "-c", PROGRAM) == "the same\n"


def test_a_library_that_leaves_rules_out_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes what it should refuse, and one that refuses everything."""
    for answers, expected in (
        ([None, None], False),
        ([None, "No such file"], True),
        (["not permitted", "not permitted"], False),
    ):
        made = object.__new__(Nftables)
        made._context = 0
        said = iter(answers)
        monkeypatch.setattr(Nftables, "_run", lambda self, context, text, said=said: ("", next(said)))
        assert made.takes_rules is expected
