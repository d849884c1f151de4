"""All scenarios, those of no swarm first: a swarm is made and left as seldom as can be."""

from __future__ import annotations

from tests.differential.scenario import Scenario

from . import (
    api,
    events,
    networks,
    nodes,
    rejected,
    secrets,
    services,
    stacks,
    swarm,
    system,
    tasks,
    two_nodes,
    updates,
)

_ORDER = ("none", "own", "shared", "two")
SCENARIOS: list[Scenario] = sorted(
    (
        each
        for module in (
            swarm,
            nodes,
            services,
            updates,
            tasks,
            rejected,
            secrets,
            networks,
            stacks,
            api,
            events,
            system,
            two_nodes,
        )
        for each in module.SCENARIOS
    ),
    key=lambda each: _ORDER.index(each.swarm),
)
assert len({each.name for each in SCENARIOS}) == len(SCENARIOS), "two scenarios have one name"
