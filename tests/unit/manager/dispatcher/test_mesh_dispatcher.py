"""Who is told what of the routing mesh, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from skep.agent.mesh_known import KnownMesh
from skep.manager.dispatcher import batches, mesh_services, mesh_whole
from skep.manager.dispatcher.assignments import task_network
from skep.manager.dispatcher.batches import BATCH_S
from skep.manager.dispatcher.mesh import mesh_network, mesh_service
from skep.manager.dispatcher.networks import MeshDispatcher
from skep.manager.dispatcher.observer import NodeObserver
from skep.manager.dispatcher.sessions import Sessions
from skep.manager.dispatcher.told_frames import SERVICES_MAX_BYTES, mesh_parts
from skep.model.container import PortConfig
from skep.model.mesh import ENDPOINTS_MAX, Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec
from skep.model.node import NodeDescription, NodeStatus
from skep.model.overlay import OverlayNetwork
from skep.model.service import Endpoint, Service
from skep.model.states import COMPLETE, FAILED, RUNNING, SHUTDOWN, STARTING
from skep.model.task import Task, TaskAddress, TaskStatus
from skep.rpc import messages
from skep.rpc.interfaces import Identity
from skep.rpc.messages import MESH, MESH_CHANGES, MeshApplied, MeshTold, Register
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service, add_task
from tests.unit.virtual_time import spend

INGRESS = Network(
    id="net",
    spec=NetworkSpec(name="ingress", driver="overlay", ingress=True),
    created_at=0,
    updated_at=0,
    pools=[IPAMConfig(subnet="10.0.0.0/16", gateway="10.0.0.1")],
    options={VXLAN_OPTION: "4097"},
)
PORT = PortConfig(protocol="tcp", target_port=80, published_port=8080, publish_mode="ingress")


def _view(*nodes: str) -> View:
    view = View()
    add_cluster(view)
    view.put_network(INGRESS)
    for number, node_id in enumerate(nodes, 1):
        add_node(view, node_id, addr=f"192.0.2.{number}")
    return view


def _published(view: View, service_id: str = "s") -> Service:
    service = replace(add_service(view, service_id, ports=[PORT]), endpoint=Endpoint(ports=[PORT]), version=1)
    view.put_service(service)
    return service


def _task(view: View, task_id: str, node_id: str, slot: int, observed: int | None = RUNNING) -> Task:
    task = add_task(view, task_id, node_id, slot, observed=observed)
    addressed = replace(task, addresses=(TaskAddress("net", f"10.0.1.{slot}/16", "10.0.0.9/16"),))
    view.put_task(addressed)
    return addressed


class Line:
    local_host = "192.0.2.99"

    def __init__(self, node_id: str, remote_host: str) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")
        self.remote_host = remote_host
        self.sent: list[MeshTold] = []
        self.known = KnownMesh()

    @property
    def mesh(self) -> Mesh:
        return self.known.mesh

    def send(self, frame: bytes) -> None:
        said = messages.decode_from_manager(frame)
        if isinstance(said, MeshTold):
            self.sent.append(said)
            self.known.told(said, keeps_returns=True)

    def close(self) -> None: ...


class Swarm:
    """A dispatcher whose nodes have said that they know the mesh."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.failed: dict[str, list[str]] = {}
        self.sessions = Sessions(view, [], NodeObserver())
        self.mesh = MeshDispatcher(view, self.sessions, self.failed.__setitem__)
        self.sessions.on(Register, self.mesh.began)
        self.sessions.on(MeshApplied, self.mesh.applied, MESH)
        self.mesh.begin()
        self.lines: dict[str, Line] = {}

    def come(self, node_id: str, *features: str, data_addr: str = "", known: KnownMesh | None = None) -> Line:
        """A session begins, of an agent that knows from before what it knows."""
        line = self.lines[node_id] = Line(node_id, self.view.nodes[node_id].addr)
        line.known = known or line.known
        said = Register(NodeDescription(hostname="h"), "", list(features or (MESH,)), data_addr=data_addr)
        said = replace(said, mesh_parts=line.known.parts)
        self.sessions.open(line).frame(messages.encode(said))
        return line

    async def settle(self) -> None:
        await asyncio.sleep(2 * BATCH_S)


