"""What `docker service ls` counts: what runs, whether it is to go on or not."""

from __future__ import annotations

from skep.api.service_objects import service_json
from skep.model.states import READY, REMOVE, SHUTDOWN
from skep.model.task import TaskStatus
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task


def counted(view: View) -> tuple[int, int]:
    status = service_json(view, view.services["s"], with_status=True).service_status
    assert status is not None
    return status.running_tasks, status.desired_tasks


def test_what_is_still_stopping_runs_but_not_on_a_lost_node() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    add_service(view, replicas=2)
    add_task(view, "t1", "a", 1)
    add_task(view, "t2", "a", 2, observed=READY)
    stopping = [add_task(view, f"s{n}", node, n, desired=REMOVE) for n, node in ((3, "a"), (4, "b"))]
    assert counted(view) == (3, 2)
    add_node(view, "b", state="down")
    assert counted(view) == (2, 2)
    view.put_status(stopping[0], TaskStatus(SHUTDOWN, 1.0))
    assert counted(view) == (1, 2)
    for task in stopping:
        view.drop_task(task)
    assert counted(view) == (1, 2)
    assert view.stopping["s"] == {}
