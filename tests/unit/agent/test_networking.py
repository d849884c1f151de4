"""The mesh on a node: what is told goes to its kernel, and what cannot be done back."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Collection
from typing import Any

import pytest
from msgspec.structs import replace

from skep.agent import abilities, leaving, networking
from skep.agent.abilities import Abilities
from skep.agent.executor.interfaces import Action, Observation
from skep.agent.leaving import LEAVE_S
from skep.agent.networking import LOOK_S, SETTLE_S, Networking
from skep.agent.session import Session
from skep.agent.worker import Worker
from skep.model.container import ContainerSpec
from skep.model.data_path import HAS_IPVS
from skep.model.kernel_net import Carried, KernelNet
from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.node import NodeDescription
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.model.overlay_keys import ESP
from skep.model.spec import TaskSpec
from skep.model.states import READY, RUNNING, SHUTDOWN
from skep.model.task import TaskAddress
from skep.network.applied import Applied
from skep.network.names import Unknown
from skep.rpc import messages
from skep.rpc.checking import FAILURES_MAX, check
from skep.rpc.messages import (
    LOOK,
    MESH,
    RESOLVE,
    Assign,
    AssignedTask,
    FromManager,
    MeshApplied,
    MeshLook,
    MeshSeen,
    MeshTold,
    OverlayAnswered,
    OverlayAsk,
    OverlaysHeld,
    OverlayTold,
    Registered,
)
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Unavailable
from skep.sim.loop import EPOCH_S
from tests.unit.agent.test_worker import Hands, found
from tests.unit.virtual_time import spend, wait_in_thread

NETWORK = OverlayNetwork("net", "10.0.0.0/24", 4097, 4789)
WEB = MeshService("s", "web", (MeshPort("tcp", 8080, 80),))
BACK = OverlayNetwork("back", "10.1.0.0/24", 4098, 4789, "back")
FRONT = OverlayNetwork("front", "10.2.0.0/24", 4099, 4789, "front")
DB = OverlayService("d", "db", endpoints=(OverlayEndpoint("10.1.0.7", "a"),))
APP = OverlayService("p", "app", endpoints=(OverlayEndpoint("10.1.0.8", "b"),))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networking, "AGAIN_S", 0.02)


class Connections:
    """Those that begin to a task. Fulfils `Arrivals`."""

    def __init__(self) -> None:
        self.begin = False
        self.is_closed = False

    def came(self) -> bool:
        return self.begin

    def close(self) -> None:
        self.is_closed = True


class Kernel:
    """Fulfils `Plane`."""

    def __init__(self) -> None:
        self.applied: list[tuple[Mesh, bool]] = []  # without the managers
        self.managers: tuple[str, ...] = ()
        self.answer: Callable[[], Applied] = Applied
        self.gone: set[str] = set()
        self.there = KernelNet()
        self.why_not = "no IPsec"
        self.has_ipvs = False
        self.forgot = 0
        self.counted: list[Carried] = []
        self.watched: list[list[str]] = []  # addresses to which connections were looked at
        self.connections = Connections()
        self.why_not_forgotten = ""
        self.may_forget = threading.Event()
        self.may_forget.set()

    def apply(self, mesh: Mesh, look: bool = True, gone: Collection[str] = ()) -> Applied:
        self.applied.append((replace(mesh, managers=()), look))
        self.gone |= set(gone)
        self.managers = mesh.managers
        return self.answer()

    def forget(self) -> None:
        wait_in_thread(self.may_forget, 5.0)
        if self.why_not_forgotten:
            raise Unavailable(self.why_not_forgotten)
        self.forgot += 1

    def seen(self, mesh: Mesh) -> KernelNet:
        return self.there

    def carried(self) -> list[Carried]:
        return self.counted

    def clear(self) -> tuple[str, ...]:
        return ("left",)

    def close(self) -> None: ...

    def arrivals(self, addresses: Collection[str]) -> Connections:
        self.watched.append(list(addresses))
        return self.connections

    def why_not_encrypted(self) -> str:
        return self.why_not

    def may_have_ipvs(self) -> bool:
        return self.has_ipvs


class Node:
    """A session that stands with a manager that knows the mesh, and what was said over it."""

    def __init__(self) -> None:
        self.said: list[Any] = []

        async def connect(address: str, handler: Any) -> Any:
            raise Unavailable("there is none")

        self.session = Session(connect=connect, managers=["m:1"], rng=random.Random(1))
        self.session.send = self.said.append  # type: ignore[method-assign,assignment]
        self.kernel = Kernel()
        self.networking = Networking(self.session, self.kernel)
        self.networking.start()
        self.hears(Registered(5.0, [], features=[MESH]))

    def hears(self, message: FromManager) -> None:
        self.session.received(messages.encode(message))

    async def settle(self) -> None:
        await asyncio.sleep(0.3)


async def test_what_is_told_is_programmed() -> None:
    node = Node()
    await node.settle()
    node.hears(MeshTold(network=NETWORK))
    await node.settle()
    assert node.kernel.applied == []  # what stands from before stands until a manager has told all
    node.hears(MeshTold(True, NETWORK, [("a", "192.0.2.1")], services=[WEB]))
    await node.settle()
    node.hears(MeshTold(nodes=[("b", "192.0.2.2")]))
    await node.settle()
    first, second = node.kernel.applied
    assert node.kernel.managers == ("m",)  # none of them may be within the mesh's own network
    assert first == (Mesh(NETWORK, {"a": "192.0.2.1"}, {"s": WEB}), True)  # somebody may have been at it
    assert second == (Mesh(NETWORK, {"a": "192.0.2.1", "b": "192.0.2.2"}, {"s": WEB}), False)
    node.hears(MeshTold(complete=True))
    await node.settle()
    assert node.kernel.applied[-1][0] == Mesh()
    assert node.said == []
    await node.networking.close()


async def test_what_was_led_to_services_has_their_names() -> None:
    node = Node()
    over = OverlayNetwork("o", "10.1.0.0/24", 4098, 4789)
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    node.hears(OverlayTold(over, True, services=[replace(DB, vip="10.1.0.2"), APP]))
    await node.settle()
    of_web, of_db = Carried("8080/tcp", 3, 300, 900), Carried("10.1.0.2", 1, 60, 0)
    node.kernel.counted = [of_web, of_db, Carried("81/tcp", 1, 1, 1)]  # whose that was nobody knows any more
    assert await node.networking.carried() == [("web", of_web), ("db", of_db)]
    await node.networking.close()


async def test_a_node_says_what_its_kernel_can_do_and_not_what_it_could(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel()
    able = Abilities(kernel)
    before = NodeDescription(hostname="h")
    assert await able.described(before.having(ESP).having(HAS_IPVS)) == before, "with another kernel"
    kernel.has_ipvs, kernel.why_not = True, ""
    assert (await able.described(before)) == before.having(HAS_IPVS), "it is not tried each time"
    monkeypatch.setattr(abilities, "TRY_AGAIN_S", -1.0)
    assert await able.described(before) == before.having(ESP).having(HAS_IPVS)
    kernel.why_not = "busy"
    assert (await able.described(before)).has(ESP), "what could be done once can be"


async def test_a_node_is_told_whether_to_use_ipvs() -> None:
    node = Node()
    node.hears(MeshTold(True, NETWORK, services=[WEB], data_path="ipvs"))
    await node.settle()
    node.hears(MeshTold(gone_services=["s"]))
    await node.settle()
    assert node.kernel.applied[-1][0].data_path == "ipvs"
    node.hears(MeshTold(True, NETWORK, services=[WEB]))  # of an earlier manager
    await node.settle()
    assert node.kernel.applied[-1][0].data_path == "nftables"
    await node.networking.close()


async def test_what_is_told_in_parts_is_done_as_a_whole() -> None:
    node = Node()
    other = MeshService("t", "db", ())
    node.hears(MeshTold(True, NETWORK, services=[WEB], more=True))
    await node.settle()
    assert node.kernel.applied == []
    node.hears(MeshTold(services=[other]))
    await node.settle()
    assert [mesh.services for mesh, _ in node.kernel.applied] == [{"s": WEB, "t": other}]
    await node.networking.close()


async def test_it_looks_again_by_itself(monkeypatch: Any) -> None:
    monkeypatch.setattr(networking, "LOOK_S", 0.05)
    node = Node()
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    await asyncio.sleep(0.3)
    assert [look for _, look in node.kernel.applied[:3]] == [True, True, True]
    await node.networking.close()


async def test_what_cannot_be_done_is_said_once_and_again_in_a_new_session() -> None:
    node = Node()
    node.kernel.answer = lambda: Applied(("port 80 is taken",) * 30)
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    await node.settle()
    node.hears(MeshTold(services=[WEB]))
    await node.settle()
    (said,) = node.said
    assert (len(said.failures), said.failures[0]) == (FAILURES_MAX, "port 80 is taken")
    assert "15 more" in said.failures[-1]
    check(said)
    node.hears(Registered(5.0, [], features=[MESH]))
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    await node.settle()
    assert len(node.said) == 2
    node.kernel.answer = Applied
    node.hears(MeshTold(services=[WEB]))
    await node.settle()
    assert node.said[-1].failures == []
    await node.networking.close()


async def test_what_the_kernel_says_may_be_anything() -> None:
    node = Node()

    def fails() -> Applied:
        raise Unavailable("a\nb" + "é" * 5000)

    node.kernel.answer = fails
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    await asyncio.sleep(0.5)
    check(node.said[0])
    assert await node.networking.clear() == ["left"]


LARGE = replace(BACK, is_large=True)
OWN, FAR = OverlayEndpoint("10.1.0.1", "a", "x.1.t"), OverlayEndpoint("10.1.0.2", "b", "y.1.t")


async def large_node() -> Node:
    """A node on a large network, with a manager that it may ask."""
    node = Node()
    node.hears(Registered(5.0, [], features=[MESH, RESOLVE]))
    node.hears(OverlayTold(LARGE, True, [("a", "192.0.2.1")], endpoints=[OWN]))
    node.hears(OverlaysHeld(["back"]))
    node.hears(MeshTold(True))
    await node.settle()
    return node


async def test_a_name_is_answered_when_the_kernel_has_what_it_leads_to() -> None:
    node = await large_node()
    asked: list[OverlayAsk] = []

    async def ask(said: OverlayAsk, answer: type) -> OverlayAnswered:
        asked.append(said)
        node.hears(OverlayTold(LARGE, nodes=[("b", "192.0.2.2")], services=[replace(DB, endpoints=(FAR,))]))
        return OverlayAnswered(said.number)

    node.session.ask = ask  # type: ignore[method-assign,assignment]
    before = len(node.kernel.applied)
    await node.networking.resolve([Unknown("back", ("db.back", "db"))])
    assert [(each.network_id, each.names) for each in asked] == [("back", ["db.back", "db"])]
    ((seen, _),) = node.kernel.applied[before:]
    assert seen.overlays["back"] == Overlay(
        LARGE,
        {"a": "192.0.2.1", "b": "192.0.2.2"},
        {"d": replace(DB, endpoints=(FAR,))},
        {OWN.address: OWN},
    )
    await node.networking.close()


async def test_a_name_waits_for_a_slow_kernel_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networking, "SETTLE_S", 0.1)
    node = await large_node()

    async def ask(said: OverlayAsk, answer: type) -> OverlayAnswered:
        node.hears(OverlayTold(LARGE, endpoints=[FAR]))
        return OverlayAnswered(said.number)

    def slow() -> Applied:
        spend(0.5)
        return Applied()

    node.session.ask, node.kernel.answer = ask, slow  # type: ignore[method-assign,assignment]
    began = asyncio.get_running_loop().time()
    await node.networking.resolve([Unknown("back", ("y.1.t",))])
    assert 0.1 <= asyncio.get_running_loop().time() - began < 0.4
    await node.networking.close()


async def test_what_was_asked_for_outlives_a_change_of_leader_and_goes_where_nobody_has_it() -> None:
    node = await large_node()
    node.hears(OverlayTold(LARGE, nodes=[("b", "192.0.2.2")], services=[DB], endpoints=[FAR]))
    await node.settle()
    whole = node.kernel.applied[-1][0]
    node.kernel.answer = lambda: Applied(unsure=frozenset({FAR.address}))
    asked: list[OverlayAsk] = []

    async def ask(said: OverlayAsk, answer: type) -> OverlayAnswered:
        asked.append(said)
        await asyncio.sleep(0.5)
        return OverlayAnswered(said.number, [], said.addresses, said.services)

    node.session.ask = ask  # type: ignore[method-assign,assignment]
    node.hears(Registered(5.0, [], features=[MESH, RESOLVE]))
    node.hears(OverlayTold(LARGE, True, [("a", "192.0.2.1")], endpoints=[OWN]))
    node.hears(OverlaysHeld(["back"]))
    node.hears(MeshTold(True))
    await node.settle()
    assert node.kernel.applied[-1][0] == whole
    assert [(each.services, each.addresses) for each in asked] == [(["d"], [FAR.address])]
    await asyncio.sleep(0.5)
    left = Overlay(LARGE, {"a": "192.0.2.1"}, {}, {OWN.address: OWN})
    assert node.kernel.applied[-1][0].overlays == {"back": left}
    assert node.kernel.gone == {FAR.address}, "connections to it are to be forgotten"
    await node.networking.close()


async def test_overlay_networks_are_programmed_once_the_mesh_is_told() -> None:
    node = Node()
    node.hears(OverlayTold(BACK, True, [("a", "192.0.2.1")], services=[DB]))
    node.hears(OverlaysHeld(["back"]))
    await node.settle()
    assert node.kernel.applied == []  # what stands from before stands until a manager has told all
    node.hears(MeshTold(True))
    await node.settle()
    back = Overlay(BACK, {"a": "192.0.2.1"}, {"d": DB})
    assert node.kernel.applied == [(Mesh(overlays={"back": back}), True)]
    node.hears(OverlayTold(BACK, nodes=[("b", "192.0.2.2")], services=[APP]))
    node.hears(OverlayTold(FRONT, True))
    await node.settle()
    both = Overlay(BACK, {"a": "192.0.2.1", "b": "192.0.2.2"}, {"d": DB, "p": APP})
    assert node.kernel.applied[1:] == [(Mesh(overlays={"back": both, "front": Overlay(FRONT)}), False)]
    node.hears(OverlayTold(BACK, gone_nodes=["a"], gone_services=["d"]))
    node.hears(OverlaysHeld(["back"]))
    await node.settle()
    left = Overlay(BACK, {"b": "192.0.2.2"}, {"p": APP})
    assert node.kernel.applied[-1] == (Mesh(overlays={"back": left}), False)
    await node.networking.close()


async def test_an_overlay_network_is_done_as_a_whole() -> None:
    node = Node()
    node.hears(OverlaysHeld([]))
    node.hears(MeshTold(True))
    await node.settle()
    node.hears(OverlayTold(BACK, True, services=[DB], more=True))
    node.hears(OverlayTold(FRONT, True))
    await node.settle()
    assert [mesh.overlays for mesh, _ in node.kernel.applied] == [{}]
    node.hears(OverlayTold(BACK, services=[APP]))
    await node.settle()
    assert node.kernel.applied[-1][0].overlays["back"].services == {"d": DB, "p": APP}
    # A session that ends in the middle of it, and the next one knows nothing of the network.
    node.hears(OverlayTold(BACK, True, more=True))
    node.hears(Registered(5.0, [], features=[MESH]))
    node.hears(OverlayTold(FRONT, True))
    await node.settle()
    assert len(node.kernel.applied) == 2
    node.hears(OverlaysHeld(["front"]))
    await node.settle()
    assert node.kernel.applied[-1][0].overlays == {"front": Overlay(FRONT)}
    await node.networking.close()


async def test_a_new_session_costs_no_network_until_it_has_said_which_there_are() -> None:
    node = Node()
    node.hears(OverlayTold(BACK, True, services=[DB]))
    node.hears(OverlaysHeld(["back"]))
    node.hears(MeshTold(True))
    await node.settle()
    node.hears(Registered(5.0, [], features=[MESH]))
    node.hears(OverlayTold(FRONT, True))
    await node.settle()
    assert sorted(node.kernel.applied[-1][0].overlays) == ["back", "front"]
    node.hears(OverlaysHeld(["front"]))
    node.hears(MeshTold(True))
    node.hears(MeshTold(True))
    await node.settle()
    assert sorted(node.kernel.applied[-1][0].overlays) == ["front"]
    node.hears(Registered(5.0, [], features=[MESH]))
    node.hears(MeshTold(True))  # of an earlier manager, who knows of none
    await node.settle()
    assert node.kernel.applied[-1][0] == Mesh()
    await node.networking.close()


async def test_it_looks_again_for_networks_and_for_what_lingers(monkeypatch: Any) -> None:
    monkeypatch.setattr(networking, "LOOK_S", 0.05)
    node = Node()
    node.hears(OverlayTold(BACK, True, services=[DB]))
    node.hears(OverlaysHeld(["back"]))
    node.hears(MeshTold(True))
    await asyncio.sleep(0.3)
    assert [look for _, look in node.kernel.applied[:3]] == [True, True, True]
    node.kernel.answer = lambda: Applied(lingers=True)
    node.hears(OverlaysHeld([]))
    await node.settle()
    before = len(node.kernel.applied)
    await node.settle()
    assert len(node.kernel.applied) > before
    node.kernel.answer = Applied
    await node.settle()
    before = len(node.kernel.applied)
    await node.settle()
    assert len(node.kernel.applied) == before
    await node.networking.close()


@pytest.mark.parametrize("on", ["mesh", "overlay"])
async def test_a_task_of_the_mesh_is_told_to_end_after_all_have_heard(on: str) -> None:
    node = Node()
    if on == "mesh":
        node.hears(MeshTold(True, NETWORK, services=[WEB]))
    else:
        node.hears(OverlayTold(replace(BACK, id="net"), True, services=[DB]))
        node.hears(OverlaysHeld(["net"]))
        node.hears(MeshTold(True))
    hands = Hands(found("web", RUNNING), found("other", RUNNING))
    worker = Worker("n", "host", hands, LoopClock(EPOCH_S), lambda *said: None, node.networking)
    await worker.start()
    addresses = {"web": (TaskAddress("net", "10.0.0.7/24", "10.0.0.2/24"),), "other": ()}
    template = messages.ServiceTemplate("s", 1, "web", {}, TaskSpec(container_spec=ContainerSpec(image="x")))
    tasks = [AssignedTask(name, "s", 1, 1, RUNNING, (), given) for name, given in addresses.items()]
    worker.assign(Assign(complete=True, templates=[template], tasks=tasks))
    ending = [AssignedTask(name, "s", 1, 1, SHUTDOWN, (), given) for name, given in addresses.items()]
    worker.assign(Assign(tasks=ending))
    assert [(action, context.task.id) for action, context in hands.begun] == [(Action.STOP, "other")]
    await asyncio.sleep(LEAVE_S + 2 * leaving.LOOK_S)
    assert [(action, context.task.id) for action, context in hands.begun][1:] == [(Action.STOP, "web")]
    assert node.kernel.watched == [["10.0.0.7"]]
    assert node.kernel.connections.is_closed
    await node.networking.close()


@pytest.mark.parametrize("network", [NETWORK, BACK, replace(BACK, is_large=True)])
async def test_a_task_is_told_to_end_when_its_own_node_has_let_it_go(
    monkeypatch: pytest.MonkeyPatch, network: OverlayNetwork
) -> None:
    monkeypatch.setattr(leaving, "LEAVE_S", 0.1)
    monkeypatch.setattr(leaving, "LOOK_S", 0.01)
    node = Node()
    ends = TaskAddress(network.id, "10.1.0.7/24", "10.1.0.2/24")
    node.hears(_told_with(network, takes_new=True))
    node.hears(OverlaysHeld([BACK.id]))
    node.hears(MeshTold(True, NETWORK, services=_services(network, takes_new=True)))
    await node.settle()
    left = node.networking.leaving("s", [ends])
    assert left is not None
    waiting = asyncio.ensure_future(left)
    await node.settle()
    assert not waiting.done(), "nobody was told"
    release = threading.Event()
    node.kernel.answer = lambda: Applied() if wait_in_thread(release, 5.0) else Applied(("late",))
    node.hears(_told_with(network, takes_new=False))
    node.hears(MeshTold(services=_services(network, takes_new=False)))
    await node.settle()
    assert not waiting.done(), "its kernel leads there"
    release.set()
    await node.settle()
    assert waiting.done()
    await node.networking.close()


async def test_a_services_tasks_are_gone_through_when_something_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not ten times a second for each task that waits: a service has some thousand."""
    monkeypatch.setattr(leaving, "LOOK_S", 0.01)
    looks: list[str] = []

    def looked(mesh: Mesh, overlays: object, service_id: str, addresses: object) -> bool:
        looks.append(service_id)
        return True

    monkeypatch.setattr(networking, "is_serving", looked)
    node = Node()
    node.hears(MeshTold(True, NETWORK, services=_services(NETWORK, takes_new=True)))
    left = node.networking.leaving("s", [TaskAddress(NETWORK.id, "10.1.0.7/24", "10.1.0.2/24")])
    assert left is not None
    waiting = asyncio.ensure_future(left)
    for count in (1, 2):
        await asyncio.sleep(0.2)
        assert looks == ["s"] * count
        node.hears(MeshTold(services=_services(NETWORK, takes_new=True)))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await node.networking.close()


