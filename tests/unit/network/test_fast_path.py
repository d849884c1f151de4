"""Which devices' packets may take the fast path, and what the program is told of them."""

from __future__ import annotations

import hashlib
import struct
from importlib import resources

import pytest
from msgspec.structs import replace

from skep.model.mesh import Mesh
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network.bpf import Map, Program
from skep.network.desired import desired
from skep.network.diff import diff
from skep.network.fast_path import (
    TASKS_MAX,
    Counts,
    fast_service,
    packed,
    packed_service,
    unpacked,
    unpacked_service,
    with_counts,
)
from skep.network.fast_path_kernel import shares
from skep.network.host import Host, Route
from skep.network.objects import (
    VIP,
    Chain,
    Counter,
    FastPort,
    FastService,
    FastTunnel,
    Gateway,
    Object,
    Port,
    Traffic,
    Tunnel,
)

BACK = OverlayNetwork("back-id", "10.1.0.0/24", 4098, 4789, "back")
FRONT = OverlayNetwork("front-id", "10.2.0.0/24", 4099, 4789, "front")
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2"}
HERE, THERE = OverlayEndpoint("10.1.0.11", "n1", "web.1.a"), OverlayEndpoint("10.1.0.12", "n2", "web.2.b")
WEB = OverlayService("s", "web", ("www",), "10.1.0.100", (HERE, THERE))
PORTS = frozenset({Port("veth1", "skb4098"), Port("veth2", "skb4098"), Port("veth3", "skb4099")})
HOST = Host(
    frozenset({NODES["n1"], "127.0.0.1"}),
    routes=frozenset({Route("192.0.2.0/24", ("eth0",))}),
    bridges=frozenset({"skb4098"}),
    ports=PORTS,
    has_fast_path=True,
    crossing=frozenset(each.name for each in PORTS),
)

# Numbers of the kernel's functions for programs (linux/bpf.h).
BPF_SKB_CHANGE_TYPE, BPF_REDIRECT_PEER = 32, 155


def made(host: Host = HOST, *services: OverlayService) -> list[Object]:
    overlay = Overlay(BACK, NODES, {each.id: each for each in services or (WEB,)})
    return list(desired(Mesh(nodes=NODES, overlays={BACK.id: overlay}), "n1", host).objects)


def hooks(objects: list[Object]) -> dict[str, FastPort | FastTunnel]:
    return {each.key: each for each in objects if isinstance(each, FastPort | FastTunnel)}


def test_the_tunnel_and_the_containers_of_the_network_have_one() -> None:
    objects = made()
    assert hooks(objects).keys() == {"skv4098", "veth1", "veth2"}
    assert isinstance(hooks(objects)["skv4098"], FastTunnel)


def test_nothing_of_it_is_wanted_where_the_kernel_cannot_or_there_is_no_tunnel() -> None:
    assert not hooks(made(replace(HOST, has_fast_path=False)))
    elsewhere = replace(HOST, addresses=frozenset({"127.0.0.1"}))
    assert not hooks(made(elsewhere))


def test_half_of_a_connection_is_nothing_to_conntrack() -> None:
    (found,) = [each for each in made() if isinstance(each, Chain) and each.name == "halves"]
    assert found.hook is not None
    assert found.hook[:2] == ("filter", "forward")
    assert found.hook[2] < -150, "before users' rules"
    (rule,) = found.rules
    assert rule.startswith('iifname "skb*" oifname "skb*" ct state invalid ')
    assert rule.endswith(" notrack")
    without = made(replace(HOST, has_fast_path=False))
    assert not [each for each in without if isinstance(each, Chain) and each.name == "halves"]


def test_a_port_whose_other_end_is_here_has_none() -> None:
    """The program hands packets to the other end, in another network namespace."""
    assert hooks(made(replace(HOST, crossing=frozenset({"veth2", "veth3"})))).keys() == {"skv4098", "veth2"}


def test_a_port_is_known_by_where_it_leads_and_who_the_host_is() -> None:
    found = hooks(made(replace(HOST, gateways=frozenset({Gateway("skb4098", "10.1.0.3/24")}))))["veth1"]
    assert found == FastPort("veth1", "skb4098", "skv4098", "02:6e:c0:00:02:01", "10.1.0.0/24", "10.1.0.3")


@pytest.mark.parametrize("own", ["", "10.1.0.3"])
def test_what_the_program_is_told_of_a_port_is_read_again(own: str) -> None:
    numbers = {"skb4098": 7, "skv4098": 8}
    port = FastPort("veth1", "skb4098", "skv4098", "02:6e:c0:00:02:01", "10.1.0.0/24", own)
    value = packed(port, numbers.__getitem__)
    assert len(value) == 40, "struct port of fast_path.bpf.c"
    assert value[:8] == bytes([10, 1, 0, 0, 255, 255, 255, 0])
    assert unpacked("veth1", value, {7: "skb4098", 8: "skv4098"}.__getitem__) == port
    assert unpacked("veth1", value, {7: "skb4098", 8: ""}.__getitem__) != port, "its tunnel has gone"


