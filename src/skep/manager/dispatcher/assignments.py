"""What a node is told of its tasks: the whole set at the start of a session, then differences."""

from __future__ import annotations

from collections.abc import Iterable

from skep.model.states import is_terminal
from skep.model.task import Task
from skep.rpc.messages import Assign, AssignedTask, ServiceTemplate
from skep.store.view import View

Sent = set[tuple[str, int]]  # (service, version) of templates this session has sent already


def complete(view: View, node_id: str, sent: Sent) -> Assign:
    """Returns everything the node is to run, and the finished tasks whose containers it keeps."""
    tasks: list[AssignedTask] = []
    kept: list[str] = []
    templates: list[ServiceTemplate] = []
    for task in view.tasks_of_node(node_id):
        if task.result is not None:
            kept.append(task.id)
            continue
        tasks.append(_assigned(view, task))
        _add_template(view, task, sent, templates)
    return Assign(complete=True, templates=templates, tasks=tasks, kept=kept)


def difference(view: View, put: Iterable[Task], dropped: Iterable[Task], sent: Sent) -> Assign | None:
    """Returns what one commit changed for one node; None where the node knows it already."""
    tasks: list[AssignedTask] = []
    templates: list[ServiceTemplate] = []
    for task in put:
        if task.result is None:
            tasks.append(_assigned(view, task))
            _add_template(view, task, sent, templates)
    ids = [task.id for task in dropped]
    if not tasks and not ids:
        return None
    return Assign(templates=templates, tasks=tasks, dropped=ids)


def _assigned(view: View, task: Task) -> AssignedTask:
    return AssignedTask(task.id, task.service_id, task.spec_version, task.slot, view.desired_of(task))


def _add_template(view: View, task: Task, sent: Sent, templates: list[ServiceTemplate]) -> None:
    key = (task.service_id, task.spec_version)
    if key in sent:
        return
    template = view.template_of(task)
    if template is None:
        return
    sent.add(key)
    service = view.services.get(task.service_id)
    if service is None:
        name, labels, ports = view.removed[task.service_id].name, {}, []
    else:
        name, labels = service.spec.name, service.spec.labels
        endpoint = service.spec.endpoint_spec
        ports = [p for p in endpoint.ports if p.publish_mode == "host"] if endpoint else []
    templates.append(ServiceTemplate(task.service_id, task.spec_version, name, labels, template.spec, ports))


def is_news(view: View, task: Task, state: int) -> bool:
    """True where a report makes somebody decide: a task ended, or others in its slot wait for it."""
    if is_terminal(state):
        return True
    slot = view.slot(task.service_id, task.slot or task.node_id)
    return len(slot) > 1
