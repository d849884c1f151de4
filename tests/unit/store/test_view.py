"""The leader's counters."""

from __future__ import annotations

from skep.model.states import RUNNING
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task


def test_the_usage_of_a_removed_node_ends_with_its_tasks() -> None:
    """Found by the simulation's seed 2: it was forgotten at once, and then counted below zero."""
    view = View()
    add_node(view, "a")
    add_service(view)
    task = add_task(view, "t1", "a", observed=RUNNING)
    view.drop_node("a")
    assert view.usage["a"].tasks == 1
    view.drop_task(task)
    assert "a" not in view.usage


def test_a_removed_node_without_tasks_is_forgotten_at_once() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    view.drop_task(add_task(view, "t1", "a"))
    view.drop_node("a")
    assert "a" not in view.usage
