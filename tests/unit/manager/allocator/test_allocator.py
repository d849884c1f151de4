"""Addresses of tasks, virtual addresses and published ports of services."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.allocator import endpoints
from skep.manager.allocator import tasks as addresses
from skep.model.container import ContainerSpec, NetworkAttachmentConfig, PortConfig
from skep.model.network import OVERLAY, IPAMConfig, Network, NetworkSpec
from skep.model.service import Endpoint, Service, TaskTemplate
from skep.model.spec import EndpointSpec, ServiceSpec, TaskSpec
from skep.model.states import COMPLETE, RUNNING
from skep.model.task import Task, TaskStatus
from skep.runtime.errors import Invalid
from skep.store import codec
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service


def add_network(view: View, name: str, subnet: str, ingress: bool = False) -> Network:
    gateway = str(ipaddress.ip_network(subnet).network_address + 1)
    spec = NetworkSpec(name=name, driver=OVERLAY, ingress=ingress)
    pools = [IPAMConfig(subnet=subnet, gateway=gateway)]
    network = Network(id=f"id-{name}", spec=spec, created_at=0, updated_at=0, pools=pools)
    view.put_network(network)
    return network


def spec_of(name: str, *networks: str, ports: Sequence[PortConfig] = (), mode: str = "") -> ServiceSpec:
    attached = [NetworkAttachmentConfig(target=f"id-{network}") for network in networks]
    endpoint = EndpointSpec(mode=mode, ports=list(ports)) if ports or mode else None
    task = TaskSpec(container_spec=ContainerSpec(image="i"), networks=attached)
    return ServiceSpec(name=name, task_template=task, endpoint_spec=endpoint)


def put_service(view: View, name: str, *networks: str, ports: Sequence[PortConfig] = ()) -> Service:
    spec = spec_of(name, *networks, ports=ports)
    known = view.services.get(name)
    endpoint = endpoints.decide(view, name, spec, known.endpoint if known else None)
    template = TaskTemplate(version=1, spec=spec.task_template)
    service = Service(id=name, spec=spec, templates=[template], created_at=0, updated_at=0, endpoint=endpoint)
    view.put_service(service)
    return service


def task(name: str, service_id: str, node_id: str = "n1", slot: int = 1) -> Task:
    return Task(name, service_id, node_id, slot, 1, RUNNING, 0.0, 0.0)


def ingress_port(target: int, published: int = 0, protocol: str = "tcp") -> PortConfig:
    return PortConfig(target_port=target, published_port=published, protocol=protocol)


def ended(placed: Task) -> Task:
    return replace(placed, result=TaskStatus(COMPLETE, 1.0))


# Tasks


def test_a_task_gets_an_address_of_each_network_and_its_node_one_of_its_own() -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/24")
    add_network(view, "b", "10.0.2.0/24")
    put_service(view, "s", "a", "b")
    (placed, other), waiting = addresses.give(view, [task("t1", "s"), task("t2", "s", slot=2)])
    assert not waiting
    assert [(a.network_id, a.address, a.gateway) for a in placed.addresses] == [
        ("id-a", "10.0.1.4/24", "10.0.1.3/24"),  # .1 is the network's gateway, .2 the service's
        ("id-b", "10.0.2.4/24", "10.0.2.3/24"),
    ]
    assert [(a.address, a.gateway) for a in other.addresses] == [
        ("10.0.1.5/24", "10.0.1.3/24"),
        ("10.0.2.5/24", "10.0.2.3/24"),
    ]


def test_services_without_networks_are_left_as_they_are() -> None:
    view = View()
    add_service(view)
    tasks = [task("t1", "s")]
    assert addresses.give(view, tasks) == (tasks, ())


def test_a_full_network_lets_tasks_wait_and_says_so() -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/29")  # six addresses: gateway, service, node, three tasks
    put_service(view, "s", "a")
    placed, waiting = addresses.give(view, [task(f"t{n}", "s", slot=n) for n in range(1, 6)])
    assert [t.id for t in placed] == ["t1", "t2", "t3"]
    assert [t.id for t in waiting] == ["t4", "t5"]
    assert waiting[0].reason == (
        "network a has no free address: all 5 of 10.0.1.0/29 are in use. What helps: one with a larger subnet"
        " (docker network create --subnet)"
    )
    for each in placed:
        view.put_task(each)
    view.put_task(ended(placed[0]))
    again, still = addresses.give(view, [task("t4", "s", slot=4), task("t5", "s", slot=5)])
    assert [t.addresses[0].address for t in again] == [placed[0].addresses[0].address]
    assert [t.id for t in still] == ["t5"]


def test_a_task_that_gets_no_address_of_one_network_keeps_none_of_another() -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/24")
    add_network(view, "b", "10.0.2.0/30")  # one address beside the gateway: the service's
    put_service(view, "s", "a", "b")
    before = dict(view.allocations.books["id-a"].holders)
    placed, waiting = addresses.give(view, [task("t1", "s")])
    assert (placed, len(waiting)) == ([], 1)
    assert view.allocations.books["id-a"].holders == before


def test_addresses_survive_the_store_and_go_with_the_last_task_of_the_node() -> None:
    view = View()
    network = add_network(view, "a", "10.0.1.0/24")
    service = put_service(view, "s", "a")
    placed, _ = addresses.give(view, [task("t1", "s"), task("t2", "s", "n2", slot=2)])
    again = View()
    again.put_network(network)
    again.put_service(service)
    for each in placed:
        stored = codec.encode_bucket([each])
        (read,) = codec.decode_bucket(codec.bucket_key(each.node_id, "s"), stored, 7)
        assert read.addresses == each.addresses
        again.put_task(read)
    assert again.allocations.books["id-a"].holders == view.allocations.books["id-a"].holders
    for each in placed:
        again.drop_task(each)
    assert list(again.allocations.books["id-a"].holders.values()) == ["s"]


acts = st.lists(
    st.tuples(st.sampled_from(["give", "end", "drop"]), st.integers(0, 30), st.sampled_from(["n1", "n2"])),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(acts)
def test_no_address_is_given_twice_whatever_comes_and_goes(steps: list[tuple[str, int, str]]) -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/28")
    put_service(view, "s", "a")
    live: dict[str, Task] = {}
    for n, (act, pick, node_id) in enumerate(steps):
        if act == "give":
            placed, waiting = addresses.give(view, [task(f"t{n}", "s", node_id, slot=n + 1)])
            assert len(placed) + len(waiting) == 1
            for each in placed:
                view.put_task(each)
                live[each.id] = each
        elif live:
            each = live.pop(sorted(live)[pick % len(live)])
            view.put_task(ended(each))
            if act == "drop":
                view.drop_task(each)
        given_out = [t.addresses[0].address for t in live.values()]
        nodes = {t.node_id: t.addresses[0].gateway for t in live.values()}
        held = [*given_out, *nodes.values(), "10.0.1.2/28"]
        assert len(set(held)) == len(held)
        assert set(view.allocations.books["id-a"].holders) == set(held)
        assert len(waits_when_full(view)) == 0 or view.allocations.books["id-a"].free < 2


def waits_when_full(view: View) -> list[str]:
    probe = task("probe", "s", "n3", slot=99)
    placed, waiting = addresses.give(view, [probe])
    for each in placed:
        view.allocations.release(each.addresses[0], each)
    return [each.reason for each in waiting]


# Services


def test_a_service_has_a_virtual_address_on_each_network_the_meshs_first() -> None:
    view = View()
    add_network(view, "ingress", "10.0.0.0/24", ingress=True)
    add_network(view, "a", "10.0.1.0/24")
    service = put_service(view, "s", "a", ports=[ingress_port(80)])
    assert service.endpoint is not None
    assert [(v.network_id, v.addr) for v in service.endpoint.vips] == [
        ("id-ingress", "10.0.0.2/24"),
        ("id-a", "10.0.1.2/24"),
    ]
    assert [(p.published_port, p.protocol, p.publish_mode) for p in service.endpoint.ports] == [
        (30000, "tcp", "ingress")
    ]


def test_no_virtual_address_where_clients_are_to_find_the_tasks_themselves() -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/24")
    assert endpoints.decide(view, "s", spec_of("s", "a", mode="dnsrr"), None) is None


def test_what_a_service_has_it_keeps_and_what_it_no_longer_asks_for_is_free() -> None:
    view = View()
    add_network(view, "ingress", "10.0.0.0/24", ingress=True)
    add_network(view, "a", "10.0.1.0/24")
    before = put_service(view, "s", "a", ports=[ingress_port(80), ingress_port(90, 8090)]).endpoint
    assert before is not None
    after = put_service(view, "s", ports=[ingress_port(70), ingress_port(80)]).endpoint
    assert after is not None
    assert [p.published_port for p in after.ports] == [30001, 30000]
    assert [v.network_id for v in after.vips] == ["id-ingress"]
    assert after.vips[0] == before.vips[0]
    assert not view.allocations.books["id-a"].holders
    assert set(view.allocations.ports) == {("tcp", 30000), ("tcp", 30001)}


def test_ports_of_a_mesh_that_was_removed_are_kept_and_not_given() -> None:
    view = View()
    add_cluster(view)
    assert view.cluster is not None
    view.put_cluster(replace(view.cluster, has_had_ingress=True))
    spec = spec_of("s", ports=[ingress_port(80, 8080)])
    with pytest.raises(Invalid, match="no ingress network is present"):
        endpoints.decide(view, "s", spec, None)
    before = Endpoint(ports=[replace(ingress_port(80, 8080), publish_mode="ingress")])
    assert endpoints.decide(view, "s", spec, before) == before
    on_hosts = spec_of("s", ports=[replace(ingress_port(80, 8080), publish_mode="host")])
    assert endpoints.decide(view, "s", on_hosts, None) is not None


@pytest.mark.parametrize(
    ("theirs", "mine", "refused"),
    [
        (ingress_port(80, 8080), ingress_port(80, 8080), "as an ingress port"),
        (ingress_port(80), ingress_port(80, 30000), "as an ingress port"),
        (
            replace(ingress_port(80, 9000), publish_mode="host"),
            ingress_port(1, 9000),
            "as a host-published port",
        ),
        (ingress_port(80, 8080), replace(ingress_port(1, 8080), publish_mode="host"), "as an ingress port"),
        (
            replace(ingress_port(80, 9000), publish_mode="host"),
            replace(ingress_port(1, 9000), publish_mode="host"),
            "",
        ),
        (ingress_port(80, 8080), ingress_port(80, 8080, "udp"), ""),
    ],
)
def test_a_port_is_published_by_one_service_as_docker_says(
    theirs: PortConfig, mine: PortConfig, refused: str
) -> None:
    view = View()
    put_service(view, "w", ports=[theirs])
    if not refused:
        assert put_service(view, "x", ports=[mine]).endpoint is not None
        return
    number = mine.published_port
    with pytest.raises(Invalid, match=rf"port '{number}' is already in use by service 'w' \(w\) {refused}"):
        put_service(view, "x", ports=[mine])
    assert "x" not in str(view.allocations.ports)


def test_the_data_path_is_not_published() -> None:
    view = View()
    add_cluster(view)
    assert view.cluster is not None
    view.put_cluster(replace(view.cluster, data_path_port=30001))
    with pytest.raises(Invalid, match="port '30001/udp' is the swarm's own data path"):
        put_service(view, "x", ports=[ingress_port(80, 30001, "udp")])
    assert put_service(view, "tcp", ports=[ingress_port(80, 30001)]).endpoint is not None
    given = put_service(view, "y", ports=[ingress_port(80, 0, "udp"), ingress_port(81, 0, "udp")]).endpoint
    assert given is not None
    assert [port.published_port for port in given.ports] == [30000, 30003], (
        "nor is the port behind it, which encrypted networks have"
    )


def test_the_managers_own_port_is_not_published() -> None:
    view = View()
    add_network(view, "ingress", "10.0.0.0/24", ingress=True)
    node = add_node(view, "m")
    ports = [ingress_port(80, 2377)]
    had = endpoints.decide(view, "before", spec_of("before", ports=ports), None)
    view.allocations.settle("before", None)
    said = replace(node, manager_addr="10.0.0.7:2377", version=1)
    view.put_node(said)
    assert endpoints.decide(view, "s", spec_of("s", ports=ports), None), "a worker's word is nobody's port"
    view.allocations.settle("s", None)
    view.put_node(replace(said, spec=replace(node.spec, role="manager")))
    with pytest.raises(Invalid) as refused:
        endpoints.decide(view, "s", spec_of("s", ports=ports), None)
    assert str(refused.value).partition("desc = ")[2] == (
        "port '2377' is where the swarm's managers listen (host-m does): the routing mesh cannot publish it, as no"
        " node could become a manager then. Publish another one"
    )
    assert not view.allocations.ports
    # An earlier skep let a service have it, which may be changed; and UDP is another matter.
    for name, before, protocol in (("before", had, "tcp"), ("other", None, "udp")):
        asked = spec_of(name, ports=[ingress_port(80, 2377, protocol)])
        found = endpoints.decide(view, name, asked, before)
        assert found is not None
        assert [port.published_port for port in found.ports] == [2377]
    manager = replace(node.spec, role="manager")
    view.put_node(replace(node, spec=manager, manager_addr="[fd00::1]:30000", version=2))
    found = endpoints.decide(view, "s", spec_of("s", ports=[ingress_port(80)]), None)
    assert found is not None
    assert [port.published_port for port in found.ports] == [30001]


def test_a_rollback_goes_without_a_port_that_another_has_taken_meanwhile() -> None:
    view = View()
    put_service(view, "w", ports=[ingress_port(80, 8080)])
    spec = spec_of("x", ports=[ingress_port(80, 8080), ingress_port(81, 8081)])
    template = TaskTemplate(version=1, spec=spec.task_template)
    service = Service(id="x", spec=spec, templates=[template], created_at=0, updated_at=0)
    endpoint = endpoints.decide_what_can_be(view, service)
    assert endpoint is not None
    assert [p.published_port for p in endpoint.ports] == [8081]


def test_a_claim_that_was_not_written_is_free_again() -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/24")
    assert endpoints.decide(view, "s", spec_of("s", "a", ports=[ingress_port(80, 8080)]), None)
    view.allocations.settle("s", None)
    assert not view.allocations.ports
    assert not view.allocations.books["id-a"].holders


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from([0, 30000, 30001, 8080]), st.booleans()),
        max_size=20,
    )
)
def test_ingress_ports_and_virtual_addresses_are_never_given_twice(
    steps: list[tuple[str, int, bool]],
) -> None:
    view = View()
    add_network(view, "a", "10.0.1.0/29")
    for name, published, on_network in steps:
        known = view.services.get(name)
        before = known.endpoint if known is not None else None
        try:
            put_service(view, name, *(["a"] if on_network else []), ports=[ingress_port(80, published)])
        except Invalid:
            after = view.services.get(name)
            view.allocations.settle(name, after.endpoint if after is not None else None)
            assert (after.endpoint if after is not None else None) == before
        found = [s.endpoint or Endpoint() for s in view.services.values()]
        ports = [p.published_port for endpoint in found for p in endpoint.ports]
        vips = [v.addr for endpoint in found for v in endpoint.vips]
        assert len(set(ports)) == len(ports)
        assert len(set(vips)) == len(vips)
        assert {number for _, number in view.allocations.ports} == set(ports)
        assert set(view.allocations.books["id-a"].holders) == set(vips)