def test_a_task_is_in_the_mesh_while_it_runs() -> None:
    view = _view("a", "b")
    _published(view)
    for slot, state in enumerate((None, STARTING, RUNNING, COMPLETE, FAILED), 1):
        _task(view, f"t{slot}", "a", slot, observed=state)
    leaving = replace(_task(view, "t9", "b", 9), desired_state=SHUTDOWN)
    view.put_task(leaving)
    told = mesh_service(view, "s", "net")
    assert told is not None
    assert (told.name, told.ports) == ("name-s", (MeshPort("tcp", 8080, 80),))
    assert set(told.endpoints) == {
        MeshEndpoint("10.0.1.1", "a", False),  # its node must know the ways back when it begins to serve
        MeshEndpoint("10.0.1.2", "a", False),
        MeshEndpoint("10.0.1.3", "a"),
        MeshEndpoint("10.0.1.9", "b", False),
    }


def test_tasks_of_a_node_that_is_down_are_not() -> None:
    view = _view("a")
    _published(view)
    _task(view, "t1", "a", 1)
    view.put_node_status("a", NodeStatus("down"))
    told = mesh_service(view, "s", "net")
    assert told is not None
    assert told.endpoints == ()


def test_a_new_leader_takes_tasks_for_running_until_it_has_heard_of_them() -> None:
    view = _view("a")
    view.put_node_status("a", NodeStatus("unknown"))
    _published(view)
    task = _task(view, "t1", "a", 1, observed=None)
    view.led_since = task.updated_at + 1
    told = mesh_service(view, "s", "net")
    assert told is not None
    assert len(told.endpoints) == 1
    view.put_status(task, TaskStatus(STARTING, 2.0))
    told = mesh_service(view, "s", "net")
    assert told is not None
    assert [each.takes_new for each in told.endpoints] == [False]


def test_a_service_without_ports_of_the_mesh_is_nobodys_matter() -> None:
    view = _view("a")
    add_service(view)
    add_task(view, "t1", "a", 1, observed=RUNNING)
    assert mesh_service(view, "s", "net") is None


def test_of_very_many_tasks_some_are_told_from_all_of_them() -> None:
    view = _view("a")
    _published(view)
    for slot in range(1, ENDPOINTS_MAX * 2 + 1):
        task = add_task(view, f"t{slot}", "a", slot, observed=RUNNING)
        address = f"10.0.{slot >> 8}.{slot & 255}/16"
        view.put_task(replace(task, addresses=(TaskAddress("net", address, "10.0.0.9/16"),)))
    told = mesh_service(view, "s", "net")
    assert told is not None
    assert len(set(told.endpoints)) == ENDPOINTS_MAX
    slots = [int(e.address.split(".")[2]) << 8 | int(e.address.split(".")[3]) for e in told.endpoints]
    halves = sum(slot <= ENDPOINTS_MAX for slot in slots)
    assert abs(halves - ENDPOINTS_MAX / 2) < 150, "of all of them"
    left = next(
        each for each in view.tasks_of_service("s") if each.addresses[0].address.startswith("10.0.3.7/")
    )
    view.put_task(replace(left, desired_state=SHUTDOWN))
    after = mesh_service(view, "s", "net")
    assert after is not None
    assert len(set(after.endpoints) ^ set(told.endpoints)) <= 2, "the others are the same"


def test_the_network_is_the_swarms_and_its_bridge_the_same_everywhere() -> None:
    view = _view()
    assert mesh_network(view) == OverlayNetwork("net", "10.0.0.0/16", 4097, 4789)
    assert task_network(INGRESS, [], {}).bridge == "skb4097"
    plain = replace(INGRESS, spec=NetworkSpec(name="net", driver="overlay"))
    assert task_network(plain, [], {}).bridge == "skb4097", "each overlay has its own"
    assert task_network(replace(plain, options={}), [], {}).bridge == "", "as a host has it by itself"
    view.drop_network("net")
    assert mesh_network(view) is None


async def test_every_node_hears_of_every_service() -> None:
    view = _view("a", "b", "c")
    swarm = Swarm(view)
    for node_id in view.nodes:
        swarm.come(node_id)
    assert {len(line.sent) for line in swarm.lines.values()} == {1}
    assert all(
        line.mesh == Mesh(swarm.lines["a"].mesh.network, {n: view.nodes[n].addr})
        for n, line in swarm.lines.items()
    )
    _published(view)
    swarm.mesh.service_changed("s")
    task = _task(view, "t1", "b", 1)
    swarm.mesh.reported(task, TaskStatus(RUNNING, 1.0))
    await swarm.settle()
    for node_id, line in swarm.lines.items():
        assert [e.address for e in line.mesh.services["s"].endpoints] == ["10.0.1.1"], node_id
    assert set(swarm.lines["a"].mesh.nodes) == {"a", "b"}
    assert set(swarm.lines["b"].mesh.nodes) == {"a", "b", "c"}  # connections come by any


