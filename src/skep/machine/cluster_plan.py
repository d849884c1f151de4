"""What is to be done so that a cluster is there: read from which of its machines are. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from skep.machine.clusters import MachineCluster
from skep.machine.names import check_name, compact
from skep.runtime.errors import Conflict, Invalid


class Made(StrEnum):
    """How far a machine is."""

    MISSING = "missing"
    HALF = "half-made"
    WHOLE = "whole"


class ClusterPlan(Struct, frozen=True):
    """Machines to create, and to go on with; then all join, those that are in it already apart."""

    create: tuple[str, ...]
    provision: tuple[str, ...]
    cluster: MachineCluster


def decide(cluster: MachineCluster, made: Mapping[str, Made]) -> ClusterPlan:
    """Returns what is to be done. Errors: `Invalid`, `Conflict` for names that say two things."""
    if not cluster.managers:
        raise Invalid("a cluster has a manager at least: --managers mg[0:2]")
    if both := sorted(set(cluster.managers) & set(cluster.workers)):
        raise Conflict(f"{', '.join(both)}: to be a manager and a worker at once")
    for name in cluster.names:
        check_name(name)
    by_state = {state: tuple(name for name in cluster.names if made[name] is state) for state in Made}
    return ClusterPlan(by_state[Made.MISSING], by_state[Made.HALF], cluster)


def plan_lines(plan: ClusterPlan, driver: str) -> list[str]:
    """Returns what users are told of it before anything is done."""
    lines = []
    if plan.create:
        lines.append(f"create {_shown(plan.create)} (driver {driver})")
    if plan.provision:
        lines.append(f"go on with {_shown(plan.provision)}, half-made")
    first, *others = plan.cluster.managers
    lines.append(f"docker swarm init on {first}, where none of the managers is in a swarm")
    if others:
        lines.append(f"join {_shown(others)} as managers, one after the other")
    if plan.cluster.workers:
        lines.append(f"join {_shown(plan.cluster.workers)} as workers")
    if len(plan.cluster.managers) % 2 == 0:
        lines.append(f"Note: {len(plan.cluster.managers)} managers bear no more losses than one less would")
    return lines


def _shown(names: Sequence[str]) -> str:
    return " ".join(compact(names))
