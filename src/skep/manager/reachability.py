"""Which managers can be reached: an event of each change."""

from __future__ import annotations

from skep.manager.events import EventHub
from skep.store.view import View


class Reachability:
    """What was told last of each manager."""

    def __init__(self, view: View, hub: EventHub) -> None:
        self._view = view
        self._hub = hub
        self._told: dict[str, str] | None = None

    def tell(self) -> None:
        """Emits what changed; who becomes a manager had none before, and none of those a new leader finds
        is news but one that does not answer."""
        view, known = self._view, self._told
        found = {m.node_id: view.reachability_of(m.node_id) for m in view.members}
        if known is None:
            known = dict.fromkeys((n for n, word in found.items() if word != "unknown"), "reachable")
        self._told = found
        for node_id, new in found.items():
            old, node = known.get(node_id, new), view.nodes.get(node_id)
            if node is not None and old != new:
                name = node.description.hostname
                self._hub.emit(
                    "node", "update", node_id, name=name, reachability__old=old, reachability__new=new
                )
