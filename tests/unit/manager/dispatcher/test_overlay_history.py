"""Whatever happens to the tasks, containers and sessions of two networks, in the end each node with a session
knows of its networks what the view says, and of no others; of large ones its own, and what it has asked for."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from skep.manager.dispatcher import batches, overlays, told_frames
from skep.manager.dispatcher.cutting import part_of
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.dispatcher.overlay_large import LargeTeller
from skep.manager.dispatcher.overlay_views import (
    networks_of_node,
    overlay_attachment,
    overlay_network,
    overlay_task,
    overlay_words,
)
from skep.model.container import NetworkAttachmentConfig
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayService
from skep.model.service import Endpoint, RemovedService, VirtualIP
from skep.model.states import COMPLETE, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import Task
from skep.rpc.messages import MESH, OVERLAY, OverlayAsk
from skep.sim.loop import VirtualLoop
from tests.unit.builders import add_service
from tests.unit.overlays import Line, Swarm, add_attachment, add_on_net, overlay_view

NODES, SERVICES, VIP = "abc", ("s", "s2", "s3"), "10.0.9.99"
# Few nodes and tasks: a network has then one of them, or none, as often as more.
STEPS, TASKS_MAX = 80, 4
TINY = Bounds(small_max=3, small_again=2, whole_max=2, part_max=2, services_max=2, addresses_max=2)


class History:
    """Each step is one thing that happens; most take no time, and the next comes before anybody is told."""

    def __init__(self, chance: random.Random, bounds: Bounds, tasks_max: int, is_slow: bool) -> None:
        self.chance = chance
        self.is_slow = is_slow  # not all is looked at at once
        self.tasks_max = tasks_max
        self.view = overlay_view(*NODES)
        add_service(self.view, "s2")
        add_service(self.view, "s3")
        self.swarm = Swarm(self.view, bounds)
        self.addresses = {each: self.view.nodes[each].addr for each in NODES}
        self.deaf: set[str] = set()
        self.fails, self.failed = False, 0  # the next message cannot be made; how many could not
        self.count = 0

    async def step(self) -> None:
        makes = (self.make,) * (self.tasks_max // 4 + 1)
        steps = (*makes, self.report, self.end, self.drop, self.attach, self.detach)
        sessions = (self.come, self.come, self.come, self.close, self.go_down)
        asks = (self.ask,) * 10
        rare = (self.busy, self.fail, self.rename, self.remove, self.call)
        self.chance.choice((*steps, *sessions, *asks, *rare))()
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.choice((batches.BATCH_S, 0.5, 10.0)))

    def make(self) -> None:
        """An address is given to another task as soon as its own one has ended."""
        taken = {each.slot for each in self.view.tasks.values() if not self._has_ended(each)}
        slot = self.chance.choice([each for each in range(1, 2 * self.tasks_max) if each not in taken])
        if len(self.view.tasks) >= self.tasks_max or not self.view.services:
            return
        self.count += 1
        made = add_on_net(
            self.view,
            f"t{self.count}",
            self.chance.choice(NODES),
            slot,
            observed=None,
            service_id=self.chance.choice(list(self.view.services)),
            networks=self.chance.choice((("net",), ("net",), ("other",), ("net", "other"))),
        )
        self.swarm.publish(made)

    def report(self) -> None:
        task = self._task()
        status = self.view.status_of(task) if task is not None else None
        if task is not None and (status is None or status.state < COMPLETE):
            self.swarm.report(task, RUNNING if status is None else COMPLETE)

    def end(self) -> None:
        """Nobody leads to it any more when its own node is told of that, unless much else is being told."""
        dispatcher = self.swarm.dispatcher
        task, is_busy = self._task(), self.fails or dispatcher._batches.wait_s > 0 or dispatcher._not_before
        if task is not None:
            self.swarm.publish(replace(task, desired_state=SHUTDOWN))
            if not is_busy:
                self._check_ending({each.address.partition("/")[0] for each in task.addresses}, task)

    def _check_ending(self, addresses: set[str], task: Task) -> None:
        for node_id, line in self.swarm.lines.items():
            if self.swarm.sessions.has(node_id):
                everyone = (each for known in line.overlays.values() for each in known.everyone())
                found = [each for each in everyone if each.address in addresses and task.id in each.name]
                assert not any(each.takes_new for each in found)

    def rename(self) -> None:
        """A service has another alias, and an own address or none."""
        if "s" in self.view.services:
            service = self.view.services["s"]
            attached = [
                NetworkAttachmentConfig(target="net", aliases=[self.chance.choice(("web", "name-s2"))])
            ]
            vips = [VirtualIP(network_id="net", addr=self.chance.choice(("", f"{VIP}/24")))]
            spec = replace(service.spec, networks=attached)
            made = replace(service, spec=spec, endpoint=Endpoint(vips=vips), version=service.version + 1)
            self.view.put_service(made)
            self.swarm.dispatcher.service_changed("s")

    def call(self) -> None:
        """A node says what its single containers are called."""
        for each in list(self.view.attached.get(self.chance.choice(NODES), {}).values()):
            named = replace(each, names=self.chance.choice(((), ("web",), ("one", "two"))))
            self.view.put_attachment(named)
            self.swarm.dispatcher.attachments_changed([named])

    def remove(self) -> None:
        if "s2" in self.view.services and self.chance.random() < 0.3:
            templates = self.view.services["s2"].templates
            gone = RemovedService(id="s2", name="name-s2", removed_at=0.0, templates=templates)
            self.view.remove_service(gone)
            self.swarm.dispatcher.service_changed("s2")

    def ask(self) -> None:
        """What is asked for in a large network is known, or nobody has it; and it comes before the answer."""
        here = [each for each in NODES if self.swarm.sessions.has(each)]
        if not here:
            return
        node_id, network_id = self.chance.choice(here), self.chance.choice(("net", "net", "other"))
        tasks = [(overlay_task(self.view, each, network_id)) for each in self.view.tasks.values()]
        there = [each for each in tasks if each is not None]
        single = [each for of_node in self.view.attached.values() for each in of_node]
        names = ["name-s", "name-s2", "web", "one", "nobody", *(each.name for each in there)]
        addresses = [VIP, "10.0.9.101", *(each.address for each in there)]
        asked = OverlayAsk(self.chance.randrange(1000), network_id)
        for _ in range(self.chance.choice((1, 1, 3))):
            kind, found = self.chance.choice(
                ((asked.names, names), (asked.addresses, addresses), (asked.services, [*SERVICES, *single]))
            )
            kind.append(self.chance.choice(found))
        fails, is_latest = self.fails, network_id not in self.swarm.dispatcher._dirty
        answer = self.swarm.ask(node_id, asked)
        if answer is None:
            assert fails
            return
        assert answer.number == asked.number
        unknown = [*answer.unknown_names, *answer.unknown_addresses, *answer.unknown_services]
        one = [*asked.names, *asked.addresses, *asked.services]
        known = self.swarm.lines[node_id].overlays.get(network_id)
        rests = network_id in self.swarm.dispatcher._not_before  # it could not be told
        is_latest = (is_latest or bool(unknown)) and not self.is_slow and not rests
        if len(one) == 1 and known is not None and known.network.is_large and is_latest:
            assert bool(unknown) != self._is_there(one[0], known), (one, unknown)
        elif known is None:
            assert unknown == one

    def _is_there(self, one: str, known: Overlay) -> bool:
        """True where the view has it; then the node does, too."""
        want, found = self._overlay(known.network.id), set[str]()
        for words in want.services.values():
            if one in (words.id, words.name, words.vip, *words.aliases):
                found.add(words.id)
                assert known.services[words.id].name == words.name
        single = [each for each in want.everyone() if one in (each.address, each.name)]
        if not found:
            assert all(known.endpoints[each.address] == each for each in single)
        return bool(found or single)

    def drop(self) -> None:
        task = self._task()
        if task is not None:
            self.swarm.publish(dropped=(task,))

    def attach(self) -> None:
        self.count += 1
        node_id = self.chance.choice(NODES)
        made = add_attachment(self.view, f"c{self.count}", node_id, f"10.0.9.{self.count}/24")
        self.swarm.dispatcher.attachments_changed([made])

    def detach(self) -> None:
        of_node = self.view.attached.get(self.chance.choice(NODES), {})
        gone = list(of_node.values())
        for each in gone:
            self.view.drop_attachment(each)
        self.swarm.dispatcher.attachments_changed(gone)

    def come(self) -> None:
        """A node's session begins; it knows what it knew in the one before."""
        node_id = self.chance.choice(NODES)
        before = self.swarm.lines.get(node_id)
        is_deaf = self.chance.random() < 0.1
        self.deaf = self.deaf | {node_id} if is_deaf else self.deaf - {node_id}
        moved = self.chance.choice((self.view.nodes[node_id].addr, "198.51.100.7"))
        self.addresses[node_id] = moved
        has = before.overlays.get("net") if before is not None and not is_deaf else None
        self.swarm.come(node_id, MESH if is_deaf else OVERLAY, data_addr=moved, has=has)

    def close(self) -> None:
        node_id = self.chance.choice(NODES)
        if node_id in self.swarm.lines:
            self.swarm.sessions.closed(self.swarm.lines[node_id], node_id, "")

    def go_down(self) -> None:
        """Or up again."""
        node_id = self.chance.choice(NODES)
        status = self.view.node_state(node_id)
        other = "ready" if status.state == "down" else "down"
        self.view.put_node_status(node_id, replace(status, state=other))
        self.swarm.dispatcher.node_changed(node_id)

    def busy(self) -> None:
        """Something large was told: what comes now has to wait."""
        self.swarm.dispatcher._batches.sent(2 * batches.BYTES_PER_S)

    def fail(self) -> None:
        self.fails = True

    def _has_ended(self, task: Task) -> bool:
        status = self.view.status_of(task)
        return status is not None and is_terminal(status.state)

    def _task(self) -> Task | None:
        tasks = list(self.view.tasks.values())
        return self.chance.choice(tasks) if tasks else None

    def expected(self, node_id: str) -> dict[str, Overlay]:
        if node_id in self.deaf:
            return {}
        return {each: self._overlay(each) for each in networks_of_node(self.view, node_id)}

    def _overlay(self, network_id: str) -> Overlay:
        network = overlay_network(self.view, network_id)
        assert network is not None
        found: dict[str, list[OverlayEndpoint | None]] = {}
        for task in self.view.tasks.values():
            found.setdefault(task.service_id, []).append(overlay_task(self.view, task, network_id, self.deaf))
        services = {}
        for service_id, some in found.items():
            endpoints = tuple(each for each in some if each is not None)
            if endpoints:
                words = overlay_words(self.view, service_id, network_id)
                services[service_id] = replace(words, endpoints=endpoints)
        for of_node in self.view.attached.values() if network_id == "net" else ():
            for each in of_node.values():
                single = overlay_attachment(self.view, each, self.deaf)
                services.update({each.id: single} if single is not None else {})
        nodes = {e.node_id: self.addresses[e.node_id] for s in services.values() for e in s.endpoints}
        return _in_order(Overlay(network, nodes, services))


