"""A node that is paused keeps what it has and is given nothing, by updates neither, as with Docker."""

from __future__ import annotations

from msgspec.structs import replace

from skep.manager.orchestrator import global_service, updater
from skep.manager.orchestrator.slot import decide_slot
from skep.model.change import PutTask
from skep.model.service import TaskTemplate, UpdateStatus
from skep.model.states import FAILED
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task, new_ids

NOW = 1000.0


def paused(view: View) -> None:
    add_node(view, "a", availability="pause")
    add_node(view, "b")


def test_a_global_services_task_there_is_updated_once_the_node_is_active_again() -> None:
    """Its task was ended, and nothing took its place."""
    view = View()
    paused(view)
    service = add_service(view, replicas=None)
    for node_id in ("a", "b"):
        add_task(view, f"old-{node_id}", node_id, 0)
    second = TaskTemplate(version=2, spec=replace(service.template.spec, force_update=1))
    service = replace(service, templates=[*service.templates, second], version=2)
    view.put_service(service)
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    assert list(progress.remaining) == ["b"]
    assert not decide_slot(view, service, "a", NOW, new_ids()).changes
    add_node(view, "a")
    again = updater.begin(view, service, NOW)
    assert again is not None
    assert list(again.remaining) == ["a", "b"]


def test_a_node_that_is_paused_during_an_update_is_left_out() -> None:
    view = View()
    add_node(view, "a")
    service = add_service(view, replicas=None)
    add_task(view, "old", "a", 0)
    second = TaskTemplate(version=2, spec=replace(service.template.spec, force_update=1))
    service = replace(service, templates=[*service.templates, second], version=2)
    view.put_service(service)
    progress = updater.begin(view, service, NOW)
    assert progress is not None
    add_node(view, "a", availability="pause")
    begun = replace(service, update=UpdateStatus(state="updating", started_at=NOW))
    assert updater.step(view, begun, progress, [], NOW, new_ids()).wanted == ()


def test_nothing_is_started_there() -> None:
    view = View()
    paused(view)
    service = add_service(view, replicas=None)
    assert global_service.nodes_to_look_at(view, service) == ["b"]
    assert decide_slot(view, service, "a", NOW, new_ids()).wanted == ()


def test_what_fails_there_is_not_started_again() -> None:
    view = View()
    paused(view)
    service = add_service(view, replicas=None)
    add_task(view, "t", "a", 0, observed=FAILED, at=NOW)
    plan = decide_slot(view, service, "a", NOW + 100, new_ids())
    assert plan.wanted == ()
    assert [c.task.id for c in plan.changes if isinstance(c, PutTask) and c.task.result] == ["t"]
