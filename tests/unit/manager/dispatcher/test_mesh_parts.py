"""Published services with very many tasks: who hears of which, and by which nodes connections come."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from msgspec.structs import replace

from skep.agent.arriving import is_serving, is_told
from skep.agent.mesh_known import KnownMesh
from skep.manager.dispatcher import batches, mesh_cut, mesh_teller, networks
from skep.manager.dispatcher.cutting import part_of
from skep.model.mesh import Mesh, MeshEndpoint, MeshPart, MeshPort, MeshService
from skep.model.node import NodeStatus
from skep.model.overlay import packed
from skep.model.service import Endpoint, RemovedService
from skep.model.states import FAILED, RUNNING, SHUTDOWN
from skep.model.task import Task, TaskStatus
from skep.rpc.messages import MESH, MESH_CHANGES, MESH_PARTS, MeshTold
from skep.store.view import View
from tests.unit.builders import add_node

from .test_mesh_dispatcher import PORT, Line, Swarm, _published, _task, _view

NODES = [f"n{number:02}" for number in range(16)]
LATEST = (MESH, MESH_CHANGES, MESH_PARTS)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tasks are very many, and nobody is waited for."""
    monkeypatch.setattr(mesh_cut, "WHOLE_MAX", 8)
    monkeypatch.setattr(mesh_cut, "PART_MAX", 4)
    monkeypatch.setattr(mesh_teller, "ANNOUNCE_S", 0.0)
    monkeypatch.setattr(networks, "SETTLED_S", 0.0)
    monkeypatch.setattr(batches, "BATCH_S", 3600.0)  # told when a test says so


