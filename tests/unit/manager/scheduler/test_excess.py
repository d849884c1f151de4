"""A node that is not what it was: what no longer fits there moves, and nothing else does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skep.manager.orchestrator.slot import decide_slot
from skep.manager.scheduler.place import Round
from skep.model.change import NewTask, PutTask
from skep.model.generic import parse_resource
from skep.model.spec import Placement
from skep.model.states import RUNNING, SHUTDOWN
from skep.model.task import TaskStatus
from skep.store.view import View
from tests.unit.builders import GIB, add_node, add_service, add_task, new_ids


def placed(view: View, count: int, service_id: str = "s") -> None:
    """Tasks as they were placed one second after the other."""
    new_id = new_ids(len(view.tasks))
    for n in range(count):
        (task,) = Round(view, 0).place([NewTask(new_id(), service_id, n + 1, 1, float(n))]).placed
        view.put_task(task)
        view.put_status(task, TaskStatus(RUNNING, 0.0))


def shrink(view: View, memory_bytes: int = 8 * GIB, generic: tuple[str, ...] = ()) -> None:
    node = view.nodes["a"]
    resources = replace(
        node.description.resources,
        memory_bytes=memory_bytes,
        generic_resources=[parse_resource(each) for each in generic],
    )
    view.put_node(
        replace(node, description=replace(node.description, resources=resources), version=node.version + 1)
    )


def ended(view: View, service_id: str = "s") -> list[int]:
    """Returns the slots whose task is to stop now."""
    service = view.services[service_id]
    found = []
    for key in view.slots[service_id]:
        changes = decide_slot(view, service, key, 50.0, new_ids(9)).changes
        found.extend(c.task for c in changes if isinstance(c, PutTask))
    return [task.slot for task in found if task.desired_state == SHUTDOWN]


def test_what_does_not_fit_beside_older_tasks_moves() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, replicas=4, reserve_memory_bytes=2 * GIB)
    add_service(view, "free", replicas=2)
    placed(view, 4)
    placed(view, 2, "free")
    assert ended(view) == []
    shrink(view, memory_bytes=5 * GIB)
    assert ended(view) == [3, 4]
    assert ended(view, "free") == [], "who reserves nothing is in nobody's way"


def test_a_paused_node_keeps_what_it_has() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, replicas=4, reserve_memory_bytes=2 * GIB)
    placed(view, 4)
    shrink(view, memory_bytes=GIB)
    node = view.nodes["a"]
    view.put_node(replace(node, spec=replace(node.spec, availability="pause"), version=node.version + 1))
    assert ended(view) == []


def test_named_resources_that_are_gone_and_counts_that_are_less_end_their_tasks() -> None:
    view = View()
    add_node(view, "a", generic=["gpu=U1", "gpu=U2", "gpu=U3", "ssd=6"])
    add_service(view, replicas=3, reserve=["gpu=1"])
    add_service(view, "d", replicas=3, reserve=["ssd=2"])
    placed(view, 3)
    placed(view, 3, "d")
    assert [t.generic for t in view.tasks_of_service("s")] == [(("gpu", f"U{n}"),) for n in (1, 2, 3)]
    shrink(view, generic=("gpu=U1", "gpu=U3", "ssd=6"))
    assert (ended(view), ended(view, "d")) == ([2], [])
    shrink(view, generic=("gpu=U1", "gpu=U2", "gpu=U3", "ssd=3"))
    assert (ended(view), ended(view, "d")) == ([], [2, 3])
    shrink(view, generic=())
    assert (ended(view), ended(view, "d")) == ([1, 2, 3], [1, 2, 3])


def test_tasks_that_stop_already_make_room() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, replicas=4, reserve_memory_bytes=2 * GIB)
    placed(view, 4)
    shrink(view, memory_bytes=6 * GIB)
    assert ended(view) == [4]
    (first,) = view.slot("s", 1)
    view.put_task(replace(first, desired_state=SHUTDOWN))
    assert ended(view) == []


@pytest.mark.parametrize("replicas", [1, None])
def test_a_paused_node_keeps_what_its_labels_no_longer_allow(replicas: int | None) -> None:
    view = View()
    add_node(view, "a", labels={"x": "1"})
    service = add_service(view, replicas=replicas, placement=Placement(constraints=["node.labels.x==1"]))
    key: int | str = "a" if replicas is None else 1
    task = add_task(view, "t", "a", 0 if replicas is None else 1)
    node = view.nodes["a"]

    def become(availability: str) -> list[str]:
        spec = replace(node.spec, labels={}, availability=availability)
        view.put_node(replace(node, spec=spec, version=view.nodes["a"].version + 1))
        changes = decide_slot(view, service, key, 50.0, new_ids(9)).changes
        return [c.task.id for c in changes if isinstance(c, PutTask) and c.task.desired_state == SHUTDOWN]

    assert become("pause") == []
    assert become("active") == ["t"]
    assert become("drain") == ["t"]
    view.put_node(
        replace(view.nodes["a"], spec=replace(node.spec, labels={}, availability="pause"), version=9)
    )
    view.drop_task(task)
    assert decide_slot(view, service, key, 50.0, new_ids(9)).wanted == (), "and takes nothing new"
