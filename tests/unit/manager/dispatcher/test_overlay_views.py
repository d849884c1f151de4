"""Who is on an overlay network, and by which names."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from msgspec.structs import replace

from skep.manager.dispatcher.overlay_views import (
    networks_of_node,
    overlay_attachment,
    overlay_network,
    overlay_task,
    overlay_words,
)
from skep.model.container import NetworkAttachmentConfig
from skep.model.network import IPAMConfig, Network, NetworkSpec
from skep.model.node import NodeStatus
from skep.model.overlay import MTU, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.model.service import Endpoint, RemovedService, VirtualIP
from skep.model.spec import EndpointSpec
from skep.model.states import COMPLETE, RUNNING, SHUTDOWN, STARTING
from skep.model.task import TaskStatus
from skep.store.view import View
from tests.unit.overlays import NET, add_attachment, add_on_net, overlay_view


def overlay_service(
    view: View, service_id: str, network_id: str, deaf: Collection[str] = ()
) -> OverlayService | None:
    """Returns the service with all its tasks."""
    told = (overlay_task(view, each, network_id, deaf) for each in view.tasks_of_service(service_id))
    endpoints = tuple(each for each in told if each is not None)
    return replace(overlay_words(view, service_id, network_id), endpoints=endpoints) if endpoints else None


def test_a_network_is_told_with_what_a_tunnel_needs() -> None:
    view = overlay_view()
    assert overlay_network(view, "net") == OverlayNetwork("net", "10.0.9.0/24", 4098, 4789, "name-net", MTU)
    assert view.cluster is not None
    view.put_cluster(replace(view.cluster, data_path_port=7789))
    view.put_network(
        replace(NET, spec=replace(NET.spec, options={"com.docker.network.driver.mtu": "8900"}), version=1)
    )
    told = overlay_network(view, "net")
    assert told is not None
    assert (told.data_port, told.mtu) == (7789, 8900)


@pytest.mark.parametrize("mtu", ["", "none", "-1", "67", "65536", "1" * 100])
def test_an_mtu_that_is_none_is_that_of_a_tunnel(mtu: str) -> None:
    view = overlay_view()
    spec = replace(NET.spec, options={"com.docker.network.driver.mtu": mtu})
    view.put_network(replace(NET, spec=spec, version=1))
    told = overlay_network(view, "net")
    assert told is not None
    assert told.mtu == MTU


@pytest.mark.parametrize(
    "other",
    [
        replace(NET, options={}),
        replace(NET, pools=[]),
        replace(NET, pools=[IPAMConfig(subnet="fd00::/64")]),
        replace(NET, spec=NetworkSpec(name="n", driver="bridge")),
        replace(NET, spec=NetworkSpec(name="n", driver="overlay", ingress=True)),
    ],
    ids=["no VNI", "no subnet", "IPv6", "of one host", "the mesh's"],
)
def test_a_network_that_is_not_across_hosts_by_itself_is_not_told(other: Network) -> None:
    view = overlay_view()
    view.put_network(replace(other, version=1))
    assert overlay_network(view, "net") is None
    assert overlay_network(view, "unknown") is None


def test_a_task_is_told_of_until_it_ends_and_takes_new_connections_while_it_runs() -> None:
    view = overlay_view("a", "b")
    for slot, state in enumerate((None, STARTING, RUNNING, COMPLETE), 1):
        add_on_net(view, f"t{slot}", "a", slot, observed=state)
    view.put_task(replace(add_on_net(view, "t9", "b", 9), desired_state=SHUTDOWN))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert (told.id, told.name) == ("s", "name-s")
    assert set(told.endpoints) == {
        OverlayEndpoint("10.0.9.101", "a", "name-s.1.t1", False),
        OverlayEndpoint("10.0.9.102", "a", "name-s.2.t2", False),
        OverlayEndpoint("10.0.9.103", "a", "name-s.3.t3", True),
        OverlayEndpoint("10.0.9.109", "b", "name-s.9.t9", False),
    }
    assert overlay_service(view, "s", "other") is None
    assert networks_of_node(view, "a") == {"net"}


def test_who_reaches_a_node_that_is_down_still_does_but_its_tasks_get_nothing_new() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    view.put_node_status("a", NodeStatus("down"))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert [(each.address, each.takes_new) for each in told.endpoints] == [("10.0.9.101", False)]
    view.drop_node("a")
    assert overlay_service(view, "s", "net") is None


def test_nobody_hears_of_tasks_on_a_node_that_knows_no_overlays() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    told = overlay_service(view, "s", "net", {"a"})
    assert told is not None
    assert [each.node_id for each in told.endpoints] == ["b"]


def test_aliases_and_the_services_own_address_are_those_of_this_network() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    service = view.services["s"]
    attached = [
        NetworkAttachmentConfig(target="other", aliases=["x"]),
        NetworkAttachmentConfig(target="net", aliases=["web", "www", "web"]),
    ]
    spec = replace(service.spec, task_template=replace(service.spec.task_template, networks=attached))
    vips = [
        VirtualIP(network_id="other", addr="10.0.8.2/24"),
        VirtualIP(network_id="net", addr="10.0.9.2/24"),
    ]
    view.put_service(replace(service, spec=spec, endpoint=Endpoint(vips=vips), version=1))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert (told.aliases, told.vip) == (("web", "www"), "10.0.9.2")
    spec = replace(spec, endpoint_spec=EndpointSpec(mode="dnsrr"))
    view.put_service(replace(service, spec=spec, endpoint=Endpoint(vips=vips), version=2))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert told.vip == ""


def test_a_services_own_networks_have_aliases_where_its_tasks_name_none() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    attached = [NetworkAttachmentConfig(target="net", aliases=["web"])]
    service = view.services["s"]
    view.put_service(replace(service, spec=replace(service.spec, networks=attached), version=1))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert told.aliases == ("web",)


def test_tasks_of_a_service_that_is_removed_take_nothing_new_and_keep_their_names() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    service = view.services["s"]
    view.remove_service(RemovedService(id="s", name="name-s", removed_at=0.0, templates=service.templates))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert [(each.name, each.takes_new) for each in told.endpoints] == [("name-s.1.t1", False)]


def test_tasks_of_a_service_that_cannot_be_read_are_reached_by_address() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    del view.services["s"]
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert (told.name, [(each.address, each.name) for each in told.endpoints]) == ("", [("10.0.9.101", "")])


def test_a_global_services_task_is_named_by_its_node() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 0)
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert told.endpoints[0].name == "name-s.a.t1"


def test_a_new_leader_takes_tasks_for_running_until_it_has_heard_of_them() -> None:
    view = overlay_view("a")
    view.put_node_status("a", NodeStatus("unknown"))
    task = add_on_net(view, "t1", "a", 1, observed=None)
    view.led_since = task.updated_at + 1
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert told.endpoints[0].takes_new
    view.put_status(task, TaskStatus(STARTING, 2.0))
    told = overlay_service(view, "s", "net")
    assert told is not None
    assert not told.endpoints[0].takes_new


def test_a_single_container_has_an_address_and_no_name() -> None:
    view = overlay_view("a")
    attachment = add_attachment(view, "c", "a", "10.0.9.7/24")
    assert overlay_attachment(view, attachment) == OverlayService(
        "c", endpoints=(OverlayEndpoint("10.0.9.7", "a"),)
    )
    assert networks_of_node(view, "a") == {"net"}
    assert overlay_attachment(view, attachment, {"a"}) is None
    view.drop_attachment(attachment)
    assert overlay_attachment(view, attachment) is None
    assert networks_of_node(view, "a") == set()


def test_an_ended_task_keeps_no_node_on_a_network() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1, observed=COMPLETE)
    assert networks_of_node(view, "a") == set()


def test_what_is_in_no_view_is_on_no_network() -> None:
    view = View()
    assert overlay_service(view, "s", "net") is None
    assert networks_of_node(view, "a") == set()
