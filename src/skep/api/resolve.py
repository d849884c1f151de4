"""Names and ids to objects, as Docker does: exact id, then exact name, then a unique prefix of the id."""

from __future__ import annotations

from collections.abc import Iterable

from skep.model.material import Material
from skep.model.network import Network
from skep.model.node import Node
from skep.model.service import Service
from skep.model.task import PendingTask, Task
from skep.runtime.errors import Invalid, NotFound
from skep.store.view import View


def find_service(view: View, text: str) -> Service:
    """Errors: `NotFound`, `Invalid` where a prefix fits several."""
    found = view.services.get(text) or view.services.get(view.service_ids.get(text, ""))
    if found is None and (why := view.why_aside(text)):  # its record cannot be read
        raise NotFound(f"service {text} not found. {why}")
    return found or view.services[_by_prefix("service", text, view.services)]


def find_node(view: View, text: str) -> Node:
    """Errors: `NotFound`, `Invalid` where a prefix or a host name fits several."""
    found = view.nodes.get(text)
    if found is not None:
        return found
    named = [n for n in view.nodes.values() if n.description.hostname == text]
    if len(named) > 1:
        raise Invalid(f"node {text} is ambiguous ({len(named)} matches found)")
    return named[0] if named else view.nodes[_by_prefix("node", text, view.nodes)]


def find_network(view: View, text: str, by_prefix: bool = True) -> Network:
    """Errors: `NotFound`, `Invalid` where a prefix fits several."""
    found = view.networks.get(text) or view.networks.get(view.network_ids.get(text, ""))
    return found or view.networks[_by_prefix("network", text, view.networks if by_prefix else ())]


def find_material(view: View, kind: str, text: str) -> Material:
    """A name fits whatever its case. Errors: `NotFound`, `Invalid` where a prefix fits several."""
    found = view.materials.get(text) or view.materials.get(view.material_ids[kind].get(text.lower(), ""))
    if found is not None and found.kind == kind:
        return found
    ids = (each.id for each in view.materials.values() if each.kind == kind)
    return view.materials[_by_prefix(kind, text, ids)]


def find_task(view: View, text: str) -> Task | PendingTask:
    """Errors: `NotFound`, `Invalid` where a prefix fits several."""
    found = view.tasks.get(text) or view.pending_ids.get(text)
    if found is not None:
        return found
    task_id = _by_prefix("task", text, (*view.tasks, *view.pending_ids))
    return view.tasks.get(task_id) or view.pending_ids[task_id]


def find_task_or_named(view: View, text: str) -> Task | PendingTask:
    """As `find_task`; also by its name, `web.3`, a global service's by `web.NODE`, and whole with its id.

    A name without an id means the slot's newest task. Errors: `NotFound`, `Invalid`.
    """
    service_name, dot, rest = text.partition(".")
    service = view.services.get(view.service_ids.get(service_name, "")) if dot else None
    if service is None:
        return find_task(view, text)
    task_id = rest.rpartition(".")[2]
    if task_id in view.tasks or task_id in view.pending_ids:
        return find_task(view, task_id)
    key: int | str = int(rest) if rest.isdecimal() and len(rest) < 10 else rest
    if isinstance(key, str) and key not in view.nodes:
        named = [n.id for n in view.nodes.values() if n.description.hostname == key]
        key = named[0] if named else key
    pending = view.pending.get(service.id, {}).get(key)
    tasks = view.slot(service.id, key)
    found = pending or (tasks[-1] if tasks else None)
    if found is None:
        raise NotFound(f"task {text} not found")
    return found


def _by_prefix(kind: str, text: str, ids: Iterable[str]) -> str:
    matching = [each for each in ids if each.startswith(text)] if text else []
    if len(matching) > 1:
        raise Invalid(f"{kind} {text} is ambiguous ({len(matching)} matches found)")
    if not matching:
        raise NotFound(f"{kind} {text} not found")
    return matching[0]
