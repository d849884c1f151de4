"""Fields that are stored and returned but not acted on yet: named in the response's `Warnings`.

docs/compatibility.md lists them for users; a test keeps the two in step.
"""

from __future__ import annotations

from skep.model.constraint import is_spread
from skep.model.generic import is_impossible
from skep.model.spec import ServiceSpec

NOT_ACTED_ON = {
    "TaskTemplate.Resources.Reservations.GenericResources": "only a number of a kind has an effect:"
    " with names or a negative number the tasks wait for ever",
    "TaskTemplate.Placement.Preferences": "only a spread over node.labels.X or engine.labels.X has an effect",
}


def warnings_for(spec: ServiceSpec) -> list[str]:
    """Returns one sentence for each field that is set and not acted on."""
    task = spec.task_template
    present = {
        "TaskTemplate.Resources.Reservations.GenericResources": task.resources is not None
        and task.resources.reservations is not None
        and is_impossible(task.resources.reservations.generic_resources),
        "TaskTemplate.Placement.Preferences": task.placement is not None
        and not all(p.spread and is_spread(p.spread.spread_descriptor) for p in task.placement.preferences),
    }
    return [f"{field}: {NOT_ACTED_ON[field]}" for field, is_set in present.items() if is_set]