def _services(network: OverlayNetwork, takes_new: bool) -> list[MeshService]:
    ends = (MeshEndpoint("10.1.0.7", "a", takes_new),)
    return [replace(WEB, endpoints=ends)] if network is NETWORK else []


def _told_with(network: OverlayNetwork, takes_new: bool) -> OverlayTold:
    """Returns what is told of overlay networks."""
    ends = OverlayEndpoint("10.1.0.7", "a", takes_new=takes_new)
    if network.is_large:
        return OverlayTold(network, True, [("a", "192.0.2.1")], endpoints=[ends])
    on_it = [replace(DB, id="s", endpoints=(ends,))] if network is not NETWORK else []
    return OverlayTold(BACK, True, [("a", "192.0.2.1")], services=on_it)


async def test_a_node_that_can_do_nothing_holds_no_task_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LEAVE_S", 0.1)
    node = Node()
    node.kernel.answer = _raises
    node.hears(MeshTold(True, NETWORK, services=_services(NETWORK, takes_new=True)))
    await node.settle()
    left = node.networking.leaving("s", [TaskAddress(NETWORK.id, "10.1.0.7/24", "10.1.0.2/24")])
    assert left is not None
    await asyncio.wait_for(left, 2.0)
    await node.networking.close()


@pytest.mark.parametrize("on", ["mesh", "overlay", "large overlay"])
async def test_a_task_is_started_when_its_node_knows_it(on: str) -> None:
    """Others lead to it as soon as it runs: its answers are to find back."""
    node, hands, worker = await _working()
    network = NETWORK if on == "mesh" else replace(BACK, is_large=on == "large overlay")
    _begin(worker, address=TaskAddress(network.id, "10.1.0.7/24", "10.1.0.2/24"))
    worker.observed(Observation("web", READY, 0.0))
    await asyncio.sleep(0.1)
    assert [action for action, _ in hands.begun] == [Action.PREPARE]
    release = threading.Event()
    node.kernel.answer = lambda: Applied() if wait_in_thread(release, 5.0) else Applied(("late",))
    node.hears(_told_of(on, network))
    await asyncio.sleep(0.1)
    assert [action for action, _ in hands.begun] == [Action.PREPARE], "the kernel does not have it yet"
    release.set()
    await asyncio.sleep(0.1)
    assert [action for action, _ in hands.begun] == [Action.PREPARE, Action.START]
    await node.networking.close()