def _in_order(known: Overlay) -> Overlay:
    """Changes that are told one by one put endpoints in another order; it means nothing."""

    def sort(service: OverlayService) -> OverlayService:
        return replace(service, endpoints=tuple(sorted(service.endpoints, key=lambda each: each.address)))

    return replace(known, services={each.id: sort(each) for each in known.services.values()})


def _of_large(swarm: Swarm, node_id: str, want: Overlay) -> Overlay:
    """Returns what a node is to know of a large network: its own, and what the manager tells it of."""
    known = swarm.dispatcher._networks[want.network.id]
    assert isinstance(known._teller, LargeTeller)
    subscribers = known._teller._subscribers
    services = {}
    for service_id, part in subscribers._services.get(node_id, {}).items():
        whole, service = want.services[service_id], known.state.services[service_id]
        parts, waiting = len(service.parts), service.waiting
        assert not any(each.takes_new for each in whole.endpoints if each.address in waiting)
        listed = (each for each in whole.endpoints if each.address not in waiting)
        endpoints = tuple(each for each in listed if part_of(each.address, parts) == part)
        services[service_id] = replace(whole, endpoints=endpoints)
    single = subscribers._addresses.get(node_id, {})
    endpoints = {e.address: e for e in want.everyone() if e.node_id == node_id or e.address in single}
    assert endpoints.keys() >= single.keys()
    network = replace(want.network, is_large=True)
    senders = frozenset(want.nodes.values())
    made = Overlay(network, services=services, endpoints=endpoints, senders=senders)
    return replace(made, nodes={each.node_id: want.nodes[each.node_id] for each in made.everyone()})


