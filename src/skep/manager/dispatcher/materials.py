"""Secrets and configs to the nodes that have tasks for them, and to no others: once per session, and taken
back when the last such task has ended. What a node may have is decided here alone; it cannot ask."""

from __future__ import annotations

from collections.abc import Iterable

from skep.model.material import Material, MaterialPayload, references
from skep.model.states import COMPLETE, is_terminal
from skep.model.task import Task
from skep.rpc.messages import Assign
from skep.store.view import View

GIVEN_MAX_BYTES = 8 << 20  # of one frame, whose bound is 16 MB


def given(view: View, tasks: Iterable[Task], had: set[str]) -> list[Assign]:
    """Returns what goes to a node before these tasks of its, and adds it to what the node has (`had`)."""
    if not view.materials:
        return []  # most swarms have none: a hundred thousand tasks are not asked what they refer to
    frames: list[Assign] = []
    part: list[MaterialPayload] = []
    seen: set[tuple[str, int]] = set()
    size = 0
    for task in tasks:
        key = (task.service_id, task.spec_version)
        if key in seen or not _is_to_run(view, task):
            continue
        seen.add(key)
        for material in _needed(view, task):
            if material.id in had:
                continue
            had.add(material.id)
            spec = material.spec
            if part and size + len(spec.data) > GIVEN_MAX_BYTES:
                frames.append(Assign(materials=part))
                part, size = [], 0
            part.append(
                MaterialPayload(material.id, spec.data, spec.templating.name if spec.templating else "")
            )
            size += len(spec.data)
    return [*frames, Assign(materials=part)] if part else frames


def withdrawn(view: View, node_id: str, had: set[str]) -> Assign | None:
    """Returns what takes back that which no task of the node needs any more; None where all is needed."""
    if not had:
        return None
    seen: set[tuple[str, int]] = set()
    needed: set[str] = set()
    for task in view.tasks_of_node(node_id):
        key = (task.service_id, task.spec_version)
        if key not in seen and _is_live(view, task):
            seen.add(key)
            needed.update(material.id for material in _needed(view, task))
    ids = sorted(had - needed)
    had.intersection_update(needed)
    return Assign(withdrawn=ids) if ids else None


def _needed(view: View, task: Task) -> list[Material]:
    template = view.template_of(task)
    asked = references(template.spec.container_spec) if template is not None else []
    found = (view.material(*each) for each in asked)
    return [material for material in found if material is not None]


def _is_live(view: View, task: Task) -> bool:
    status = view.status_of(task)
    return status is None or not is_terminal(status.state)


def _is_to_run(view: View, task: Task) -> bool:
    return view.desired_of(task) <= COMPLETE and _is_live(view, task)
