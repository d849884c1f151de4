"""What nodes' hosts have of their own: found, told, kept, and kept clear of."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.agent import own_networks as telling
from skep.agent.own_networks import OwnNetworks
from skep.api.node_objects import node_json
from skep.manager.allocator.subnets import give
from skep.manager.explain import explain_task
from skep.manager.net_inspect import inspect_net
from skep.manager.scheduler.place import Round
from skep.model.change import NewTask
from skep.model.container import ContainerSpec, NetworkAttachmentConfig
from skep.model.host_network import HOST_NETWORKS_MAX, HostNetwork
from skep.model.network import IPAM, OVERLAY, IPAMConfig, Network, NetworkSpec
from skep.model.spec import TaskSpec
from skep.network.host import HostFacts, HostRoute
from skep.network.own_host import look, routes_in
from skep.network.own_networks import own_networks
from skep.rpc import messages
from skep.rpc.checking import check
from skep.runtime.errors import Denied, Invalid
from skep.store.host_networks import KnownHostNetworks
from skep.store.view import View
from tests.unit.builders import add_node, add_service

LAN = HostNetwork("10.0.0.0/24", "eth0")
DOCKER = HostNetwork("172.17.0.0/16", "docker0")
POOL = ["10.0.0.0/8"]


def network(name: str, *subnets: str, ingress: bool = False) -> Network:
    pools = [IPAMConfig(subnet=each) for each in subnets]
    spec = NetworkSpec(name=name, driver=OVERLAY, ingress=ingress)
    return Network(id=f"id-{name}", spec=spec, created_at=0, updated_at=0, pools=pools)


def asks_for(*subnets: str) -> NetworkSpec:
    config = [IPAMConfig(subnet=subnet) for subnet in subnets]
    return NetworkSpec(name="x", driver=OVERLAY, ipam=IPAM(config=config))


# On the node


def test_a_hosts_own_networks_are_those_that_neither_skep_nor_an_engine_has_made() -> None:
    host = HostFacts(
        devices={
            "127.0.0.1": "lo",
            "10.0.0.7": "eth0",
            "10.9.9.9": "lo",
            "172.17.0.1": "docker0",
            "172.18.0.1": "br-0123456789ab",
            "10.1.0.2": "skb4097",
        },
        uplinks=frozenset({"eth0"}),
        routes=frozenset(
            {
                HostRoute("0.0.0.0/0", ("eth0",), ("10.0.0.1",)),
                HostRoute("128.0.0.0/1", ("tun0",), ("10.8.0.1",)),
                HostRoute("10.0.0.0/24", ("eth0",)),
                HostRoute("172.17.0.0/16", ("docker0",)),
                HostRoute("172.18.0.0/16", ("br-0123456789ab",)),
                HostRoute("10.1.0.0/24", ("skb4097",)),
                HostRoute("192.168.0.0/16", ()),
                HostRoute("203.0.113.0/24", ("eth1",)),
            }
        ),
        nameservers=frozenset({"10.0.0.53", "10.255.0.53", "127.0.0.53", "fd00::53"}),
    )
    assert own_networks(host) == [
        HostNetwork("172.17.0.0/16", "docker0"),
        HostNetwork("192.168.0.0/16", "no device"),
        HostNetwork("10.0.0.0/24", "eth0"),
        # Documentation's own network counts as private: nobody routes it.
        HostNetwork("203.0.113.0/24", "eth1"),
        HostNetwork("10.8.0.1/32", "gateway by tun0"),
        HostNetwork("10.9.9.9/32", "lo"),
        HostNetwork("10.255.0.53/32", "nameserver"),
    ]


def test_a_bridge_by_which_the_host_reaches_the_world_is_its_own() -> None:
    bridge = "br-0123456789ab"
    routes = frozenset(
        {HostRoute("0.0.0.0/0", (bridge,), ("10.5.0.1",)), HostRoute("10.5.0.0/16", (bridge,))}
    )
    found = own_networks(HostFacts(uplinks=frozenset({bridge}), routes=routes))
    assert found == [HostNetwork("10.5.0.0/16", bridge)]


def test_a_host_with_thousands_of_routes_says_the_most_relevant_ones() -> None:
    many = [HostRoute(f"198.51.{n // 256}.{n % 256}/32", ("eth0",)) for n in range(0, 500, 2)]
    public = [HostRoute(f"8.{n}.0.0/16", ("eth0",)) for n in range(200)]
    found = own_networks(HostFacts(routes=frozenset([*many, *public, HostRoute("10.7.0.0/16", ("eth1",))])))
    assert len(found) == HOST_NETWORKS_MAX
    assert found[0] == HostNetwork("10.7.0.0/16", "eth1")
    check(messages.HostNetworks(found))


def test_the_kernels_listing_of_routes_is_read() -> None:
    lines = [
        "eth0\t00000000\t010000C0\t0003\t0\t0\t0\t00000000\t0\t0\t0  \n",
        "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0  \n",
        "*\t0000A8C0\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0  \n",
    ]
    assert routes_in(lines) == [
        HostRoute("0.0.0.0/0", ("eth0",), ("192.0.0.1",)),
        HostRoute("10.0.0.0/24", ("eth0",)),
        HostRoute("192.168.0.0/16", ()),
    ]


def test_what_this_host_has_may_be_said() -> None:
    check(messages.HostNetworks(look()))


class Line:
    """Fulfils what is used of `Session`."""

    def __init__(self) -> None:
        self.features: set[str] = set()
        self.sent: list[messages.HostNetworks] = []
        self.began = lambda said: None

    def on(self, kind: type, take: object) -> None:
        self.began = take  # type: ignore[assignment]

    def manager_knows(self, feature: str) -> bool:
        return feature in self.features

    def send(self, message: messages.HostNetworks) -> None:
        self.sent.append(message)


async def test_a_node_tells_its_hosts_networks_in_each_session_and_when_they_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "LOOK_S", 0.01)
    line, there = Line(), [LAN]
    telling_them = OwnNetworks(line, lambda: list(there))  # type: ignore[arg-type]
    telling_them.start()
    await asyncio.sleep(0.05)
    assert not line.sent  # no session, or an earlier manager's
    line.features.add(messages.HOST_NETWORKS)
    line.began(None)
    await asyncio.sleep(0.05)
    assert [each.networks for each in line.sent] == [[LAN]]
    there.append(HostNetwork("10.8.0.0/24", "tun\x1b0"))
    await asyncio.sleep(0.1)
    assert [each.networks for each in line.sent[1:]] == [[LAN, HostNetwork("10.8.0.0/24", "tun 0")]]
    line.began(None)
    assert len(line.sent) == 3
    await telling_them.close()


# With the leader

prefixes = st.builds(
    lambda base, length: str(ipaddress.IPv4Network((base, length), strict=False)),
    st.integers(0x0A000000, 0x0A00FFFF),
    st.integers(14, 32),
)
told = st.lists(st.tuples(st.sampled_from("abc"), st.lists(prefixes, max_size=6)), max_size=12)


@settings(deadline=None)
@given(told, st.lists(prefixes, max_size=8), prefixes)
def test_what_overlaps_is_what_a_scan_of_all_would_find(
    said: list[tuple[str, list[str]]], subnets: list[str], asked: str
) -> None:
    hosts, known = KnownHostNetworks(), dict[str, list[str]]()
    disjoint: list[ipaddress.IPv4Network] = []
    for each in map(ipaddress.IPv4Network, subnets):
        if not any(each.overlaps(other) for other in disjoint):
            disjoint.append(each)
    half = len(disjoint) // 2
    for subnet in disjoint[:half]:
        hosts.put_network(network(str(subnet), str(subnet)))
    for node_id, prefixes_ in said:
        hosts.put_node(node_id, [HostNetwork(each, "eth0") for each in prefixes_])
        known[node_id] = prefixes_
    for subnet in disjoint[half:]:
        hosts.put_network(network(str(subnet), str(subnet)))
    hosts.drop_node("c")
    known.pop("c", None)

    def scan(subnet: ipaddress.IPv4Network) -> set[str]:
        return {
            n for n, all_ in known.items() if any(subnet.overlaps(ipaddress.IPv4Network(p)) for p in all_)
        }

    assert set(hosts.on(ipaddress.IPv4Network(asked))) == scan(ipaddress.IPv4Network(asked))
    assert {i: set(nodes) for i, nodes in hosts.clashing.items()} == {
        f"id-{subnet}": scan(subnet) for subnet in disjoint if scan(subnet)
    }
    everything = sorted({p for all_ in known.values() for p in all_})
    merged = [ipaddress.summarize_address_range(*map(ipaddress.IPv4Address, each)) for each in hosts.merged()]
    collapsed = ipaddress.collapse_addresses(map(ipaddress.IPv4Network, everything))
    assert list(ipaddress.collapse_addresses(n for each in merged for n in each)) == list(collapsed)
    for subnet in disjoint:
        hosts.drop_network(f"id-{subnet}")
    for node_id in "abc":
        hosts.drop_node(node_id)
    assert not hosts.clashing
    assert not hosts.merged()


def test_a_node_is_looked_at_again_where_other_networks_overlap_what_it_has() -> None:
    hosts = KnownHostNetworks()
    hosts.put_network(network("a", "10.0.0.0/24"))
    assert not hosts.put_node("n", [DOCKER])
    assert hosts.put_node("n", [DOCKER, LAN])
    assert not hosts.put_node("n", [LAN])
    assert hosts.put_node("n", [])


def host(**said: Sequence[HostNetwork]) -> KnownHostNetworks:
    hosts = KnownHostNetworks()
    for node_id, networks in said.items():
        hosts.put_node(node_id, networks)
    return hosts


def test_a_new_network_gets_a_subnet_that_no_host_has() -> None:
    hosts = host(a=[LAN], b=[HostNetwork("10.0.2.0/23", "eth0"), HostNetwork("10.0.4.7/32", "nameserver")])
    after, found = "", []
    for n in range(2):
        there = [network(f"n{n}", each) for n, each in enumerate(found)]
        after = give(NetworkSpec(name="x", driver=OVERLAY), there, POOL, 24, after, 0, hosts).pools[0].subnet
        found.append(after)
    assert found == ["10.0.1.0/24", "10.0.5.0/24"]


def test_a_subnet_that_hosts_have_is_refused_with_who_has_it() -> None:
    hosts = host(a=[LAN], b=[HostNetwork("10.0.0.0/16", "vpn")], c=[LAN], d=[LAN], e=[DOCKER])
    with pytest.raises(Denied) as refused:
        give(asks_for("10.0.0.0/25"), [], POOL, 24, hosts=hosts, name_of=lambda node_id: f"host-{node_id}")
    assert str(refused.value) == (
        "invalid pool request: Pool overlaps with other one on this address space: 10.0.0.0/25 overlaps hosts'"
        " own networks: 10.0.0.0/16 of node host-b (vpn), 10.0.0.0/24 of node host-a (eth0), 10.0.0.0/24 of"
        " node host-c (eth0) and of 1 more nodes. Containers there would take away the host's ways to others."
        " Choose another one (docker network create --subnet), or none: one that is free is given then"
    )


def test_a_subnet_of_another_network_is_refused_with_its_name() -> None:
    with pytest.raises(Denied, match=r"10\.1\.3\.0/24 overlaps 10\.1\.0\.0/16 of network back"):
        give(asks_for("10.1.3.0/24"), [network("back", "10.1.0.0/16")], POOL, 24)


def test_pools_that_are_used_up_say_which_and_by_whom() -> None:
    hosts = host(a=[LAN, HostNetwork("10.0.1.0/24", "eth1"), DOCKER])
    there = [network("back", "10.0.2.0/24"), network("far", "10.9.0.0/24"), network("front", "10.0.3.0/24")]
    with pytest.raises(Invalid) as refused:
        give(NetworkSpec(name="x", driver=OVERLAY), there, ["10.0.0.0/22"], 24, hosts=hosts)
    assert str(refused.value) == (
        "all predefined address pools have been fully subnetted: 10.0.0.0/22 in subnets of /24 (2 of the"
        " swarm's networks are there, and hosts have networks of their own there: 10.0.0.0/24 of node a"
        " (eth0)). Remove networks that nobody needs (docker network prune), or give this one a subnet"
        " elsewhere (docker network create --subnet); a new swarm can begin with larger pools (docker swarm"
        " init --default-addr-pool, --default-addr-pool-mask-length)"
    )


def placed(view: View, count: int) -> list[str]:
    wanted = [NewTask(f"t{n}", "s", n + 1, 1, 0.0, 0.0, "") for n in range(count)]
    result = Round(view, 1.0).place(wanted)
    for pending in result.pending:
        view.put_pending(pending)
    return sorted(task.node_id for task in result.placed)


def test_tasks_are_placed_where_the_host_has_room_for_their_networks() -> None:
    view = View()
    back = network("back", "10.0.0.0/24")
    view.put_network(back)
    task = TaskSpec(
        container_spec=ContainerSpec(image="x"), networks=[NetworkAttachmentConfig(target=back.id)]
    )
    add_node(view, "a")
    add_node(view, "b")
    add_service(view, task=task)
    view.hosts.put_node("a", [LAN])
    assert placed(view, 2) == ["b", "b"]

    view.hosts.put_node("b", [HostNetwork("10.0.0.0/8", "tun0")])
    assert placed(view, 1) == []
    (pending,) = view.pending_ids.values()
    assert pending.reason == ("no suitable node (a network of the task overlaps the host's own on 2 nodes)")
    said = [each.text for each in explain_task(view, pending, 1.0, {}).nodes]
    helps = (
        "What helps: make the network anew with another subnet (docker network create --subnet), or begin the"
        " swarm with other pools (docker swarm init --default-addr-pool)"
    )
    assert said == [
        "1 node (host-a): network back (10.0.0.0/24) overlaps its host's own network 10.0.0.0/24 (eth0)."
        f" {helps}",
        "1 node (host-b): network back (10.0.0.0/24) overlaps its host's own network 10.0.0.0/8 (tun0)."
        f" {helps}",
    ]

    view.hosts.put_node("a", [])
    assert placed(view, 1) == ["a"]


def test_a_node_says_which_networks_its_host_has_no_room_for() -> None:
    view = View()
    view.put_network(network("ingress", "10.0.0.0/24", ingress=True))
    node = add_node(view, "a")
    view.hosts.put_node("a", [LAN])
    sentence = (
        "the routing mesh's network ingress (10.0.0.0/24) overlaps its host's own network 10.0.0.0/24 (eth0):"
        " its tasks are placed elsewhere. What helps: make the network anew with another subnet (docker network"
        " create --subnet), or begin the swarm with other pools (docker swarm init --default-addr-pool)"
    )
    assert node_json(view, node, "a", None).status.message == sentence
    assert inspect_net(view, node).says == [sentence]
    view.drop_network("id-ingress")
    assert node_json(view, node, "a", None).status.message == ""
