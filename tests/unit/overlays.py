"""Views with overlay networks, and nodes that keep what they are told of them."""

from __future__ import annotations

import asyncio
import itertools

from msgspec.structs import replace

from skep.manager.dispatcher.batches import BATCH_S
from skep.manager.dispatcher.observer import NodeObserver
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.dispatcher.overlays import OverlayDispatcher
from skep.manager.dispatcher.sessions import Sessions
from skep.model.attachment import Attachment
from skep.model.network import VXLAN_OPTION, IPAMConfig, Network, NetworkSpec
from skep.model.node import NodeDescription
from skep.model.overlay import Overlay, unpacked
from skep.model.overlay_keys import key_of
from skep.model.states import RUNNING
from skep.model.task import Task, TaskAddress, TaskStatus
from skep.rpc import messages
from skep.rpc.interfaces import Identity
from skep.rpc.messages import (
    OVERLAY,
    RESOLVE,
    OverlayAnswered,
    OverlayAsk,
    OverlaysHeld,
    OverlayTold,
    Register,
)
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service, add_task


def network(network_id: str, third: int, vni: int) -> Network:
    return Network(
        id=network_id,
        spec=NetworkSpec(name=f"name-{network_id}", driver="overlay", attachable=True),
        created_at=0,
        updated_at=0,
        pools=[IPAMConfig(subnet=f"10.0.{third}.0/24", gateway=f"10.0.{third}.1")],
        options={VXLAN_OPTION: str(vni)},
    )


NET, OTHER = network("net", 9, 4098), network("other", 8, 4099)


def overlay_view(*nodes: str) -> View:
    """Returns a view with two networks, and a service `s` without tasks."""
    view = View()
    add_cluster(view)
    view.put_network(NET)
    view.put_network(OTHER)
    for number, node_id in enumerate(nodes, 1):
        add_node(view, node_id, addr=f"192.0.2.{number}")
    add_service(view)
    return view


def add_on_net(
    view: View,
    task_id: str,
    node_id: str,
    slot: int,
    *,
    observed: int | None = RUNNING,
    service_id: str = "s",
    networks: tuple[str, ...] = ("net",),
) -> Task:
    """Adds a task with the address .100 + slot on each of the networks."""
    task = add_task(view, task_id, node_id, slot, service_id=service_id, observed=observed)
    thirds = {"net": 9, "other": 8, "mesh": 0}
    given = (TaskAddress(n, f"10.0.{thirds[n]}.{100 + slot}/24", "") for n in networks)
    task = replace(task, addresses=tuple(given))
    view.put_task(task)
    return task


def add_attachment(view: View, attachment_id: str, node_id: str, address: str) -> Attachment:
    attachment = Attachment(attachment_id, node_id, TaskAddress("net", address, ""), 0.0)
    view.put_attachment(attachment)
    return attachment


BATCHES_MAX = 50  # that a question waits for here; one of its own in time


class Line:
    """A node: `heard` is what it was told, in order, `overlays` what it makes of it. What is told of a network
    that it has not, or does not begin with all of it, is a mistake; so is what is told of a large one that is
    not the node's own, and that it neither has nor asks for."""

    local_host = "192.0.2.99"

    def __init__(self, node_id: str, remote_host: str) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")
        self.remote_host = remote_host
        self.heard: list[messages.FromManager] = []
        self.overlays: dict[str, Overlay] = {}
        self.is_asking = False

    @property
    def sent(self) -> list[OverlayTold | OverlaysHeld]:
        return [each for each in self.heard if isinstance(each, OverlayTold | OverlaysHeld)]

    def send(self, frame: bytes) -> None:
        said = messages.decode_from_manager(frame)
        self.heard.append(said)
        if isinstance(said, OverlaysHeld):
            assert set(said.network_ids) <= set(self.overlays)
            self.overlays = {each: self.overlays[each] for each in said.network_ids}
        elif isinstance(said, OverlayTold):
            network_id = said.network.id
            before = Overlay(said.network) if said.complete else self.overlays[network_id]
            if said.network.is_large and not said.complete and not self.is_asking:
                self._check_news(said, before)
            told = self.overlays[network_id] = before.told(
                said.nodes,
                said.gone_nodes,
                said.services,
                said.gone_services,
                said.endpoints,
                said.gone_endpoints,
                unpacked(said.senders),
                unpacked(said.gone_senders),
            )
            if not said.more:
                _check_addresses(told)

    def _check_news(self, said: OverlayTold, before: Overlay) -> None:
        assert self.identity is not None
        assert {each.id for each in said.services} <= before.services.keys()
        others = {each.address for each in said.endpoints if each.node_id != self.identity.node_id}
        assert others <= before.endpoints.keys()
        told = [*said.endpoints, *(e for s in said.services for e in s.endpoints)]
        assert {node_id for node_id, _ in said.nodes} <= {each.node_id for each in told}

    def close(self) -> None: ...