async def test_every_node_hears_what_leads_ports_on() -> None:
    view = _view("a", "b")
    _published(view)
    _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    line = swarm.come("a")
    for data_path in ("ipvs", "nftables", "ipvs"):
        assert view.cluster is not None
        view.put_cluster(replace(view.cluster, data_path=data_path))
        swarm.mesh.cluster_changed()
        await swarm.settle()
        assert line.mesh.data_path == data_path
        assert len(line.mesh.services) == 1
    told = len(line.sent)
    swarm.mesh.cluster_changed()
    await swarm.settle()
    assert len(line.sent) == told, "that is no news"
    assert swarm.come("b").mesh.data_path == "ipvs"


async def test_a_node_that_comes_later_is_told_all_and_known_to_those_with_tasks() -> None:
    view = _view("a", "b", "c")
    _published(view)
    _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    swarm.come("a")
    late = swarm.come("c", data_addr="198.51.100.7")
    assert late.mesh.nodes == {"a": "192.0.2.1", "c": "198.51.100.7"}
    assert len(late.mesh.services["s"].endpoints) == 1
    await swarm.settle()
    assert swarm.lines["a"].mesh.nodes["c"] == "198.51.100.7"
    view.drop_node("c")
    swarm.mesh.node_removed("c")
    await swarm.settle()
    assert "c" not in swarm.lines["a"].mesh.nodes