async def _working() -> tuple[Node, Hands, Worker]:
    """A node that was told of a network, and nothing of what is on it."""
    node, hands = Node(), Hands()
    node.hears(MeshTold(True, NETWORK))
    await node.settle()
    worker = Worker("n", "host", hands, LoopClock(EPOCH_S), lambda *said: None, node.networking)
    await worker.start()
    return node, hands, worker


def _begin(worker: Worker, address: TaskAddress) -> None:
    template = messages.ServiceTemplate("s", 1, "web", {}, TaskSpec(container_spec=ContainerSpec(image="x")))
    task = AssignedTask("web", "s", 1, 1, RUNNING, (), (address,))
    worker.assign(Assign(complete=True, templates=[template], tasks=[task]))


def _told_of(on: str, network: OverlayNetwork) -> FromManager:
    if on == "mesh":
        return MeshTold(services=[replace(WEB, endpoints=(MeshEndpoint("10.1.0.7", "n", False),))])
    here = OverlayEndpoint("10.1.0.7", "n", "web.1.x", False)
    if network.is_large:
        return OverlayTold(network, True, endpoints=[here])
    return OverlayTold(network, True, services=[OverlayService("s", "web", endpoints=(here,))])


async def test_a_task_whose_node_is_not_told_of_it_is_started_all_the_same() -> None:
    node, hands, worker = await _working()
    _begin(worker, address=TaskAddress("gone", "10.1.0.7/24", "10.1.0.2/24"))
    worker.observed(Observation("web", READY, 0.0))
    await asyncio.sleep(SETTLE_S + 0.2)
    assert [action for action, _ in hands.begun] == [Action.PREPARE, Action.START]
    await node.networking.close()


