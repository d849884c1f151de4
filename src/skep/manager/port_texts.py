"""Where a service's published ports do not answer, in sentences. Pure; answers are bounded."""

from __future__ import annotations

from skep.manager.scheduler.explain_nodes import NAMES_MAX, names_text, node_name
from skep.model.mesh import concerns
from skep.model.service import Service
from skep.store.view import View

SENTENCES_MAX = 10  # what nodes say that is alike is one; with more, an operator looks at the nodes


def of_ports(view: View, service: Service) -> list[str]:
    """Returns what nodes cannot do, by their word, for the service's ports in the mesh. Cost: the nodes."""
    ports = service.endpoint.ports if service.endpoint is not None else ()
    if not any(port.publish_mode == "ingress" for port in ports):
        return []
    alike: dict[str, list[str]] = {}
    for node_id, node in view.nodes.items():
        for said in view.node_state(node_id).mesh:
            if concerns(said, service.spec.name):
                alike.setdefault(said, []).append(node_name(node, node_id))
    return [
        f"Published ports do not answer everywhere. {_nodes(names)}: {said}."
        for said, names in sorted(alike.items())[:SENTENCES_MAX]
    ]


def _nodes(names: list[str]) -> str:
    count = len(names)
    head = "1 node" if count == 1 else f"{count} nodes"
    return f"{head} ({names_text(sorted(names)[:NAMES_MAX], count)})"