def _check_addresses(known: Overlay) -> None:
    """Nobody else has somebody's address."""
    found = [each for service in known.services.values() for each in service.endpoints]
    by_address = {each.address: each for each in found}
    assert len(by_address) == len(found)
    assert all(by_address.get(a, each).node_id == each.node_id for a, each in known.endpoints.items())
    assert known.nodes.keys() >= {each.node_id for each in known.everyone()}


class Swarm:
    """A dispatcher whose nodes have said that they know overlays."""

    def __init__(self, view: View, bounds: Bounds = Bounds()) -> None:
        self.view = view
        self.sessions = Sessions(view, [], NodeObserver())
        self._numbers = itertools.count()
        self.dispatcher = OverlayDispatcher(
            view, self.sessions, lambda: key_of(str(next(self._numbers))), bounds
        )
        self.sessions.on(Register, self.dispatcher.began)
        self.sessions.on(OverlayAsk, self.dispatcher.asked)
        self.dispatcher.begin()
        self.lines: dict[str, Line] = {}

    def come(
        self,
        node_id: str,
        *features: str,
        data_addr: str = "",
        has: Overlay | None = None,
        description: NodeDescription = NodeDescription(hostname="h"),
    ) -> Line:
        """A node begins a session; `has` is what it knows of before."""
        line = self.lines[node_id] = Line(node_id, self.view.nodes[node_id].addr)
        if has is not None:
            line.overlays[has.network.id] = has
        said = Register(description, "", list(features or (OVERLAY, RESOLVE)), data_addr=data_addr)
        self.sessions.open(line).frame(messages.encode(said))
        return line

    def ask(self, node_id: str, asked: OverlayAsk) -> OverlayAnswered | None:
        """A node asks. Returns the answer, however many batches it waits for; None: there is none."""
        line = self.lines[node_id]
        count = len(line.heard)
        line.is_asking = True
        self.sessions.open(line).frame(messages.encode(asked))
        questions, loop = self.dispatcher._questions, asyncio.get_running_loop()
        for _ in range(BATCHES_MAX):
            if questions._queue:
                questions._take_turn(loop)
            elif questions._waiting:
                self.dispatcher._batches._flush()
        late = [replace(each, until=0.0) for each in (*questions._queue, *questions._waiting)]
        questions._waiting.clear()
        questions._queue.clear()
        questions._queue.extend(late)
        questions._take_turn(loop)
        line.is_asking = False
        answers = (each for each in line.heard[count:] if isinstance(each, OverlayAnswered))
        return next((each for each in answers if each.number == asked.number), None)

    def publish(self, *put: Task, dropped: tuple[Task, ...] = ()) -> None:
        """Does what a commit does: the tasks are in the view, then the nodes hear of them."""
        changed: dict[str, tuple[list[Task], list[Task]]] = {}
        for task in put:
            self.view.put_task(task)
            changed.setdefault(task.node_id, ([], []))[0].append(task)
        for task in dropped:
            self.view.drop_task(task)
            changed.setdefault(task.node_id, ([], []))[1].append(task)
        self.dispatcher.publish(changed)

    def report(self, task: Task, state: int) -> None:
        status = TaskStatus(state, 1.0)
        assert self.view.put_status(task, status)
        self.dispatcher.reported(task, status)

    async def settle(self) -> None:
        """Waits until all is told, however slow the machine is."""
        batches = self.dispatcher._batches
        await asyncio.sleep(BATCH_S)
        while batches._timer is not None or batches.wait_s:
            await asyncio.sleep(BATCH_S / 5)
