"""How many a service may have of what the leader holds against every node, each time it looks for one.

Docker has no such bounds; with its own, a service of 100,000 constraints would hold the leader for minutes.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized

from skep.model.bounds import CONSTRAINTS_MAX, GENERIC_MAX, PLATFORMS_MAX, PREFERENCES_MAX
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Invalid


def check_bounds(spec: ServiceSpec, before: ServiceSpec | None = None) -> None:
    """`before`: the stored spec, which may have more, of an earlier skep: as many may stay.

    Errors: `Invalid`, with how many there are and may be.
    """
    had = {what: len(given) for what, given, _ in _counted(before)} if before is not None else {}
    for what, given, most in _counted(spec):
        if len(given) > max(most, had.get(what, 0)):
            raise Invalid(f"a service may have at most {most} {what}, not {len(given)}")


def _counted(spec: ServiceSpec) -> Iterable[tuple[str, Sized, int]]:
    task = spec.task_template
    if task.placement is not None:
        yield "placement constraints", task.placement.constraints, CONSTRAINTS_MAX
        yield "placement preferences", task.placement.preferences, PREFERENCES_MAX
        yield "platforms", task.placement.platforms, PLATFORMS_MAX
    if task.resources is not None and task.resources.reservations is not None:
        yield "generic resources", task.resources.reservations.generic_resources, GENERIC_MAX
