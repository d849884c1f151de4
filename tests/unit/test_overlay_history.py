"""Whatever happens to the tasks, containers and sessions of two networks, in the end each node with a session
knows of its networks what the view says, and of no others."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from skep.manager.dispatcher import batches
from skep.manager.dispatcher.overlay_views import (
    networks_of_node,
    overlay_attachment,
    overlay_network,
    overlay_service,
)
from skep.manager.dispatcher.told_frames import ForHearers
from skep.model.overlay import Overlay, OverlayService
from skep.model.states import COMPLETE, RUNNING, SHUTDOWN
from skep.model.task import Task
from skep.rpc.messages import MESH, OVERLAY
from skep.sim.loop import VirtualLoop

from .builders import add_service
from .overlays import Swarm, add_attachment, add_on_net, overlay_view

NODES, SERVICES = "abc", ("s", "s2")
# Few nodes and tasks: a network has then one of them, or none, as often as more.
STEPS, TASKS_MAX = 60, 4


class History:
    """Each step is one thing that happens; most take no time, and the next comes before anybody is told."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.view = overlay_view(*NODES)
        add_service(self.view, "s2")
        self.swarm = Swarm(self.view)
        self.addresses = {each: self.view.nodes[each].addr for each in NODES}
        self.deaf: set[str] = set()
        self.fails, self.failed = False, 0  # the next message cannot be made; how many could not
        self.count = 0

    async def step(self) -> None:
        steps = (self.make, self.make, self.report, self.end, self.drop, self.attach, self.detach)
        sessions = (self.come, self.come, self.come, self.close, self.go_down)
        self.chance.choice((*steps, *sessions, self.busy, self.fail))()
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.choice((batches.BATCH_S, 0.5, 10.0)))

    def make(self) -> None:
        if len(self.view.tasks) == TASKS_MAX:
            return
        self.count += 1
        made = add_on_net(
            self.view,
            f"t{self.count}",
            self.chance.choice(NODES),
            self.count,
            observed=None,
            service_id=self.chance.choice(SERVICES),
            networks=self.chance.choice((("net",), ("net",), ("other",), ("net", "other"))),
        )
        self.swarm.publish(made)

    def report(self) -> None:
        task = self._task()
        status = self.view.status_of(task) if task is not None else None
        if task is not None and (status is None or status.state < COMPLETE):
            self.swarm.report(task, RUNNING if status is None else COMPLETE)

    def end(self) -> None:
        task = self._task()
        if task is not None:
            self.swarm.publish(replace(task, desired_state=SHUTDOWN))

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
        single = [each for of_node in self.view.attached.values() for each in of_node.values()]
        found = [overlay_service(self.view, each, network_id, self.deaf) for each in SERVICES]
        if network_id == "net":
            found += [overlay_attachment(self.view, each, self.deaf) for each in single]
        services = {each.id: each for each in found if each is not None}
        nodes = {e.node_id: self.addresses[e.node_id] for s in services.values() for e in s.endpoints}
        return _in_order(Overlay(network, nodes, services))


def _in_order(known: Overlay) -> Overlay:
    """Changes that are told one by one put endpoints in another order; it means nothing."""

    def sort(service: OverlayService) -> OverlayService:
        return replace(service, endpoints=tuple(sorted(service.endpoints, key=lambda each: each.address)))

    return replace(known, services={each.id: sort(each) for each in known.services.values()})


@pytest.mark.parametrize("seed", range(200))
def test_in_the_end_each_node_knows_what_the_view_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        history = History(random.Random(seed))
        right = ForHearers.frames

        def frames(told: ForHearers, node_id: str) -> object:
            if history.fails:  # as for an error of ours
                history.fails, history.failed = False, history.failed + 1
                raise RuntimeError
            return right(told, node_id)

        monkeypatch.setattr(ForHearers, "frames", frames)
        for _ in range(STEPS):
            await history.step()
        history.fails = False
        await history.swarm.settle()
        for node_id, line in history.swarm.lines.items():
            if history.swarm.sessions.has(node_id):
                known = {each: _in_order(told) for each, told in line.overlays.items()}
                assert known == history.expected(node_id), node_id
        assert history.swarm.dispatcher._dirty == history.swarm.dispatcher._attached == {}

        errors = [each for each in logs if each["log_level"] == "error"]
        assert len(errors) == history.failed, errors

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