async def test_what_fails_for_long_lets_a_task_wait_all_the_same() -> None:
    """A port that somebody else has is no matter of this task's; a kernel that cannot be asked is."""
    node = Node()
    node.kernel.answer = lambda: Applied(("port 80 is taken",))
    node.hears(MeshTold(True, NETWORK))
    await node.settle()
    address = TaskAddress("net", "10.0.0.7/24", "10.0.0.2/24")
    waiting = node.networking.arriving("s", [address])
    assert waiting is not None
    await waiting
    node.kernel.answer = _raises
    node.hears(MeshTold(services=[WEB]))
    await node.settle()
    assert node.networking.arriving("s", [address]) is None
    await node.networking.close()


async def test_nobody_waits_for_connections_to_be_forgotten_that_lead_to_who_is_gone() -> None:
    node = Node()
    node.hears(MeshTold(True, NETWORK))
    await node.settle()
    node.kernel.answer = lambda: Applied(has_lost=True)
    node.kernel.may_forget.clear()
    node.hears(_told_of("mesh", NETWORK))
    waiting = node.networking.arriving("s", [TaskAddress("net", "10.1.0.7/24", "10.1.0.2/24")])
    assert waiting is not None
    began = asyncio.get_running_loop().time()
    await waiting
    assert asyncio.get_running_loop().time() - began < SETTLE_S - 0.1
    assert (len(node.kernel.applied), node.kernel.forgot) == (2, 0)
    node.hears(MeshTold(nodes=[("b", "192.0.2.2")]))
    await node.settle()
    assert (len(node.kernel.applied), node.kernel.forgot) == (3, 0), "rules do not wait for it either"
    node.kernel.answer = Applied
    node.kernel.may_forget.set()
    await node.settle()
    assert node.kernel.forgot == 2, "also what was lost meanwhile"
    await node.networking.close()