def test_a_tunnel_that_is_made_anew_has_its_network_made_anew() -> None:
    """Ports name it by its number."""
    objects = made()
    tunnel = next(each for each in objects if isinstance(each, Tunnel))
    fast = [each for each in objects if isinstance(each, FastPort | FastTunnel)]
    changes = diff([tunnel, *fast], fast)
    assert {*changes.puts} == {tunnel, *fast}
    assert next(type(each) for each in changes.puts) is Tunnel


def test_what_the_program_knows_of_a_port_goes_also_where_its_tunnel_goes() -> None:
    objects = made()
    tunnel = next(each for each in objects if isinstance(each, Tunnel))
    fast = [each for each in objects if isinstance(each, FastPort | FastTunnel)]
    changes = diff([], [tunnel, *fast])
    assert {type(each) for each in changes.drops} == {FastPort, Tunnel}, "the tunnel's goes with it"


def test_another_skeps_program_is_replaced() -> None:
    changes = diff([FastTunnel("skv4098")], [FastTunnel("skv4098", is_known=False)])
    assert changes.puts == (FastTunnel("skv4098"),)
    assert not changes.drops


def test_the_program_is_what_its_source_says() -> None:
    """`scripts/bpf.sh` compiles it, and leaves the source's checksum in it."""
    there = resources.files("skep.network")
    source, image = (there.joinpath(f"fast_path.bpf.{ending}").read_bytes() for ending in ("c", "o"))
    assert hashlib.sha256(source).hexdigest().encode() in image


def test_what_is_handed_to_a_container_is_said_to_be_for_it() -> None:
    """Kernels that do it themselves (6.15, 6.1.139) hide where it is left out; on others (5.10.223) a container
    hears nothing by the fast path: it takes what came for the bridge's MAC address for somebody else's."""
    image = resources.files("skep.network").joinpath("fast_path.bpf.o").read_bytes()
    calls = [number for code, number in struct.iter_unpack("<B3xI", image[: len(image) & ~7]) if code == 0x85]
    before = {calls[n - 1] for n, number in enumerate(calls) if number == BPF_REDIRECT_PEER}
    assert before == {BPF_SKB_CHANGE_TYPE}


def test_a_programs_maps_are_taken_over_where_they_are_the_same_in_every_way() -> None:
    own = Program(3, 30, "skep_sent", b"tag", {"skep_flows": Map(4, 40, (9, 12, 32, 131072, 0))})
    there = Program(5, 20, "skep_sent", b"other", {"skep_flows": Map(6, 25, (9, 12, 32, 131072, 0))})
    assert shares(there, own)
    smaller = {"skep_flows": Map(6, 25, (9, 12, 32, 65536, 0))}
    assert not shares(replace(there, maps=smaller), own)
    assert not shares(replace(there, maps={}), own)
    assert not shares(there, None)


def test_a_service_is_led_by_turns_that_begin_with_another_task_on_each_node() -> None:
    (found,) = [each for each in made() if isinstance(each, FastService)]
    assert found == FastService("10.1.0.100", ("10.1.0.11", "10.1.0.12"), sum(b"n1"))
    assert not [e for e in made(replace(HOST, has_fast_path=False)) if isinstance(e, FastService)]
    many = [f"10.1.{n >> 8}.{n & 255}" for n in range(TASKS_MAX + 1)]
    assert fast_service("10.1.0.100", many, "n1").tasks == (), "the rules lead to so many"
    assert len(fast_service("10.1.0.100", many[1:], "n1").tasks) == TASKS_MAX


@pytest.mark.parametrize("count", [0, 1, 2, TASKS_MAX])
def test_what_the_program_is_told_of_a_service_is_read_again(count: int) -> None:
    service = FastService("10.1.0.100", tuple(f"10.1.{n >> 8}.{n & 255}" for n in range(count)), 7)
    value = packed_service(service)
    assert len(value) == 8 + 4 * TASKS_MAX, "struct service of fast_path.bpf.c"
    assert unpacked_service("10.1.0.100", value) == service


def test_what_rules_and_the_program_count_is_one() -> None:
    counted = [Counter("vip-10-1-0-100", 3, 180), Counter("tcp-80", 9), Traffic(VIP, "10.1.0.100", 10, 20)]
    counted.append(Traffic("tcp", "80", 1, 2))
    assert list(with_counts(counted, {"10.1.0.100": Counts(5, 100, 200)})) == [
        Counter("vip-10-1-0-100", 8, 180),
        Counter("tcp-80", 9),
        Traffic(VIP, "10.1.0.100", 110, 220),
        Traffic("tcp", "80", 1, 2),
    ]
    assert list(with_counts(counted, {})) == counted
