"""Which tasks a node has too many of: it came back with less than its tasks have reserved. Pure.

SwarmKit's constraint enforcer ends such tasks, so that they start where there is room. Oldest tasks stay, as
many as fit: who has run longest is disturbed last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skep.model.generic import Held, key_and_count, stock_of
from skep.model.node import NodeResources
from skep.model.task import Task

Needs = Callable[[Task], tuple[int, int]]  # CPUs and memory that a task reserves


def is_overcommitted(resources: NodeResources, nano_cpus: int, memory_bytes: int, held: Held) -> bool:
    """True where more is held than there is. Costs a few comparisons where nothing generic is held."""
    if nano_cpus > resources.nano_cpus or memory_bytes > resources.memory_bytes:
        return True
    if not held:
        return False
    names = {
        (each.named_resource_spec.kind, each.named_resource_spec.value)
        for each in resources.generic_resources
        if each.named_resource_spec is not None
    }
    named_kinds = {kind for kind, _ in names}
    for kind, name in held:
        if name and kind in named_kinds and (kind, name) not in names:
            return True
        if stock_of(resources, held, kind).free < 0:
            return True
    return False


def tasks_to_evict(resources: NodeResources, live: Iterable[Task], needs: Needs) -> frozenset[str]:
    """Returns the ids of tasks that do not fit beside older ones. `live` are those that are to run."""
    found: set[str] = set()
    nano_cpus = memory_bytes = 0
    held: dict[tuple[str, str], int] = {}
    for task in sorted(live, key=lambda t: (t.created_at, t.id)):
        cpus, memory = needs(task)
        after = dict(held)
        for claim in task.generic:
            key, count = key_and_count(claim)
            after[key] = after.get(key, 0) + count
        # What reserves nothing of what is short is in nobody's way.
        own = after if task.generic else {}
        over_cpus = nano_cpus + cpus if cpus else 0
        over_memory = memory_bytes + memory if memory else 0
        if (cpus or memory or own) and is_overcommitted(resources, over_cpus, over_memory, own):
            found.add(task.id)
            continue
        nano_cpus, memory_bytes, held = nano_cpus + cpus, memory_bytes + memory, after
    return frozenset(found)
