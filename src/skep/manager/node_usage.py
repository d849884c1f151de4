"""What nodes take of their hosts, as they said it last. Soft, and nobody is asked for it here."""

from __future__ import annotations

from skep.model.usage import NodeUsage


class NodeUsages:
    """Of one leader."""

    def __init__(self) -> None:
        self._known: dict[str, NodeUsage] = {}

    def of(self, node_id: str) -> NodeUsage | None:
        """Returns what the node said last; None where it has said nothing to this leader."""
        return self._known.get(node_id)

    def put(self, node_id: str, usage: NodeUsage) -> None:
        """The node has said how much its host is used."""
        self._known[node_id] = usage

    def forget(self, node_id: str) -> None:
        """The node is no longer of this swarm."""
        self._known.pop(node_id, None)
