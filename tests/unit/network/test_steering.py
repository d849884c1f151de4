"""What a node should have for published ports where the swarm's data path is IPVS."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.control.swarm import check_data_path
from skep.model.data_path import HAS_IPVS, IPVS
from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.node import NodeDescription
from skep.model.overlay import OverlayNetwork
from skep.network import ipvs
from skep.network.desired import desired
from skep.network.diff import Changes, diff
from skep.network.host import HostFacts
from skep.network.ipvs import Ipvs
from skep.network.marks import NUMBER_MASK, OURS, OURS_MASK, STEERED
from skep.network.netlink_wire import attributes
from skep.network.objects import Chain, FirewallMark, Object, PortJump, RealServer, Table, VirtualService
from skep.network.ruleset import found, transaction
from skep.network.steering import MARKS, fwmarks
from skep.runtime.errors import Invalid, Unsupported
from skep.store.view import View
from tests.unit.builders import add_node
from tests.unit.kernels import after

NETWORK = OverlayNetwork("net", "10.0.0.0/24", 4097, 4789)
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2"}
TCP, UDP = MeshPort("tcp", 8080, 80), MeshPort("udp", 53, 5353)
HERE = MeshEndpoint("10.0.0.7", "n1")
THERE = MeshEndpoint("10.0.0.8", "n2")
ENDING = MeshEndpoint("10.0.0.9", "n2", False)
HOST = HostFacts(frozenset({"192.0.2.1", "127.0.0.1"}), frozenset({"eth0"}))


def _mesh(*endpoints: MeshEndpoint) -> Mesh:
    services = {"s1": MeshService("s1", "web", (TCP, UDP), endpoints)}
    return Mesh(NETWORK, NODES, services, data_path=IPVS)


def _wanted(mesh: Mesh, host: HostFacts = HOST) -> tuple[Object, ...]:
    return desired(mesh, "n1", host).objects


def _of(objects: tuple[Object, ...], kind: type) -> list:  # type: ignore[type-arg]
    return [each for each in objects if isinstance(each, kind)]


def _rules(objects: tuple[Object, ...], name: str) -> tuple[str, ...]:
    (found,) = [each for each in _of(objects, Chain) if each.name == name]
    return found.rules


def test_each_port_is_a_service_of_its_own_and_each_task_a_real_server() -> None:
    objects = _wanted(_mesh(HERE, THERE, ENDING))
    tcp, udp = MARKS[0], MARKS[1]
    assert _of(objects, FirewallMark) == [FirewallMark("tcp", 8080, tcp), FirewallMark("udp", 53, udp)]
    assert _of(objects, VirtualService) == [VirtualService(tcp), VirtualService(udp)]
    assert _of(objects, RealServer) == [
        RealServer(tcp, "10.0.0.7", 80),
        RealServer(tcp, "10.0.0.8", 80),
        RealServer(tcp, "10.0.0.9", 80, weight=0),  # its connections go on
        RealServer(udp, "10.0.0.7", 5353),
        RealServer(udp, "10.0.0.8", 5353),
    ]


def test_a_services_chain_marks_connections_and_leads_only_those_of_127() -> None:
    objects = _wanted(_mesh(HERE, THERE))
    steer, lead = _rules(objects, "tcp-8080")
    assert steer == f'ip saddr != 127.0.0.0/8 counter name "tcp-8080" ct mark set {STEERED:#x} accept'
    assert "dnat" in lead
    assert f"ct mark set {OURS:#x}" in lead
    leave = _rules(objects, "leave")
    assert (
        sum("ct status dnat" in rule for rule in leave) == sum(f"{STEERED:#x}" in rule for rule in leave) > 0
    )


def test_a_service_without_a_task_that_runs_refuses() -> None:
    objects = _wanted(_mesh(ENDING))
    assert _rules(objects, "tcp-8080") == ("meta l4proto tcp reject with tcp reset",)
    assert _of(objects, RealServer) == [RealServer(MARKS[0], "10.0.0.9", 80, weight=0)]


def test_a_node_without_ipvs_goes_on_with_nftables_and_says_so() -> None:
    mesh = _mesh(HERE, THERE)
    made = desired(mesh, "n1", replace(HOST, why_no_ipvs="no module"))
    assert made.objects == _wanted(replace(mesh, data_path="nftables"))
    assert made.failures == ("published ports are led by nftables here, and not by IPVS: no module",)
    assert not desired(mesh, "n1", HOST).failures


def test_marks_are_nobody_elses() -> None:
    """A node's number in a connection's mark, and rules of policy routing, are not met by these."""
    assert not any(mark & OURS_MASK for mark in (MARKS[0], MARKS[-1]))
    assert STEERED & (OURS_MASK | NUMBER_MASK) == OURS
    ports = [("tcp", 1), ("tcp", 2)]
    assert fwmarks({}, ports, {MARKS[0]}) == {("tcp", 1): MARKS[1], ("tcp", 2): MARKS[2]}
    full = {("tcp", n): mark for n, mark in enumerate(MARKS)}
    assert fwmarks(full, [("udp", 1)], ()) == {}, "a rule leads to it"
    host = replace(HOST, fwmarks_taken=frozenset(MARKS[1:]))
    objects = desired(_mesh(HERE), "n1", host).objects
    assert _of(objects, FirewallMark) == [FirewallMark("tcp", 8080, MARKS[0])]
    assert not any("accept" in rule for rule in _rules(objects, "udp-53"))


PORTS = st.lists(st.tuples(st.sampled_from(["tcp", "udp"]), st.integers(1, 20)), max_size=12)


@given(PORTS, PORTS, st.sets(st.sampled_from(MARKS[:6])))
def test_a_port_keeps_its_mark(
    first: list[tuple[str, int]], second: list[tuple[str, int]], taken: set[int]
) -> None:
    before = fwmarks({}, first, taken)
    now = fwmarks(before, second, taken)
    assert set(before) == set(first)
    assert set(now) == set(second)
    assert all(now[each] == before[each] for each in now if each in before)
    assert len(set(now.values())) == len(now)
    assert not taken & set(now.values())


def test_a_mark_in_nftables_is_made_changed_and_found() -> None:
    one, other = FirewallMark("tcp", 8080, 257), FirewallMark("tcp", 8080, 258)
    changes = diff([Table(), other], [Table(), one])
    assert changes == Changes((one,), (other,))
    lines = transaction(changes).splitlines()
    gone = lines.index("delete element ip skep fwmarks { tcp . 8080 }")
    assert gone < lines.index("add element ip skep fwmarks { tcp . 8080 : 258 }")
    entries = [
        {"map": {"name": "ports"}},
        {"map": {"name": "fwmarks", "elem": [[{"concat": ["tcp", 8080]}, 258]]}},
    ]
    assert other in list(found(json.dumps({"nftables": entries})))


def test_only_what_differs_is_done_and_servers_go_before_their_service() -> None:
    before = frozenset(_wanted(_mesh(HERE, THERE)))
    ending = replace(THERE, takes_new=False)
    changes = diff(_wanted(_mesh(HERE, ending)), before)
    mark = MARKS[0]
    assert RealServer(mark, "10.0.0.8", 80, weight=0) in changes.puts
    assert [each for each in changes.drops if not isinstance(each, PortJump)] == [
        RealServer(MARKS[1], "10.0.0.8", 5353)
    ]
    none = diff(_wanted(replace(_mesh(HERE, THERE), data_path="nftables")), before)
    kinds = [type(each) for each in none.drops]
    assert kinds.index(RealServer) < kinds.index(VirtualService)
    assert not any(isinstance(e, RealServer | VirtualService | FirewallMark) for e in after(before, none))


def test_services_whose_marks_nftables_does_not_have_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [VirtualService(257), VirtualService(300, "wlc")]
    monkeypatch.setattr(ipvs, "opened", lambda protocol: socket.socket())
    monkeypatch.setattr(ipvs, "_family", lambda line: 30)
    monkeypatch.setattr(ipvs, "_services", lambda line, family: there)
    monkeypatch.setattr(ipvs, "_servers", lambda line, family, of: [RealServer(of.mark, "10.0.0.7", 80)])
    known = Ipvs()
    assert known.look([], is_wanted=False) == []
    mark = FirewallMark("tcp", 8080, 257)
    assert known.look([mark], is_wanted=True) == [VirtualService(257), RealServer(257, "10.0.0.7", 80)]
    assert known.taken == {300}
    assert known.look([], is_wanted=True), "somebody has flushed the rules: this process knows it still"
    known.done({}, is_whole=False)
    assert known.marks
    known.done({}, is_whole=True)
    assert known.look([], is_wanted=True) == []
    assert known.taken == {257, 300}


def test_messages_say_what_ipvs_wants_to_know() -> None:
    body = ipvs._body(5, RealServer(257, "10.0.0.7", 80, weight=0))
    service, server = (dict(attributes(data)) for _, data in attributes(body[4:]))
    assert service == {1: b"\x02\0", 5: b"\x01\x01\0\0"}
    assert (server[1], server[2]) == (b"\x0a\0\0\x07", b"\0\x50")
    assert [server[n] for n in (3, 4, 5, 6)] == [bytes(4)] * 4
    ((_, data),) = attributes(ipvs._body(1, VirtualService(257))[4:])
    assert dict(attributes(data))[6] == b"rr\0"


def test_a_swarm_without_ipvs_refuses_it_with_the_reason() -> None:
    view = View()
    add_node(view, "a")
    with pytest.raises(Invalid, match="there is no data path 'x': there are nftables, ipvs"):
        check_data_path("x", view.nodes.values())
    with pytest.raises(Unsupported, match=r"no node of this swarm has IPVS: .* ip_vs and ip_vs_rr"):
        check_data_path(IPVS, view.nodes.values())
    check_data_path("nftables", ())
    able = NodeDescription(hostname="h").having(HAS_IPVS)
    assert able.has(HAS_IPVS)
    add_node(view, "b")
    view.put_node(replace(view.nodes["b"], description=able))
    check_data_path(IPVS, view.nodes.values())
