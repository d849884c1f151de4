"""Overlay networks as a leader knows them, and what of them may be another than it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog

from skep.rpc.messages import Lead
from skep.store.view import View

from .overlay_bounds import Bounds
from .overlay_known import KnownOverlay
from .overlay_touched import Dirty, settle
from .overlay_views import overlay_network, replicas_wanted
from .tunnel_ends import TunnelEnds

log = structlog.get_logger()


class OverlayRegistry:
    """Nobody hears of tasks of nodes that are `deaf`, of an earlier skep. `later` hears that there is more to
    look at."""

    def __init__(
        self, view: View, ends: TunnelEnds, lead: Lead | None, bounds: Bounds, later: Callable[[], None]
    ) -> None:
        self._view = view
        self._ends = ends
        self._lead = lead
        self._bounds = bounds
        self._later = later
        self.networks: dict[str, KnownOverlay] = {}
        self.dirty = Dirty()
        self._deaf: set[str] = set()

    def known(self, network_id: str) -> KnownOverlay | None:
        """Returns the network; None where nodes are told nothing of it."""
        known = self.networks.get(network_id)
        if known is None:
            network = overlay_network(self._view, network_id)
            if network is not None:
                known = KnownOverlay(network, self._ends.of, self._lead, self._bounds)
                self.networks[network_id] = known
        return known

    def settle(self, known: KnownOverlay, most: int) -> bool:
        """Takes what may have changed as it is now, of tasks at most so many. Returns whether there was
        anything."""
        network_id = known.network.id
        touched = self.dirty.take(network_id)
        if touched is None:
            return False
        changed = list(touched.services)
        failed = settle(self._view, network_id, known.state, touched, self._deaf, most)
        changed += known.state.changes.services
        if touched:
            self.dirty.keep(network_id, touched)
            self._later()
        for service_id, error in failed.items():
            log.error("overlays.service_failed", network_id=network_id, service_id=service_id, exc_info=error)
        # Of those that grow some may have found no room meanwhile.
        known.settle_size({each: replicas_wanted(self._view, each) for each in {*changed, *known.growing}})
        return True

    def mark_deaf(self, node_id: str, is_deaf: bool) -> bool:
        """Returns whether that is news."""
        is_news = is_deaf != (node_id in self._deaf)
        if is_news:
            self._deaf ^= {node_id}
        return is_news

    def encrypted_hosts(self) -> Iterator[tuple[str, str]]:
        """Yields the nodes with somebody on an encrypted network, and where their tunnels end."""
        encrypted = (each for each in self.networks.values() if each.network.is_encrypted)
        yield from self._ends.of({node_id for each in encrypted for node_id in each.state.hosts})

    # What may be another

    def touch_all(self) -> None:
        for task in self._view.tasks.values():
            self.dirty.touch_task(task)
        for of_node in self._view.attached.values():
            self.dirty.touch_attachments(of_node.values())

    def touch_service(self, service_id: str) -> None:
        for network_id, known in self.networks.items():
            if service_id in known.state.services:
                self.dirty.touch(network_id).services[service_id] = None

    def touch_node(self, node_id: str) -> None:
        """Whoever is on the node may count by now, or not any more."""
        for task in self._view.tasks_of_node(node_id):
            self.dirty.touch_task(task)
        self.dirty.touch_attachments(self._view.attached.get(node_id, {}).values())

    def touch_moved(self, node_id: str) -> None:
        """The node is elsewhere."""
        for known in self.networks.values():
            if node_id in known.state.hosts:
                known.state.moved(node_id)
                self.dirty.touch(known.network.id)

    def touch_removed(self, node_id: str) -> None:
        """The node is no more: nor is who was known there."""
        self._deaf.discard(node_id)
        for network_id, known in self.networks.items():
            for each in known.state.held(known.state.hosts.get(node_id, ())):
                self.dirty.touch(network_id).tasks[each.holder_id] = each.service_id
