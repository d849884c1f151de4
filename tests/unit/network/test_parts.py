"""What is wanted is made in parts, and what is the same is not made anew: it comes to the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network.desired import Desired, desired
from skep.network.diff import Known, diff, diff_parts
from skep.network.host import HostFacts
from skep.network.objects import Chain, Neighbour, Object, PortJump, Sysctl
from tests.unit.kernels import after

INGRESS = OverlayNetwork("net", "10.0.0.0/24", 4097, 4789)
BACK = OverlayNetwork("back", "10.1.0.0/24", 4098, 4789, "back")
HOST = HostFacts(frozenset({"192.0.2.1"}))
NODE_IDS = st.sampled_from(["n1", "n2", "n3", "nobody"])
SERVICES = ["a", "b", "c"]
ENDPOINTS = st.lists(
    st.builds(MeshEndpoint, st.sampled_from([f"10.0.0.{n}" for n in range(1, 6)]), NODE_IDS, st.booleans()),
    max_size=4,
).map(tuple)
PORTS = st.lists(
    st.builds(MeshPort, st.sampled_from(["tcp", "udp"]), st.integers(8080, 8082), st.just(80)), max_size=2
).map(tuple)
ON_BACK = st.lists(
    st.builds(OverlayEndpoint, st.sampled_from([f"10.1.0.{n}" for n in range(1, 6)]), NODE_IDS), max_size=4
).map(tuple)
VIPS = st.sampled_from(["", "10.1.0.5", "10.1.0.100", "10.1.0.101"])
NODES = st.dictionaries(
    st.sampled_from(["n2", "n3"]), st.sampled_from(["192.0.2.2", "192.0.2.3", "192.0.2.4", "10.0.0.9"])
).map(lambda others: {"n1": "192.0.2.1", **others})


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    services = {
        name: MeshService(name, f"web-{name}", draw(PORTS), draw(ENDPOINTS), draw(st.booleans()))
        for name in draw(st.sets(st.sampled_from(SERVICES)))
    }
    nodes, overlays = draw(NODES), {}
    if draw(st.booleans()):
        on_it = {
            name: OverlayService(name, f"web-{name}", (), draw(VIPS), draw(ON_BACK))
            for name in draw(st.sets(st.sampled_from(SERVICES)))
        }
        single = {each.address: each for each in draw(ON_BACK)}
        overlays = {BACK.id: Overlay(BACK, nodes, on_it, single)}
    return Mesh(INGRESS, nodes, services, overlays=overlays)


def _keyed(objects: tuple[Object, ...]) -> dict[object, Object]:
    return {(type(each), each.key): each for each in objects}


@given(st.lists(meshes(), min_size=1, max_size=5), st.data())
def test_it_comes_to_the_same_whatever_there_was_before(told: list[Mesh], data: st.DataObject) -> None:
    wanted, known, kernel = Desired(), Known(), frozenset[Object]()
    for mesh in told:
        refused = data.draw(st.sets(st.just(("tcp", 8080))))
        alone = desired(mesh, "n1", HOST, refused, wanted.numbers)
        wanted = desired(mesh, "n1", HOST, refused, wanted.numbers, wanted)
        assert set(wanted.objects) == set(alone.objects)
        assert (wanted.vips, wanted.numbers, wanted.failures) == (alone.vips, alone.numbers, alone.failures)
        objects = [each for each in wanted.objects if not isinstance(each, Sysctl)]
        assert len(_keyed(tuple(objects))) == len(objects), "a thing is wanted once"
        changes = diff_parts(wanted.parts, known)
        in_all = diff(wanted.objects, kernel)
        assert (set(changes.puts), set(changes.drops)) == (set(in_all.puts), set(in_all.drops))
        kernel, known = after(kernel, changes), Known(wanted.parts, frozenset(changes.stays))
        assert kernel == known.objects >= set(wanted.objects)


def _web(number: int, *tasks: int) -> MeshService:
    endpoints = tuple(MeshEndpoint(f"10.0.0.{task}", "n2") for task in tasks)
    return MeshService(f"s{number}", f"web{number}", (MeshPort("tcp", 8080 + number, 80),), endpoints)


def test_a_change_of_one_service_touches_nothing_else() -> None:
    services = {f"s{number}": _web(number, 10 + number, 20 + number, 30 + number) for number in range(9)}
    mesh = Mesh(INGRESS, {"n1": "192.0.2.1", "n2": "192.0.2.2"}, services)
    before = desired(mesh, "n1", HOST)
    now = replace(mesh, nodes=dict(mesh.nodes), services={**services, "s4": _web(4, 14, 24)})
    wanted = desired(now, "n1", replace(HOST), before=before)
    others = {key for key, part in wanted.parts.items() if part is not before.parts.get(key)}
    assert others == {("endpoints", "net", "s4"), ("ports", "s4")}
    changes = diff_parts(wanted.parts, Known(before.parts))
    assert [type(each) for each in changes.puts] == [Chain]
    assert [each.key for each in changes.drops] == [("skb4097", "10.0.0.34")]


def test_what_is_no_more_is_not_remembered() -> None:
    mesh = Mesh(INGRESS, {"n1": "192.0.2.1", "n2": "192.0.2.2"}, {"s1": _web(1, 11), "s2": _web(2, 12)})
    before = desired(mesh, "n1", HOST)
    now = desired(replace(mesh, services={"s2": _web(2, 12)}), "n1", HOST, before=before)
    assert not [key for key in now.made if "s1" in key]


def test_an_address_is_one_services_only() -> None:
    """Of two that are said to have it, the last; who has it here, in any case."""
    nodes = {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3"}
    there = MeshService("s2", "b", (), (MeshEndpoint("10.0.0.11", "n3"),))
    both = Mesh(INGRESS, nodes, {"s1": _web(1, 11), "s2": there})
    before = desired(both, "n1", HOST)
    (way,) = (each for each in before.objects if isinstance(each, Neighbour))
    assert way == Neighbour("skb4097", "10.0.0.11", "02:6e:c0:00:02:03")
    # … and the first again, when the last has gone.
    now = desired(replace(both, services={"s1": _web(1, 11)}), "n1", HOST, before=before)
    changes = diff_parts(now.parts, Known(before.parts))
    assert Neighbour("skb4097", "10.0.0.11", "02:6e:c0:00:02:02") in changes.puts
    assert not [each for each in changes.drops if isinstance(each, Neighbour | PortJump)]
    here = MeshService("s0", "c", (), (MeshEndpoint("10.0.0.11", "n1"),))
    moved = desired(replace(both, services={"s0": here, **both.services}), "n1", HOST)
    assert not [each for each in moved.objects if isinstance(each, Neighbour) and each.address == "10.0.0.11"]