async def test_a_new_leader_makes_what_it_tells_once_and_nodes_that_stayed_are_no_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All nodes come within seconds: else each would be told all anew, and those with tasks of all others."""
    made: list[MeshTold] = []

    def counted(told: MeshTold) -> Iterator[MeshTold]:
        made.append(told)
        return mesh_parts(told)

    view = _view("a", "b", "c", "d")
    _published(view)
    task = _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    monkeypatch.setattr(mesh_whole, "mesh_parts", counted)
    for node_id in view.nodes:
        swarm.come(node_id)
    await swarm.settle()
    assert len([told for told in made if told.complete]) == 1
    host = swarm.lines["a"]
    assert host.mesh.nodes == {node_id: node.addr for node_id, node in view.nodes.items()}
    assert len(host.sent) == 3, "all, its own address, and where the others are"
    assert [told.more for told in swarm.lines["d"].sent] == [True, False]
    assert swarm.lines["d"].mesh.nodes == {"a": "192.0.2.1", "d": "192.0.2.4"}
    view.drop_task(task)
    swarm.mesh.publish({"a": ([], [task])})
    await swarm.settle()
    assert swarm.come("b").mesh.services["s"].endpoints == ()


async def test_that_a_task_is_to_end_is_told_before_it_is() -> None:
    view = _view("a", "b")
    _published(view)
    task = _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    line = swarm.come("b")
    leaving = replace(task, desired_state=SHUTDOWN)
    view.put_task(leaving)
    swarm.mesh.publish({"a": ([leaving], [])})
    assert [e.takes_new for e in line.mesh.services["s"].endpoints] == [False]


async def test_nothing_is_told_of_services_without_ports() -> None:
    view = _view("a")
    add_service(view)
    task = add_task(view, "t1", "a", 1, observed=RUNNING)
    swarm = Swarm(view)
    line = swarm.come("a")
    swarm.mesh.publish({"a": ([task], [])})
    swarm.mesh.reported(task, TaskStatus(RUNNING, 1.0))
    swarm.mesh.service_changed("s")
    await swarm.settle()
    assert len(line.sent) == 1


async def test_an_earlier_node_hears_nothing_of_it() -> None:
    view = _view("a")
    _published(view)
    _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    line = swarm.come("a", "logs")
    swarm.mesh.service_changed("s")
    await swarm.settle()
    assert line.sent == []


async def test_nobody_is_led_to_tasks_of_a_node_that_knows_no_mesh() -> None:
    """All nodes are upgraded one after the other: connections to such tasks would get no answer."""
    view = _view("a", "b")
    _published(view)
    _task(view, "t1", "a", 1)
    _task(view, "t2", "b", 2)
    swarm = Swarm(view)
    line = swarm.come("a")
    assert [each.node_id for each in line.mesh.services["s"].endpoints] == ["a", "b"], "not heard yet"
    swarm.come("b", "logs")
    await swarm.settle()
    assert [each.node_id for each in line.mesh.services["s"].endpoints] == ["a"]
    swarm.come("b")
    await swarm.settle()
    assert [each.node_id for each in line.mesh.services["s"].endpoints] == ["a", "b"]


def test_the_data_path_is_no_port_of_the_mesh() -> None:
    view = _view("a")
    data_path = replace(PORT, protocol="udp", published_port=4789)  # as an earlier skep let have it
    view.put_service(replace(_published(view), endpoint=Endpoint(ports=[PORT, data_path])))
    _task(view, "t1", "a", 1)
    service = mesh_service(view, "s", "net")
    assert service is not None
    assert service.ports == (MeshPort("tcp", 8080, 80),)


async def test_of_a_service_is_told_what_has_changed() -> None:
    """Of thousands of tasks each one that comes or goes is some bytes to each node; an earlier agent takes
    each service whole."""
    view = _view("a", "b", "c")
    _published(view)
    tasks = [_task(view, f"t{slot}", "a", slot) for slot in range(1, 201)]
    swarm = Swarm(view)
    now, earlier = swarm.come("b", MESH, MESH_CHANGES), swarm.come("c", MESH)
    for task in tasks[:2]:
        view.put_status(task, TaskStatus(FAILED, 2.0))
        swarm.mesh.reported(task, TaskStatus(FAILED, 2.0))
    view.put_task(replace(tasks[5], desired_state=SHUTDOWN))
    swarm.mesh.publish({"a": ([view.tasks[tasks[5].id]], [])})
    await swarm.settle()
    (said,) = [service for told in now.sent[1:] for service in told.services]
    assert [(e.address, e.takes_new) for e in said.endpoints] == [("10.0.1.6", False)]
    assert set(said.gone or ()) == {"10.0.1.1", "10.0.1.2"}
    assert [service.gone for told in earlier.sent for service in told.services] == [None, None]
    assert _alike(now.mesh) == _alike(earlier.mesh)
    assert len(now.mesh.services["s"].endpoints) == 198


def _alike(mesh: Mesh) -> dict[str, MeshService]:
    """Returns the services with their tasks in one order."""
    return {i: replace(s, endpoints=tuple(sorted(s.endpoints, key=str))) for i, s in mesh.services.items()}


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_comes_when_knows_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that heard everything, that came in between, and that take no changes; now and then telling fails."""
    monkeypatch.setattr(batches, "AGAIN_S", 0.0)
    rng = random.Random(seed)
    view = _view("a", "b", "c", "d", "e")
    _published(view)
    swarm = Swarm(view)
    lines = [swarm.come("a", MESH, MESH_CHANGES), swarm.come("b", MESH)]
    here: dict[int, Task] = {}
    send = swarm.sessions.broadcast_frame
    for step in range(60):
        slot = rng.randrange(1, 40)
        if slot in here and rng.random() < 0.5:
            task = here.pop(slot)
            view.drop_task(task)
            swarm.mesh.publish({"a": ([], [task])})
        elif slot not in here:
            task = here[slot] = _task(view, f"t{slot}-{step}", "a", slot)
            swarm.mesh.publish({"a": ([task], [])})
        if step in (20, 40):
            lines.append(swarm.come("c" if step == 20 else "d", MESH, MESH_CHANGES))
        fails = rng.random() < 0.15
        monkeypatch.setattr(swarm.sessions, "broadcast_frame", _fails if fails else send)
        if rng.random() < 0.5:
            await asyncio.sleep(0)
            swarm.mesh._batches._not_before = 0.0
            swarm.mesh._batches._flush()
    monkeypatch.setattr(swarm.sessions, "broadcast_frame", send)
    swarm.mesh._batches._not_before = 0.0
    swarm.mesh._batches._flush()
    lines.append(swarm.come("e", MESH, MESH_CHANGES))
    assert len(_alike(lines[-1].mesh)["s"].endpoints) == len(here)
    assert all(_alike(line.mesh) == _alike(lines[-1].mesh) for line in lines)


def _fails(frame: bytes, feature: str, without: str | None = None) -> int:
    raise RuntimeError


async def test_a_service_that_is_gone_is_gone() -> None:
    view = _view("a")
    _published(view)
    task = _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    line = swarm.come("a")
    view.drop_task(task)
    view.put_service(replace(view.services["s"], endpoint=None, version=2))
    swarm.mesh.service_changed("s")
    await swarm.settle()
    assert line.mesh.services == {}