async def test_that_connections_are_not_forgotten_is_said_and_it_is_tried_again() -> None:
    node = Node()
    node.hears(MeshTold(True, NETWORK))
    await node.settle()
    node.kernel.answer = lambda: Applied(has_lost=True)
    node.kernel.why_not_forgotten = "the kernel does not say"
    node.hears(_told_of("mesh", NETWORK))
    node.hears(MeshTold(nodes=[("b", "192.0.2.2")]))
    await node.settle()
    node.hears(MeshTold(nodes=[("c", "192.0.2.3")]))
    await node.settle()
    assert MeshApplied(["the kernel does not say"]) in node.said
    node.kernel.why_not_forgotten = ""
    await node.settle()
    assert node.kernel.forgot > 0
    node.kernel.answer = Applied
    await node.settle()
    assert node.said[-1] == MeshApplied([])
    await node.networking.close()


def _raises() -> Applied:
    raise Unavailable("nothing can be looked at")


async def test_who_asks_what_there_is_has_an_answer_and_what_is_missing_is_made() -> None:
    node = Node()
    node.hears(Registered(5.0, [], features=[MESH, LOOK]))
    node.hears(MeshTold(True, NETWORK, services=[WEB], more=True))
    node.hears(MeshLook(1))
    await node.settle()
    assert node.kernel.applied == [], "half of what is wanted is no measure of what there is"
    node.hears(MeshTold())
    await node.settle()
    node.hears(MeshTold(nodes=[("b", "192.0.2.2")]))
    await node.settle()
    assert [look for _, look in node.kernel.applied] == [True, False]
    node.hears(MeshLook(2))
    await node.settle()
    assert [look for _, look in node.kernel.applied] == [True, False]
    node.kernel.there = KernelNet(missing=["bridge skb1"], missing_count=1)
    node.hears(MeshLook(3))
    await node.settle()
    assert [look for _, look in node.kernel.applied] == [True, False, True]
    answers = [each for each in node.said if isinstance(each, MeshSeen)]
    assert [each.number for each in answers] == [1, 2, 3]
    assert answers[0].seen.failures == ["no manager has told this node yet all that it is to have"]
    assert [each.seen.missing_count for each in answers] == [0, 0, 1]
    await node.networking.close()


