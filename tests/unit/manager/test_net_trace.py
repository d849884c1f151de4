"""The ways of connections, in sentences."""

from __future__ import annotations

from msgspec.structs import replace

from skep.manager.net_inspect import inspect_net
from skep.manager.net_trace import TASKS_MAX, trace
from skep.model.container import NetworkAttachmentConfig, PortConfig
from skep.model.mesh import not_published
from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec
from skep.model.service import Endpoint, VirtualIP
from skep.model.states import SHUTDOWN, STARTING
from skep.store.view import View
from tests.unit.overlays import add_attachment, add_on_net, overlay_view

PUBLISHED = PortConfig(protocol="tcp", target_port=80, published_port=8080, publish_mode="ingress")
MESH = Network(
    id="mesh",
    spec=NetworkSpec(name="ingress", driver="overlay", ingress=True),
    created_at=0,
    updated_at=0,
    pools=[IPAMConfig(subnet="10.0.0.0/24", gateway="10.0.0.1")],
    options={VXLAN_OPTION: "4096"},
)


def swarm(*ports: PortConfig, vip: str = "10.0.9.50/24") -> View:
    """Returns a view of three nodes, and the service with a task on two of them, on both networks."""
    view = overlay_view("n1", "n2", "n3")
    view.put_network(MESH)
    for number, node_id in enumerate(("n1", "n2"), 1):
        add_on_net(view, f"t{number}", node_id, number, networks=("net", "mesh"))
    service = view.services["s"]
    attached = replace(service.spec.task_template, networks=[NetworkAttachmentConfig(target="net")])
    spec = replace(service.spec, task_template=attached)
    vips = [VirtualIP(network_id="net", addr=vip)] if vip else []
    view.put_service(replace(service, spec=spec, endpoint=Endpoint(ports=list(ports), vips=vips)))
    return view


def from_node(view: View, node_id: str, port: int = 8080, protocol: str = "tcp") -> list[str]:
    return trace(view, view.services["s"], port, protocol, view.nodes[node_id]).hops


def from_task(view: View, task_id: str, port: int = 80) -> list[str]:
    return trace(view, view.services["s"], port, "tcp", view.tasks[task_id]).hops


def test_a_published_port_leads_to_all_tasks_the_nodes_own_first() -> None:
    head, own, other = from_node(swarm(PUBLISHED), "n2")
    assert head == (
        "host-n2's kernel (nft list table ip skep) has the port, keeps the client's address, and leads to one of"
        " 2 tasks, in turn:"
    )
    assert own == "  name-s.2, 10.0.0.102 port 80, on the same node, by bridge skb4096."
    assert other == (
        "  name-s.1, 10.0.0.101 port 80, on host-n1: by tunnel skv4096 to 192.0.2.1, UDP port 4789, from there by"
        " bridge skb4096."
    )


def test_it_says_to_whom_nothing_is_led_and_why() -> None:
    view = swarm(PUBLISHED)
    add_on_net(view, "t3", "n3", 3, observed=STARTING, networks=("net", "mesh"))
    view.put_task(replace(view.tasks["t1"], desired_state=SHUTDOWN))
    view.put_node_status("n2", replace(view.node_state("n2"), state="down"))
    refusal, *others = from_node(view, "n3")
    assert refusal.endswith("refuses at once: no task of name-s takes connections.")
    assert others == [
        "Nothing is led to name-s.1: it is to stop; what is open goes on.",
        "Nothing is led to name-s.2: its node host-n2 is down.",
        "Nothing is led to name-s.3: it is starting, and has to run first, and healthy where it has a health check.",
    ]
    assert from_node(view, "n2") == ["host-n2 is down: nobody there answers."]


def test_a_port_that_is_not_published_is_told_from_one_that_is() -> None:
    view = swarm(PUBLISHED)
    assert from_node(view, "n1", 80) == [
        "Port 80 is where name-s's containers listen; it is published as 8080."
    ]
    (said,) = from_node(view, "n1", 8080, "udp")
    assert said == "Service name-s does not publish port 8080/udp; it publishes 8080 (inside 80/tcp)."
    assert from_node(swarm(), "n1") == ["Service name-s does not publish port 8080/tcp; it publishes none."]


def test_what_the_node_says_is_there() -> None:
    view = swarm(PUBLISHED)
    own, others = not_published(8080, "tcp", "name-s"), not_published(8080, "tcp", "web")
    view.put_node_status("n1", replace(view.node_state("n1"), mesh=(own, others)))
    told = trace(view, view.services["s"], 8080, "tcp", view.nodes["n1"])
    assert told.begin == "A client connects to host-n1 (192.0.2.1), port 8080/tcp."
    assert told.troubles == [f"host-n1 says: {own}."]
    assert inspect_net(view, view.nodes["n1"]).says == [own, others]


def test_in_host_mode_the_node_itself_answers() -> None:
    view = swarm(replace(PUBLISHED, publish_mode="host"))
    assert from_node(view, "n1")[1] == "name-s.1 runs there: the engine leads to its port 80."
    assert from_node(view, "n3")[1] == "No task of name-s runs on host-n3: nothing answers."


def test_from_a_task_by_the_services_own_address() -> None:
    view = swarm(PUBLISHED)
    name, head, own, other = from_task(view, "t1")
    assert name.startswith("On network name-net it is 10.0.9.101, and asks for the name at")
    assert head == (
        "The name leads to the service's own address 10.0.9.50, which host-n1's kernel has, and leads to one of 2"
        " tasks, in turn:"
    )
    assert own.startswith("  name-s.1, 10.0.9.101 port 80, on the same node")
    assert "by tunnel skv4098 to 192.0.2.2" in other
    assert from_task(view, "t1", 8080)[0].startswith("Port 8080 is the one for clients outside")
    assert from_task(swarm(vip=""), "t1")[1].startswith("The name leads to the tasks' addresses")


def test_from_a_task_of_another_network() -> None:
    view = swarm(PUBLISHED)
    lone = add_on_net(view, "t9", "n3", 9, networks=("other",))
    assert from_task(view, lone.id) == [
        "They have no network across hosts in common: name-s.9 is on name-other, name-s on name-net. The name name-s"
        " is not known to it; it publishes 8080 (inside 80/tcp)."
    ]


def test_many_tasks_are_counted() -> None:
    view = swarm(PUBLISHED)
    for slot in range(3, 43):
        add_on_net(view, f"t{slot}", "n3", slot, networks=("mesh",))
    hops = from_node(view, "n1")
    assert "one of 42 tasks" in hops[0]
    assert len(hops) == 1 + TASKS_MAX + 1
    assert hops[-1] == "  and 32 more."


def test_what_a_node_has() -> None:
    view = swarm(PUBLISHED)
    view.put_attachment(replace(add_attachment(view, "a1", "n1", "10.0.9.77/24"), names=("lone",)))
    found = inspect_net(view, view.nodes["n1"])
    assert (found.node, found.state, found.tunnels_end_at) == ("host-n1", "ready", "192.0.2.1")
    mesh, net = found.networks
    assert (mesh.name, mesh.bridge, mesh.here) == ("ingress", "skb4096", {"name-s.1 (t1)": "10.0.0.101/24"})
    assert net.here == {"name-s.1 (t1)": "10.0.9.101/24", "container lone": "10.0.9.77/24"}
    assert [(p.port, p.service, p.target, p.running) for p in found.ports] == [("8080/tcp", "name-s", 80, 2)]
    assert [each.name for each in inspect_net(view, view.nodes["n3"]).networks] == ["ingress"]
