"""Replicated services: as many slots as replicas. Slots fill from 1, surplus goes where it hurts least."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from skep.model.change import Change, DropTask, NewTask, PutTask
from skep.model.service import Service
from skep.model.states import READY, REMOVE, RUNNING
from skep.runtime.ids import NewId
from skep.store.view import SlotKey, View

from .slot import is_live, is_lost, new_task


class ScalePlan(Struct, frozen=True):
    """What is to change; `more` when the batch was full and the service must be looked at again."""

    changes: tuple[Change, ...] = ()
    wanted: tuple[NewTask, ...] = ()
    retired: tuple[SlotKey, ...] = ()
    more: bool = False
    last: int = 0  # the last slot number given out


def decide_scale(
    view: View, service: Service, now: float, new_id: NewId, batch_max: int, after: int = 0, placed: int = 0
) -> ScalePlan:
    """Returns tasks for missing slots (at most `batch_max`) or the removal of surplus ones.

    A large scale-up is decided in slices: `after` is the last slot of the slice before, `placed` how many
    tasks of the slices before have a node, and are not in the view yet; pending ones are.
    """
    replicas = service.spec.replicas or 0
    slots = view.slots.get(service.id, {})
    pending = view.pending.get(service.id, {})
    held = {k for k, tasks in slots.items() if tasks[-1].desired_state != REMOVE}
    held.update(pending)
    if len(held) == replicas:
        return ScalePlan()
    if len(held) > replicas:
        return _shrink(view, service, held, len(held) - replicas, now)
    missing = replicas - len(held) - placed
    wanted: list[NewTask] = []
    number = after
    while len(wanted) < min(missing, batch_max):
        number += 1
        if number in held:
            continue
        if number in slots:  # what was retired there still stops: who comes waits for that
            wanted.append(new_task(service, number, now, new_id, READY, slots[number][-1]))
        else:
            wanted.append(new_task(service, number, now, new_id))
    return ScalePlan(wanted=tuple(wanted), more=missing > len(wanted), last=number)


def _shrink(view: View, service: Service, held: set[SlotKey], surplus: int, now: float) -> ScalePlan:
    """Retires slots that do not run first, then those on the nodes with most of this service's tasks."""
    live = dict(view.live.get(service.id, {}))
    ranked: list[tuple[int, str, int]] = []
    for key in held:
        tasks = [t for t in view.slot(service.id, key) if is_live(t)]
        number = key if isinstance(key, int) else 0
        if not tasks:
            ranked.append((0, "", number))
            continue
        status = view.status_of(tasks[-1])
        running = 1 if status is not None and status.state == RUNNING else 0
        ranked.append((running, tasks[-1].node_id, number))
    idle = sorted((r for r in ranked if not r[0]), key=lambda r: -r[2])
    chosen = [r[2] for r in idle[:surplus]]
    if len(chosen) < surplus:
        chosen += _from_crowded(ranked, live, surplus - len(chosen))
    changes: list[Change] = []
    for number in chosen:
        for task in view.slot(service.id, number):
            if task.result is not None or is_lost(view, task):
                changes.append(DropTask(task))
            else:
                changes.append(PutTask(replace(task, desired_state=REMOVE, updated_at=now)))
    return ScalePlan(tuple(changes), retired=tuple(chosen))


def _from_crowded(ranked: list[tuple[int, str, int]], live: dict[str, int], count: int) -> list[int]:
    """Takes one slot at a time from the node that holds most, newest slot first."""
    by_node: dict[str, list[int]] = {}
    for running, node_id, number in ranked:
        if running:
            by_node.setdefault(node_id, []).append(number)
    levels: dict[int, list[str]] = {}
    for node_id, numbers in by_node.items():
        numbers.sort()
        levels.setdefault(max(live.get(node_id, 0), len(numbers)), []).append(node_id)
    chosen: list[int] = []
    level = max(levels, default=0)
    while len(chosen) < count and level > 0:
        for node_id in sorted(levels.pop(level, [])):
            if len(chosen) == count:
                break
            chosen.append(by_node[node_id].pop())
            if by_node[node_id]:
                levels.setdefault(level - 1, []).append(node_id)
        level -= 1
    return chosen