async def test_one_service_that_cannot_be_told_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    view = _view("a")
    _published(view)
    other = replace(PORT, published_port=8081)
    made = replace(add_service(view, "s2", ports=[other]), endpoint=Endpoint(ports=[other]), version=1)
    view.put_service(made)
    broken = view.demand

    def demand(service_id: str, version: int) -> object:
        if service_id == "s":
            raise RuntimeError
        return broken(service_id, version)

    _task(view, "t1", "a", 1)
    monkeypatch.setattr(view, "demand", demand)
    swarm = Swarm(view)
    assert list(swarm.come("a").mesh.services) == ["s2"]


async def test_what_a_node_cannot_do_is_kept_until_it_says_otherwise() -> None:
    view = _view("a")
    swarm = Swarm(view)
    line = swarm.come("a")
    swarm.sessions.received(line, "a", messages.encode(MeshApplied(["port 80 is taken"])))
    assert swarm.failed == {"a": ["port 80 is taken"]}
    swarm.come("a")
    assert swarm.failed == {"a": []}


async def test_what_cannot_be_told_keeps_no_task_from_its_node_and_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "AGAIN_S", 0.1)
    view = _view("a", "b")
    _published(view)
    swarm = Swarm(view)
    line = swarm.come("a")
    send = swarm.sessions.broadcast_frame

    def broken(frame: bytes, feature: str, without: str | None = None) -> int:
        monkeypatch.setattr(swarm.sessions, "broadcast_frame", send)
        raise RuntimeError

    monkeypatch.setattr(swarm.sessions, "broadcast_frame", broken)
    leaving = replace(_task(view, "t1", "b", 1), desired_state=SHUTDOWN)
    view.put_task(leaving)
    swarm.mesh.publish({"a": ([leaving], [])})
    assert line.mesh.services["s"].endpoints == ()
    await asyncio.sleep(0.2)
    assert len(line.mesh.services["s"].endpoints) == 1
    assert "b" in line.mesh.nodes
    monkeypatch.setattr(swarm.mesh._services, "concerns", None)
    swarm.mesh.publish({"a": ([leaving], [])})


def test_a_message_has_no_more_than_a_line_takes() -> None:
    endpoints = tuple(MeshEndpoint(f"10.100.{n >> 8}.{n & 255}", f"{n:025}") for n in range(ENDPOINTS_MAX))
    ports = tuple(MeshPort("tcp", port, 8080) for port in range(10_000, 10_100))
    services = [MeshService(f"{n:025}", '"' * 63, ports, endpoints) for n in range(130)]
    whole = MeshTold(True, None, [("a", "192.0.2.1")], services=services, gone_services=["s"])
    cut = list(mesh_parts(whole))
    assert max(len(messages.encode(each)) for each in cut) <= SERVICES_MAX_BYTES + 1000
    assert [each.more for each in cut] == [True] * (len(cut) - 1) + [False]
    assert [service for each in cut for service in each.services] == services
    assert replace(cut[0], services=services, more=False) == whole
    assert list(mesh_parts(MeshTold(gone_nodes=["a"]))) == [MeshTold(gone_nodes=["a"])]


async def test_while_nobody_listens_nothing_is_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    view = _view("a", "b")
    _published(view)
    task = _task(view, "t1", "b", 1)
    made: list[str] = []

    def counted(view: View, service_id: str, network_id: str, deaf: set[str]) -> MeshService | None:
        made.append(service_id)
        return mesh_service(view, service_id, network_id, deaf)

    monkeypatch.setattr(mesh_services, "mesh_service", counted)
    swarm = Swarm(view)
    swarm.come("a", "logs")
    swarm.mesh.reported(task, TaskStatus(RUNNING, 1.0))
    await swarm.settle()
    assert made == []
    line = swarm.come("b")
    assert len(line.mesh.services["s"].endpoints) == 1
    assert made == ["s"]


async def test_a_service_of_many_tasks_takes_a_part_of_the_managers_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = _view("a")
    _published(view)
    task = _task(view, "t1", "a", 1)
    swarm = Swarm(view)
    swarm.come("a")
    made: list[None] = []

    def slow(view: View, service_id: str, network_id: str, deaf: set[str]) -> MeshService:
        spend(0.05)
        made.append(None)
        return MeshService(service_id, f"{len(made)}", ())

    monkeypatch.setattr(mesh_services, "mesh_service", slow)
    for _ in range(60):
        swarm.mesh.reported(task, TaskStatus(RUNNING, 1.0))
        await asyncio.sleep(0.01)
    assert 0 < len(made) <= 4  # in 0.6 s; ten are fifty milliseconds apart
