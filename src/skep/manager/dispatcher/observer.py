"""Who hears what becomes of nodes that are, or were, here."""

from __future__ import annotations


class NodeObserver:
    """This one keeps nothing of it."""

    def gone(self, node_id: str) -> None:
        """Nothing was heard of the node for too long."""

    def held(self, node_id: str) -> None:
        """The same, but it is not let go: it may be this manager that is cut off."""

    def refused(self, node_id: str, reason: str) -> None:
        """What the node said was refused."""

    def left_out(self, node_id: str, what: str) -> None:
        """The node has described itself, and this of it is not kept; an empty text where all of it is."""
