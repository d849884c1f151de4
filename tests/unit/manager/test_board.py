"""A snapshot, and the changes after it, are the next snapshot: whatever becomes of the swarm in between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from msgspec.structs import replace

from skep.manager.board import SwarmBoard
from skep.model.board import REMOVING, STATES, BoardChange, BoardSnapshot, BoardSwarm
from skep.model.node import NodeStatus
from skep.model.service import RemovedService, Service, UpdateStatus
from skep.model.states import ASSIGNED, COMPLETE, FAILED, PREPARING, RUNNING, SHUTDOWN, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus
from skep.store.view import View
from skep.web.board_state import BoardState
from tests.unit.builders import add_node, add_service, add_task

SWARM = BoardSwarm("sw", "n1", "1")
NODES, SERVICES = ("a", "b", "c", "d"), ("s", "t", "u")


def looked(board: SwarmBoard) -> SwarmBoard:
    for _ in board.work():
        pass
    return board


def begun(view: View) -> SwarmBoard:
    board = looked(SwarmBoard(view, "e", SWARM))
    board.settle()
    return board


def said(board: SwarmBoard) -> BoardSnapshot:
    return msgspec.json.decode(board.snapshot(5.0), type=BoardSnapshot)


def changed(board: SwarmBoard) -> BoardChange | None:
    change = looked(board).change(5.0)
    return None if change is None else msgspec.json.decode(change, type=BoardChange)


def counted(snapshot: BoardSnapshot) -> Counter[tuple[str, str, str]]:
    """Returns how many tasks there are by node, service and state."""
    found: Counter[tuple[str, str, str]] = Counter()
    for node, flat in zip(snapshot.nodes, snapshot.tasks, strict=True):
        for at in range(0, len(flat), 3):
            service = snapshot.services[flat[at]]
            assert service is not None, "a task of nobody's"
            found["" if node is None else node[0], service[0], STATES[flat[at + 1]]] += flat[at + 2]
    return found


def there(view: View) -> Counter[tuple[str, str, str]]:
    """Returns the same, by looking at all of them."""
    found: Counter[tuple[str, str, str]] = Counter()
    for task in view.tasks.values():
        status = view.status_of(task)
        state = ASSIGNED if status is None else status.state
        if not is_terminal(state) or task.desired_state <= COMPLETE:
            name = TaskStatus(state, 0.0).state_name
            found[task.node_id if task.node_id in view.nodes else "", task.service_id, name] += 1
    return found


def a_removed(service: Service) -> RemovedService:
    return RemovedService(id=service.id, name=service.spec.name, templates=service.templates, removed_at=0.0)


class MarkedWalk:
    """Changes a view at random, as leaders do, and marks what it changes."""

    def __init__(self, view: View, rng: random.Random, board: SwarmBoard) -> None:
        self.view, self.rng, self.board = view, rng, board
        self.made = 0

    def step(self) -> None:
        self.rng.choice(
            (
                self._node,
                self._state,
                self._drop_node,
                self._service,
                self._remove,
                *(self._task,) * 5,
                *(self._observe,) * 5,
                self._order,
                self._order,
                self._drop,
                self._drop,
                self._wait,
                self._wait_no_more,
            )
        )()

    def _node(self) -> None:
        node_id = self.rng.choice(NODES)
        add_node(self.view, node_id, availability=self.rng.choice(("active", "drain", "pause")))
        self.board.mark_node(node_id)

    def _state(self) -> None:
        if self.view.nodes:
            node_id = self.rng.choice(list(self.view.nodes))
            self.view.put_node_status(node_id, NodeStatus(self.rng.choice(("ready", "down", "unknown"))))
            self.board.mark_node(node_id)

    def _drop_node(self) -> None:
        node_id = self.rng.choice(NODES)
        self.view.drop_node(node_id)
        self.board.mark_node(node_id)

    def _service(self) -> None:
        service_id = self.rng.choice(SERVICES)
        if service_id in self.view.removed:
            return
        service = add_service(
            self.view,
            service_id,
            replicas=None if service_id == "t" else self.rng.randrange(5),
            image=f"i{self.rng.random()}",
        )
        state = self.rng.choice(("", "updating", "paused"))
        self.view.put_service(
            replace(service, update=UpdateStatus(state=state, started_at=0.0) if state else None)
        )
        self.board.mark_service(service_id)

    def _remove(self) -> None:
        service = self.view.services.get(self.rng.choice(SERVICES))
        if service is not None and self.rng.random() < 0.5:
            self.view.remove_service(a_removed(service))
            self.board.mark_service(service.id)
            if not any(self.view.tasks_of_service(service.id)):
                self.view.drop_removed(service.id)

    def _task(self) -> None:
        if self.view.services:
            self.made += 1
            service_id = self.rng.choice(list(self.view.services))
            task_id = f"k{self.made}"
            add_task(
                self.view, task_id, self.rng.choice(NODES), self.made, service_id=service_id, observed=None
            )
            self.board.mark_task(task_id)

    def _one(self) -> Task | None:
        return self.rng.choice(list(self.view.tasks.values())) if self.view.tasks else None

    def _observe(self) -> None:
        if task := self._one():
            state = self.rng.choice((PREPARING, RUNNING, RUNNING, COMPLETE, FAILED))
            if self.view.put_status(task, TaskStatus(state, 1.0)):
                self.board.mark_task(task.id)

    def _order(self) -> None:
        if task := self._one():
            self.view.put_task(replace(task, desired_state=self.rng.choice((RUNNING, SHUTDOWN))))
            self.board.mark_task(task.id)

    def _drop(self) -> None:
        if task := self._one():
            self.view.drop_task(task)
            self.board.mark_task(task.id)
            removed = self.view.removed.get(task.service_id)
            if removed is not None and not any(self.view.tasks_of_service(removed.id)):
                self.view.drop_removed(removed.id)

    def _wait(self) -> None:
        if "s" in self.view.services:
            self.made += 1
            self.view.put_pending(PendingTask(f"p{self.made}", "s", self.rng.randrange(1, 4), 1, 0.0))

    def _wait_no_more(self) -> None:
        self.view.drop_pending("s", self.rng.randrange(1, 4))


def walks(seed: int) -> Iterator[tuple[View, SwarmBoard]]:
    """Yields a view after some steps, again and again; the board has its marks, and looked at none of them."""
    rng, view = random.Random(seed), View()
    board = begun(view)
    walk = MarkedWalk(view, rng, board)
    for _ in range(40):
        for _ in range(rng.randrange(8)):
            walk.step()
        yield view, board


@pytest.mark.parametrize("seed", range(40))
def test_a_snapshot_and_its_changes_are_the_next_snapshot(seed: int) -> None:
    copy = None
    for view, board in walks(seed):
        if copy is None:
            copy = BoardState(said(board))
        change = changed(board)
        if change is not None:
            copy.apply(change)
        assert copy.snapshot == said(board)
        assert counted(copy.snapshot) == there(view)


@pytest.mark.parametrize("seed", range(40))
def test_one_that_followed_says_what_a_new_one_says(seed: int) -> None:
    for view, board in walks(seed):
        changed(board)
        followed, new = said(board), said(begun(view))
        for kind in ("nodes", "services"):
            rows = [sorted(filter(None, getattr(each, kind))) for each in (followed, new)]
            assert rows[0] == rows[1]
        assert counted(followed) == counted(new)
        assert len(followed.nodes) <= len(NODES) + 1, "places are given again"
        assert len(followed.services) <= len(SERVICES)


def test_what_did_not_change_is_not_told() -> None:
    view = View()
    add_node(view, "n")
    add_service(view, "s")
    add_task(view, "k", "n", service_id="s")
    board = begun(view)
    for _ in range(2):
        board.mark_node("n")
        board.mark_service("s")
        board.mark_task("k")
        board.mark_task("nobody")
        assert changed(board) is None
    assert board.seq == 0


def test_what_is_told_of_a_task_that_starts() -> None:
    view = View()
    add_node(view, "n")
    add_service(view, "s", replicas=1, image="nginx")
    board = begun(view)
    assert said(board).services == [("s", "name-s", "replicated", 1, "nginx", "")]
    assert said(board).nodes == [("n", "host-n", 0, 1, 0)]
    task = add_task(view, "k", "n", service_id="s", observed=None)
    board.mark_task("k")
    change = changed(board)
    assert change is not None
    assert (change.seq, change.leader, change.nodes, change.services) == (1, "n1", [], [])
    assert change.tasks == [(0, [0, STATES.index("assigned"), 1])]
    view.put_status(task, TaskStatus(RUNNING, 1.0))
    board.mark_task("k")
    change = changed(board)
    assert change is not None
    assert change.tasks == [(0, [0, STATES.index("running"), 1])]


def test_a_global_service_wants_what_its_nodes_do() -> None:
    view = View()
    add_node(view, "n")
    add_service(view, "t", replicas=None)
    board = begun(view)
    task = add_task(view, "k", "n", service_id="t", observed=RUNNING)
    board.mark_task("k")
    change = changed(board)
    assert change is not None
    assert next(row for _, row in change.services if row is not None)[3] == 1
    view.put_task(replace(task, desired_state=SHUTDOWN))
    board.mark_task("k")
    change = changed(board)
    assert change is not None
    assert next(row for _, row in change.services if row is not None)[3] == 0
    assert change.tasks == [], "it runs still"


def test_a_service_that_is_removed_stays_until_its_last_task_is_gone() -> None:
    view = View()
    add_node(view, "n")
    service = add_service(view, "s", image="nginx")
    task = add_task(view, "k", "n", service_id="s", observed=RUNNING)
    board = begun(view)
    view.remove_service(a_removed(service))
    board.mark_service("s")
    change = changed(board)
    assert change is not None
    assert change.services == [(0, ("s", "name-s", "", 0, "nginx", REMOVING))]
    view.drop_task(task)
    view.drop_removed("s")
    board.mark_task("k")
    change = changed(board)
    assert change is not None
    assert change.services == [(0, None)]


def test_a_large_swarm_is_looked_at_in_steps() -> None:
    view = View()
    add_node(view, "n")
    add_service(view, "s")
    for number in range(5000):
        add_task(view, f"k{number}", "n", number + 1, service_id="s")
    assert sum(1 for _ in SwarmBoard(view, "e", SWARM).work()) >= 2


def test_an_image_with_a_long_name_is_cut() -> None:
    view = View()
    add_service(view, "s", image="i" * 5000)
    row = said(begun(view)).services[0]
    assert row is not None
    assert len(row[4]) == 256