async def test_it_looks_in_time_also_where_there_is_always_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networking, "LOOK_S", 0.3)
    node = Node()
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    for number in range(20):
        node.hears(MeshTold(nodes=[("b", f"192.0.2.{number}")]))
        await asyncio.sleep(0.1)
    assert 3 <= sum(look for _, look in node.kernel.applied) <= 8
    await node.networking.close()


async def test_news_of_others_that_go_on_hold_up_no_task() -> None:
    node = Node()
    node.hears(MeshTold(True, NETWORK))
    await node.settle()
    node.hears(_told_of("mesh", NETWORK))
    waiting = node.networking.arriving("s", [TaskAddress("net", "10.1.0.7/24", "10.1.0.2/24")])
    assert waiting is not None
    began, arriving = asyncio.get_running_loop().time(), asyncio.ensure_future(waiting)

    def goes_on() -> Applied:
        spend(0.02)  # a kernel with much to do, and always more of it
        return Applied()

    node.kernel.answer = goes_on
    while not arriving.done():
        node.hears(MeshTold(nodes=[("b", "192.0.2.2")]))
        await asyncio.sleep(0.005)
    assert asyncio.get_running_loop().time() - began < SETTLE_S - 0.1
    await node.networking.close()


async def test_who_leaves_the_swarm_starts_nothing_that_waited() -> None:
    node, hands, worker = await _working()
    _begin(worker, address=TaskAddress("gone", "10.1.0.7/24", "10.1.0.2/24"))
    worker.observed(Observation("web", READY, 0.0))
    await asyncio.sleep(0.05)
    worker.close()
    await asyncio.sleep(SETTLE_S + 0.2)
    assert [action for action, _ in hands.begun] == [Action.PREPARE]
    await node.networking.close()


