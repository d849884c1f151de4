"""How many of each a service may have: of what the leader holds against every node or gives to every task.

Docker has no such bounds; with its own, a service of 100,000 constraints would hold the leader for minutes,
each time it looks for a node. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized

from skep.model.spec import ServiceSpec
from skep.runtime.errors import Invalid

# Each is looked at for each node: 1 µs, so these are 0.1 s in a swarm of a thousand. People write five.
CONSTRAINTS_MAX = 100
PLATFORMS_MAX = 100  # clients copy an image's list; the longest in use have twenty
GENERIC_MAX = 100  # kinds of generic resources, the same
PREFERENCES_MAX = 16  # each divides the nodes once more
NETWORKS_MAX = 100  # each is an address and an interface of each task; Linux' bridges have 1023 ports
PORTS_MAX = 10_000  # each is claimed; ranges of telephony have as many


def check_bounds(spec: ServiceSpec) -> None:
    """Errors: `Invalid`, with how many there are and may be."""
    for what, given, most in _counted(spec):
        if len(given) > most:
            raise Invalid(f"a service may have at most {most} {what}, not {len(given)}")


def _counted(spec: ServiceSpec) -> Iterable[tuple[str, Sized, int]]:
    task = spec.task_template
    if task.placement is not None:
        yield "placement constraints", task.placement.constraints, CONSTRAINTS_MAX
        yield "placement preferences", task.placement.preferences, PREFERENCES_MAX
        yield "platforms", task.placement.platforms, PLATFORMS_MAX
    if task.resources is not None and task.resources.reservations is not None:
        yield "generic resources", task.resources.reservations.generic_resources, GENERIC_MAX
    yield "networks", task.networks, NETWORKS_MAX
    yield "networks", spec.networks, NETWORKS_MAX
    if spec.endpoint_spec is not None:
        yield "ports", spec.endpoint_spec.ports, PORTS_MAX
