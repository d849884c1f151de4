"""What templates in a task's hostname, environment, mounts, secrets and configs are about.

The language is in `model.template`; `expand(text, values, functions)` is its way in.
"""

from __future__ import annotations

from skep.agent.executor.interfaces import TaskContext
from skep.model.spec import Platform
from skep.model.task import container_name as task_container_name
from skep.model.template import Fields, Functions, Wrong, expand, template_values

__all__ = ["Fields", "Functions", "Wrong", "container_name", "expand", "task_values"]


def container_name(context: TaskContext) -> str:
    """Returns Docker's name: service, slot (node for global services), task id."""
    task = context.task
    return task_container_name(context.template.name, task.slot, context.node_id, task.id)


def task_values(context: TaskContext, platform: Platform = Platform()) -> Fields:
    """Returns Docker's placeholders (`.Service.Name`, …) for one task; `platform` is the node's."""
    task, template = context.task, context.template
    return template_values(
        service=(task.service_id, template.name, template.labels),
        node=(context.node_id, context.node_hostname, platform),
        task=(task.id, container_name(context), str(task.slot or context.node_id)),
    )