class Large(Swarm):
    """A swarm with one service, `s`, on some nodes."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.number = 0

    def come_all(self, *features: str) -> None:
        for node_id in sorted(self.view.nodes):
            self.come(node_id, *(features or LATEST))

    def run(self, count: int, observed: int | None = RUNNING) -> list[Task]:
        """Places so many more tasks."""
        made = []
        nodes = sorted(self.view.nodes)
        for _ in range(count):
            self.number += 1
            node_id = nodes[self.number % len(nodes)]
            task = _task(self.view, f"t{self.number}", node_id, self.number, observed=observed)
            self.mesh.publish({node_id: ([task], [])})
            made.append(task)
        return made

    def drop(self, task: Task) -> None:
        self.view.drop_task(task)
        self.mesh.publish({task.node_id: ([], [task])})

    def end(self, task: Task) -> None:
        leaving = replace(task, desired_state=SHUTDOWN)
        self.view.put_task(leaving)
        self.mesh._batches._not_before = 0.0  # nothing is on its way
        self.mesh.publish({task.node_id: ([leaving], [])})

    def serve(self, task: Task) -> None:
        self.view.put_status(task, TaskStatus(RUNNING, 2.0))
        self.mesh.reported(task, TaskStatus(RUNNING, 2.0))

    def tell(self) -> None:
        self.mesh._batches._not_before = 0.0
        self.mesh._batches._flush()

    def calm(self) -> None:
        self.mesh._many_told_at = -networks.TOLD_S  # who waits has waited
        self.tell()
        while self.mesh._services.is_dirty:
            self.tell()
        self.mesh._many_told_at = -networks.TOLD_S
        for _ in range(3):  # what is announced comes with the next one
            self.tell()

    # What is so

    def endpoints(self) -> set[MeshEndpoint]:
        found = set()
        for task in self.view.tasks.values():
            status = self.view.status_of(task)
            if status is None or status.state <= RUNNING:
                takes_new = status is not None and status.state == RUNNING and task.desired_state <= RUNNING
                address = task.addresses[0].address.partition("/")[0]
                found.add(MeshEndpoint(address, task.node_id, takes_new))
        return found

    def known(self, line: Line) -> set[MeshEndpoint]:
        service = line.mesh.services.get("s")
        return set(service.endpoints) if service is not None else set()

    def check(self, is_calm: bool = True) -> None:
        """What must be so each time that something was told; `is_calm`: nothing is about to come."""
        there = self.endpoints()
        is_all = not self.mesh._services.is_dirty and not self.mesh._parts.waiting
        for node_id, line in self.lines.items():
            known = self.known(line)
            assert not is_all or known <= there, "as they are"
            assert len({each.address for each in known}) == len(known)
            assert not is_all or {each for each in there if each.node_id == node_id} <= known, "its own"
            if is_all and any(each.takes_new for each in there):
                assert any(each.takes_new for each in known), "nobody has none"
            for each in known:
                assert each.node_id in line.mesh.nodes or each.node_id not in self.view.nodes
                if each.node_id != node_id and each.node_id in self.lines:
                    host = self.lines[each.node_id].mesh
                    ways = host.returns.union(host.nodes.values())
                    assert self.address(node_id) in ways, "a way back, before"
        if is_calm:
            self._check_even({each.address for each in there if each.takes_new})

    def _check_even(self, serving: set[str]) -> None:
        counts = Counter[int]()
        for line in self.lines.values():
            counts.update(number for _, number, _ in line.known.parts)
        if counts and serving:
            (count,) = {count for line in self.lines.values() for _, _, count in line.known.parts}
            parts = {part_of(address, count) for address in serving}
            assert counts.keys() <= parts, "who leads to nothing has moved on"
            sizes = [counts[each] for each in parts]
            assert max(sizes) - min(sizes) <= 1

    def address(self, node_id: str) -> str:
        return self.lines[node_id].remote_host


def _swarm(*nodes: str) -> Large:
    view = _view(*(nodes or NODES))
    _published(view)
    swarm = Large(view)
    swarm.come_all()
    return swarm


async def test_each_node_leads_to_a_part_and_to_its_own() -> None:
    swarm = _swarm()
    tasks = swarm.run(48, observed=None)
    swarm.calm()
    swarm.check()
    assert all(len(swarm.known(line)) == 3 for line in swarm.lines.values()), "its own, before they serve"
    for task in tasks:
        swarm.serve(task)
    swarm.calm()
    swarm.check()
    parts = Counter(line.known.parts[0][1:] for line in swarm.lines.values())
    assert parts == {(number, 8): 2 for number in range(8)}
    assert all(len(swarm.known(line)) < 20 for line in swarm.lines.values())
    assert all(len(line.mesh.returns) < 13 for line in swarm.lines.values())
    assert all(len(line.mesh.nodes) < 13 for line in swarm.lines.values())


async def test_a_small_one_is_told_whole_and_ways_back_by_address() -> None:
    swarm = _swarm()
    swarm.run(8)
    swarm.calm()
    swarm.check()
    for node_id, line in swarm.lines.items():
        assert not line.known.parts
        assert len(swarm.known(line)) == 8
        is_host = any(each.node_id == node_id for each in swarm.endpoints())
        assert len(line.mesh.returns) == (16 if is_host else 0)


async def test_one_that_grows_and_shrinks_is_told_anew_and_nobody_has_none() -> None:
    swarm = _swarm()
    tasks = swarm.run(7)
    swarm.calm()
    for _ in range(12):
        tasks += swarm.run(5)
        for _ in range(3):
            swarm.tell()
            swarm.check(is_calm=False)
        swarm.check()
    assert {count for line in swarm.lines.values() for _, _, count in line.known.parts} == {8}
    while tasks:
        for task in [tasks.pop() for _ in range(min(3, len(tasks)))]:
            swarm.drop(task)
        for _ in range(3):
            swarm.tell()
            swarm.check(is_calm=False)
        swarm.check()
    assert all(not line.known.parts for line in swarm.lines.values())


async def test_a_task_that_is_to_end_is_told_of_at_once() -> None:
    swarm = _swarm()
    tasks = swarm.run(48)
    swarm.calm()
    swarm.end(tasks[5])
    address = tasks[5].addresses[0].address.partition("/")[0]
    for line in swarm.lines.values():
        assert not any(e.address == address and e.takes_new for e in swarm.known(line))
    host = swarm.lines[tasks[5].node_id].mesh
    assert is_told(host, {}, "s", tasks[5].addresses)
    assert not is_serving(host, {}, "s", tasks[5].addresses)
    assert is_serving(swarm.lines[tasks[6].node_id].mesh, {}, "s", tasks[6].addresses)


async def test_a_change_of_one_task_costs_its_part_and_its_node() -> None:
    swarm = _swarm()
    tasks = swarm.run(48)
    swarm.calm()
    before = {node_id: len(line.sent) for node_id, line in swarm.lines.items()}
    swarm.view.put_status(tasks[0], TaskStatus(FAILED, 2.0))
    swarm.mesh.reported(tasks[0], TaskStatus(FAILED, 2.0))
    swarm.tell()
    told = [node_id for node_id, line in swarm.lines.items() if len(line.sent) > before[node_id]]
    assert len(told) <= 3
    swarm.calm()
    swarm.check()


async def test_with_a_new_leader_each_node_leads_to_the_part_that_it_led_to() -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    before = {node_id: line.known.parts for node_id, line in swarm.lines.items()}
    again = Large(swarm.view)
    for node_id in reversed(NODES):  # whoever comes first
        again.come(node_id, *LATEST, known=swarm.lines[node_id].known)
        again.tell()
        assert again.lines[node_id].known.parts == before[node_id]
    again.calm()
    again.check()
    assert {node_id: line.known.parts for node_id, line in again.lines.items()} == before


async def test_a_new_leader_takes_nobodys_way_back_before_all_have_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    monkeypatch.setattr(networks, "SETTLED_S", 3600.0)
    before = {node_id: line.mesh.returns for node_id, line in swarm.lines.items()}
    again = Large(swarm.view)
    for node_id in NODES[:9]:
        again.come(node_id, *LATEST, known=swarm.lines[node_id].known)
    again.calm()
    for node_id in NODES[:9]:
        assert again.lines[node_id].mesh.returns >= before[node_id]
    again.mesh._settled_at = 0.0
    again.calm()
    late = {again.address(node_id) for node_id in NODES[:9]}
    for node_id in NODES[:9]:
        assert again.lines[node_id].mesh.returns <= late, "who has not come is nobody's way"


async def test_earlier_agents_hear_of_all_of_it() -> None:
    swarm = _swarm()
    swarm.come("n03", MESH)
    swarm.come("n04", MESH, MESH_CHANGES)
    tasks = swarm.run(48)
    swarm.calm()
    swarm.end(tasks[7])
    swarm.calm()
    for node_id in ("n03", "n04"):
        assert swarm.known(swarm.lines[node_id]) == swarm.endpoints()
        assert len(swarm.lines[node_id].mesh.nodes) == 16
    for node_id, line in swarm.lines.items():
        known = line.mesh.returns.union(line.mesh.nodes.values())
        assert swarm.address("n03") in known, node_id
    others = [line for node_id, line in swarm.lines.items() if node_id not in ("n03", "n04")]
    assert all(len(swarm.known(line)) < 20 for line in others)
    for node_id in ("n03", "n04"):  # they are upgraded
        swarm.come(node_id, *LATEST)
    swarm.calm()
    swarm.check()
    assert all(len(line.mesh.returns) < 13 for line in swarm.lines.values())


async def test_of_a_removed_service_nothing_is_left() -> None:
    swarm = _swarm()
    tasks = swarm.run(48)
    swarm.calm()
    swarm.view.remove_service(RemovedService(id="s", name="s", templates=[], removed_at=1.0))
    swarm.mesh._batches._not_before = 0.0
    swarm.mesh.service_changed("s")
    assert not any(each.takes_new for line in swarm.lines.values() for each in swarm.known(line))
    for task in tasks:
        swarm.drop(task)
    swarm.calm()
    for line in swarm.lines.values():
        assert (line.mesh.services, line.mesh.returns, line.known.parts) == ({}, frozenset(), [])


async def test_what_is_left_to_look_at_is_waited_for_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    monkeypatch.setattr(networks, "SETTLED_AT_ONCE", 8)
    tasks = swarm.run(48)
    before = sum(len(line.sent) for line in swarm.lines.values())
    swarm.tell()
    assert sum(len(line.sent) for line in swarm.lines.values()) == before
    await asyncio.sleep(networks.TOLD_S)
    swarm.tell()
    assert sum(len(line.sent) for line in swarm.lines.values()) > before
    swarm.tell()
    before = sum(len(line.sent) for line in swarm.lines.values())
    swarm.end(tasks[40])  # its node is told next
    assert sum(len(line.sent) for line in swarm.lines.values()) > before
    swarm.calm()
    swarm.check()


async def test_many_nodes_are_told_of_new_tasks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    monkeypatch.setattr(networks, "MANY_NODES", 5)
    await asyncio.sleep(networks.TOLD_S)
    _is_told(swarm, swarm.run(16), at_once=True)  # there was nothing before
    tasks = swarm.run(16)
    _is_told(swarm, tasks, at_once=False)
    _is_told(swarm, swarm.run(2), at_once=False)  # they wait with the others
    await asyncio.sleep(networks.TOLD_S)
    _is_told(swarm, tasks, at_once=True)
    few = swarm.run(2)
    _is_told(swarm, few, at_once=True)
    tasks = swarm.run(16)
    _is_told(swarm, tasks, at_once=False)
    swarm.end(few[0])  # its node is told next
    _is_told(swarm, tasks, at_once=True)
    swarm.calm()
    swarm.check()


def _is_told(swarm: Large, tasks: list[Task], at_once: bool) -> None:
    swarm.tell()
    for task in tasks:
        known = {each.address for each in swarm.known(swarm.lines[task.node_id])}
        assert (task.addresses[0].address.partition("/")[0] in known) is at_once


async def test_who_comes_while_others_wait_finds_its_way_back_known(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    monkeypatch.setattr(networks, "SETTLED_AT_ONCE", 8)
    swarm.run(48)
    swarm.tell()  # looks at some, and tells nobody
    add_node(swarm.view, "m1", addr="198.51.100.1")
    swarm.come("m1", *LATEST)
    swarm.tell()
    swarm.check(is_calm=False)


async def test_what_a_node_is_told_at_once_is_one_change() -> None:
    swarm = _swarm()
    tasks = swarm.run(48, observed=None)
    swarm.calm()
    for line in swarm.lines.values():
        line.sent.clear()
    for task in tasks:
        swarm.serve(task)
    swarm.tell()
    for line in swarm.lines.values():
        assert [bool(each.own) for each in line.sent] == [True, False]
        assert [bool(each.parts) for each in line.sent] == [False, True]
        assert [each.more for each in line.sent] == [True, False]


async def test_other_words_of_a_service_are_told_without_its_tasks() -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    known = {node_id: swarm.known(line) for node_id, line in swarm.lines.items()}
    for line in swarm.lines.values():
        line.sent.clear()
    service = swarm.view.services["s"]
    port = replace(PORT, published_port=9090)
    swarm.view.put_service(replace(service, endpoint=Endpoint(ports=[port]), version=2))
    swarm.mesh.service_changed("s")
    swarm.calm()
    for node_id, line in swarm.lines.items():
        assert line.mesh.services["s"].ports == (MeshPort("tcp", 9090, 80),)
        assert swarm.known(line) == known[node_id]
        told = [e for said in line.sent for e in (*said.own, *(part.service for part in said.parts))]
        assert told
        assert not any(each.endpoints for each in told)
    swarm.check()


async def test_ways_back_by_a_node_that_has_moved_are_told_anew() -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    swarm.come("n05", *LATEST, data_addr="203.0.113.5")
    swarm.calm()
    ways = {
        node_id: line.mesh.returns.union(line.mesh.nodes.values()) for node_id, line in swarm.lines.items()
    }
    assert any("203.0.113.5" in each for each in ways.values())
    assert not any(swarm.view.nodes["n05"].addr in each for each in ways.values())


@pytest.mark.parametrize("seed", range(16))
async def test_whatever_comes_and_goes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes with sessions anew, lost ones, new leaders and errors of ours among them; tasks are looked at some
    at a time in every second run."""
    rng = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(networks, "SETTLED_AT_ONCE", 5)
    if seed % 3 == 0:
        monkeypatch.setattr(networks, "MANY_NODES", 4)
    swarm = _swarm(*NODES[: rng.randrange(3, 17)])
    tasks: dict[str, Task] = {}
    send = swarm.sessions.send_frame
    monkeypatch.setattr(batches, "AGAIN_S", 0.0)
    for step in range(60):
        what = rng.random()
        if what < 0.35:
            waiting = None if rng.random() < 0.5 else RUNNING
            tasks |= {each.id: each for each in swarm.run(rng.randrange(1, 12), waiting)}
        elif what < 0.55 and tasks:
            for task_id in rng.sample(sorted(tasks), min(len(tasks), rng.randrange(1, 16))):
                swarm.drop(tasks.pop(task_id))
        elif what < 0.75:
            for task in rng.sample(list(tasks.values()), len(tasks) // 2):
                swarm.serve(task)
        elif what < 0.80 and tasks:
            task = rng.choice(sorted(tasks.values(), key=lambda each: each.id))
            swarm.end(task)
            tasks[task.id] = swarm.view.tasks[task.id]
        elif what < 0.87:
            node_id = f"m{step}"
            add_node(swarm.view, node_id, addr=f"198.51.100.{step}")
            swarm.come(node_id, *LATEST)
        elif what < 0.92:
            node_id = rng.choice(sorted(swarm.lines))
            swarm.come(node_id, *LATEST, known=swarm.lines[node_id].known)
        elif what < 0.96 and len(swarm.view.nodes) > 3:
            _lose(swarm, rng.choice(sorted(swarm.lines)), tasks)
        else:
            lines = swarm.lines
            swarm = Large(swarm.view)
            swarm.number = max([int(each[1:]) for each in tasks], default=0)
            for node_id in sorted(lines, key=lambda _: rng.random()):
                swarm.come(node_id, *LATEST, known=lines[node_id].known)
            send = swarm.sessions.send_frame
        if rng.random() < 0.1:
            _fail_once(swarm, monkeypatch, rng)
            swarm.tell()
            monkeypatch.setattr(swarm.sessions, "send_frame", send)
            swarm.mesh._batches.soon()
        elif rng.random() < 0.5:
            swarm.tell()
            swarm.check(is_calm=False)
    swarm.calm()
    swarm.check()


def _lose(swarm: Large, node_id: str, tasks: dict[str, Task]) -> None:
    """The node is taken out of the swarm, with its tasks."""
    for task in [each for each in tasks.values() if each.node_id == node_id]:
        swarm.drop(tasks.pop(task.id))
    swarm.sessions.node_removed(node_id)
    swarm.view.drop_node(node_id)
    swarm.mesh.node_removed(node_id)
    del swarm.lines[node_id]


def _fail_once(swarm: Large, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    send, left = swarm.sessions.send_frame, rng.randrange(4)

    def fails(node_id: str, frame: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError
        send(node_id, frame)

    monkeypatch.setattr(swarm.sessions, "send_frame", fails)


async def test_nobody_leads_by_a_node_that_is_down() -> None:
    swarm = _swarm()
    swarm.run(48)
    swarm.calm()
    line = swarm.lines.pop("n05")
    address = line.remote_host
    swarm.view.put_node_status("n05", NodeStatus("down"))
    swarm.sessions.closed(line, "n05", "it is lost")
    swarm.mesh.node_changed("n05")
    swarm.calm()
    assert not any("n05" in {e.node_id for e in swarm.known(each)} for each in swarm.lines.values())
    assert not any(address in each.mesh.returns for each in swarm.lines.values())
    await asyncio.sleep(0)


def test_what_a_node_is_told_of_parts_it_puts_together() -> None:
    known, own = KnownMesh(), MeshEndpoint("10.0.0.1", "a")
    there, other = MeshEndpoint("10.0.0.2", "b"), MeshEndpoint("10.0.0.3", "c")
    web = MeshService("s", "web", (MeshPort("tcp", 8080, 80),))
    nodes = ("b", "192.0.2.2"), ("c", "192.0.2.3")
    part = MeshPart(replace(web, endpoints=(own, there, other)), 3, 8, nodes)
    known.told(MeshTold(True, nodes=[("a", "192.0.2.1")], parts=[part], more=True))
    known.told(MeshTold(own=[replace(web, endpoints=(own,))], returns=packed(["192.0.2.9", "192.0.2.8"])))
    assert known.parts == [("s", 3, 8)]
    assert set(known.mesh.services["s"].endpoints) == {own, there, other}
    assert known.mesh.nodes == {"a": "192.0.2.1", **dict(nodes)}
    gone = replace(web, gone=("10.0.0.1", "10.0.0.2"))
    known.told(MeshTold(parts=[MeshPart(gone, 3, 8)], gone_returns=packed(["192.0.2.8"])))
    assert set(known.mesh.services["s"].endpoints) == {own, other}, "its own it is told of by itself"
    assert known.mesh.nodes == {"a": "192.0.2.1", "c": "192.0.2.3"}, "nodes go with their tasks"
    assert known.mesh.returns == {"192.0.2.9"}
    kept = known.mesh.services["s"]
    known.told(MeshTold(services=[replace(web, id="t")]))
    assert known.mesh.services["s"] is kept, "what was not told is the same"
    known.told(MeshTold(services=[replace(web, endpoints=(there,))]))
    assert known.mesh.services["s"].endpoints == (there,)
    assert known.parts == []
    known.told(MeshTold(True), keeps_returns=True)
    assert known.mesh == Mesh(returns=frozenset({"192.0.2.9"}))
    known.told(MeshTold(True, returns=packed(["192.0.2.7"]), returns_whole=True), keeps_returns=True)
    assert known.mesh.returns == {"192.0.2.7"}
    known.told(MeshTold(True))
    assert known.mesh == Mesh(), "an earlier manager says nothing of it"


def test_what_is_put_together_at_the_end_is_what_it_would_be_at_each_step() -> None:
    rng = random.Random(1)
    often, late = KnownMesh(), KnownMesh()
    for _ in range(200):
        said = _anything(rng)
        keeps_returns = rng.random() < 0.5
        often.told(said, keeps_returns)
        late.told(said, keeps_returns)
        assert often.mesh is often.mesh
        if rng.random() < 0.1:
            assert late.mesh == often.mesh
    assert late.mesh == often.mesh


def _anything(rng: random.Random) -> MeshTold:
    endpoints = [MeshEndpoint(f"10.0.0.{n}", f"n{n % 3}", rng.random() < 0.7) for n in range(9)]
    some = rng.sample(endpoints, 3)
    service = MeshService(rng.choice("st"), "web", (), tuple(some[:2]))
    if rng.random() < 0.7:
        service = replace(service, gone=(some[2].address,))
    nodes = (("n0", "192.0.2.1"), ("n1", "192.0.2.2"))
    what = rng.randrange(6)
    return MeshTold(
        complete=rng.random() < 0.1,
        nodes=list(nodes) if what == 0 else [],
        gone_nodes=["n0"] if what == 1 else [],
        services=[service] if what == 2 else [],
        gone_services=[service.id] if what == 3 else [],
        parts=[MeshPart(service, 1, 4, nodes)] if what in (4, 5) else [],
        own=[replace(service, endpoints=()) if rng.random() < 0.3 else service] if what == 5 else [],
        returns=packed([f"192.0.2.{rng.randrange(1, 9)}"]) if rng.random() < 0.5 else b"",
        gone_returns=packed([f"192.0.2.{rng.randrange(1, 9)}"]) if rng.random() < 0.3 else b"",
        returns_whole=rng.random() < 0.2,
    )
