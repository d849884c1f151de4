"""Global services: one task on every node that may run it. A slot's key is the node's id."""

from __future__ import annotations

from skep.model.aside import NODE
from skep.model.constraint import eligible
from skep.model.node import READY, Node
from skep.model.service import Service
from skep.store.view import View

from .slot import is_live


def wants(view: View, service: Service, node: Node) -> bool:
    """True where a global service is to be given a task on the node."""
    return (
        node.spec.availability == "active"
        and view.node_state(node.id).state == READY
        and eligible(node, service.template.spec.placement)
    )


def nodes_to_look_at(view: View, service: Service) -> list[str]:
    """Returns the nodes whose slot is not as it should be: no task where one is due, or one too many."""
    slots = view.slots.get(service.id, {})
    pending = view.pending.get(service.id, {})
    found = []
    for node in view.nodes.values():
        if view.is_aside(NODE, node.id):
            continue
        runs = any(is_live(t) for t in slots.get(node.id, ()))
        keeps = runs and node.spec.availability == "pause"
        if (runs or node.id in pending) != (keeps or wants(view, service, node)):
            found.append(node.id)
    found.extend(str(key) for key in slots if key not in view.nodes)
    return found