async def test_a_task_that_is_given_up_while_it_waits_is_not_started() -> None:
    node, hands, worker = await _working()
    _begin(worker, address=TaskAddress("gone", "10.1.0.7/24", "10.1.0.2/24"))
    worker.observed(Observation("web", READY, 0.0))
    worker.assign(Assign(dropped=["web"]))
    await asyncio.sleep(SETTLE_S + 0.2)
    assert Action.START not in [action for action, _ in hands.begun]
    await node.networking.close()


async def test_what_fails_for_long_is_tried_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networking, "AGAIN_S", 1.0)
    assert [networking.again_s(n) for n in (1, 2, 3, 4, 5, 9999)] == [1.0, 2.0, 4.0, 8.0, LOOK_S, LOOK_S]
    monkeypatch.setattr(networking, "AGAIN_S", 0.05)
    node = Node()
    node.kernel.answer = lambda: Applied(("for ever",))
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    await asyncio.sleep(1)
    assert 2 <= len(node.kernel.applied) <= 6  # 0, 0.05, 0.15, 0.35, 0.75
    node.kernel.answer = Applied
    node.hears(MeshTold(services=[WEB]))
    await node.settle()
    assert node.said[-1].failures == []
    await node.networking.close()


async def test_what_nobody_thought_of_is_said_too() -> None:
    node = Node()

    def fails() -> Applied:
        raise KeyError("skb4097")

    node.kernel.answer = fails
    node.kernel.clear = fails  # type: ignore[method-assign,assignment]
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    async with asyncio.timeout(1):
        while not node.said:
            await asyncio.sleep(0.01)
    (said,) = node.said[0].failures
    assert "nobody thought of" in said
    assert "KeyError('skb4097')" in said
    (left,) = await node.networking.clear()
    assert "KeyError('skb4097')" in left