def _serving(told: Overlay, want: Overlay) -> Overlay:
    """Returns the same, with those that began to serve as if their own nodes, and who asked for them alone,
    had been told so: no name leads there by that."""
    began = {a: each for a, each in want.endpoints.items() if each.takes_new and a in told.endpoints}
    same = (a for a, each in began.items() if replace(told.endpoints[a], takes_new=True) == each)
    return replace(told, endpoints={**told.endpoints, **{a: began[a] for a in same}})


def _check_subscribers(swarm: Swarm) -> None:
    """Nothing is kept of who has gone; everything is known both ways."""
    for known in swarm.dispatcher._networks.values():
        if isinstance(known._teller, LargeTeller):
            of = known._teller._subscribers
            assert of._services.keys() | of._addresses.keys() <= known.hearers
            assert all(len(each) <= TINY.services_max for each in of._services.values())
            assert all(len(each) <= TINY.addresses_max for each in of._addresses.values())
            by_part = {(n, s, p) for s in of._hearers for p, of_p in enumerate(of.parts(s)) for n in of_p}
            assert by_part == {(n, s, p) for n, of_n in of._services.items() for s, p in of_n.items()}
            assert all(any(each.parts) for each in of._hearers.values())
            singles = {(n, a) for a, nodes in of._singles.items() for n in nodes}
            assert singles == {(n, a) for n, of_n in of._addresses.items() for a in of_n}
            assert of._hearers.keys() <= known.state.services.keys()