async def test_what_fails_once_is_tried_again_and_not_said() -> None:
    node = Node()
    answers = iter([Applied(("a moment's clash",))])
    node.kernel.answer = lambda: next(answers, Applied())
    node.hears(MeshTold(True, NETWORK, services=[WEB]))
    await node.settle()
    assert [look for _, look in node.kernel.applied] == [True, True]
    assert node.said == []
    await node.networking.close()


class Names:
    """Fulfils `networking.Naming`."""

    def __init__(self) -> None:
        self.told_of: list[dict[str, Overlay]] = []
        self.failures: list[str] = []

    def told(self, overlays: dict[str, Overlay], vips: frozenset[str]) -> None:
        self.told_of.append(overlays)


async def test_names_hear_at_once_of_what_is_told_as_a_whole_and_what_they_lack_is_said() -> None:
    node, names = Node(), Names()
    node.networking._naming = names
    node.hears(MeshTold(network=NETWORK))
    assert names.told_of == [], "not all is told yet"
    node.hears(MeshTold(True, NETWORK, services=[WEB], more=True))
    assert names.told_of == [], "nor now"
    names.failures = ["port 53 there is taken"]
    node.hears(MeshTold())
    assert names.told_of == [node.networking._overlays.all]
    await node.settle()
    assert node.said == [MeshApplied(["port 53 there is taken"])]
    names.failures = []
    node.hears(MeshTold(nodes=[("b", "192.0.2.2")]))
    await node.settle()
    assert node.said[1:] == [MeshApplied([])]
    await node.networking.close()