@pytest.mark.parametrize("seed", range(200))
def test_in_the_end_each_node_knows_what_the_view_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run_history(seed, Bounds(), TASKS_MAX, monkeypatch)


@pytest.mark.parametrize("seed", range(200))
def test_in_the_end_each_node_knows_what_it_asked_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run_history(seed, TINY, 3 * TASKS_MAX, monkeypatch)


def run_history(seed: int, bounds: Bounds, tasks_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        is_slow = seed % 2 == 1
        history = History(random.Random(seed), bounds, tasks_max, is_slow)
        if is_slow:
            monkeypatch.setattr(overlays, "SETTLED_MAX", 1)
        right = told_frames.encode

        def encode(told: object) -> bytes:
            if history.fails:  # as for an error of ours
                history.fails, history.failed = False, history.failed + 1
                raise RuntimeError
            return right(told)

        monkeypatch.setattr(told_frames, "encode", encode)
        for _ in range(STEPS):
            await history.step()
        history.fails = False
        await history.swarm.settle()
        for node_id, line in history.swarm.lines.items():
            if history.swarm.sessions.has(node_id):
                check(history, node_id, line)
        assert not history.swarm.dispatcher._dirty
        _check_subscribers(history.swarm)

        errors = [each for each in logs if each["log_level"] == "error"]
        assert len(errors) == history.failed, errors

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def check(history: History, node_id: str, line: Line) -> None:
    known = {each: _in_order(told) for each, told in line.overlays.items()}
    want = history.expected(node_id)
    for network_id, told in known.items():
        if told.network.is_large:
            want[network_id] = _in_order(_of_large(history.swarm, node_id, want[network_id]))
            known[network_id] = _serving(told, want[network_id])
    assert known == want, node_id
