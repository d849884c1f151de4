"""Overlay networks to the nodes that have somebody on them, as they change.

In: what was committed and reported of tasks and single containers. Out: to a node's first one on a network
all of it, before the node is told of the task; to all on the network what has changed, in frames made once;
and to who has nobody there any more, which ones it still has. What changes within a moment is told together.
A task that is to end is told of at once, before its own node is told to end it.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from skep.model.attachment import Attachment
from skep.model.overlay import OverlayService
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, OverlaysHeld, OverlayTold
from skep.store.view import View

from .batches import Batches
from .overlay_state import KnownOverlay
from .overlay_views import (
    networks_of_node,
    networks_of_service,
    overlay_attachment,
    overlay_network,
    overlay_service,
)
from .sessions import Sessions
from .told_frames import ForHearers
from .tunnel_ends import TunnelEnds

log = structlog.get_logger()

# How far ahead of the lines all is told to nodes that come to networks; the others are told a moment later.
AHEAD_MAX_S = 1.0


class OverlayDispatcher:
    """Nodes that are `deaf`, of an earlier skep, hear nothing, and nobody hears of their tasks."""

    def __init__(self, view: View, sessions: Sessions) -> None:
        self._view = view
        self._sessions = sessions
        self._networks: dict[str, KnownOverlay] = {}
        # Network -> services and single containers that may be others than it is known.
        self._dirty: dict[str, set[str]] = {}
        self._attached: dict[str, Attachment] = {}  # the single containers of those, by id
        self._held: dict[str, set[str]] = {}  # node with a session -> networks that it was told of
        self._deaf: set[str] = set()
        self._ends = TunnelEnds(view, sessions)
        self._batches = Batches("overlays", self._tell_news)
        sessions.on_end(self._ended)

    def begin(self) -> None:
        """A leader has read everything; it is looked at once the first node wants to know."""
        self._ends.begin()
        for service_id in self._view.slots:
            for network_id in networks_of_service(self._view, service_id):
                self._touch(network_id, service_id)
        for of_node in self._view.attached.values():
            self._take_attachments(of_node.values())

    def stop(self) -> None:
        self._batches.stop()

    # What has changed

    def began(self, node_id: str, said: messages.Register) -> None:
        """A session has begun: the node is told all of its networks."""
        if self._ends.heard(node_id, said):
            for network in self._networks.values():
                if node_id in network.hosts:
                    network.moved(node_id)
                    self._touch(network.network.id)
        is_deaf = not self._sessions.understands(node_id, OVERLAY)
        if is_deaf != (node_id in self._deaf):
            self._deaf ^= {node_id}
            self.node_changed(node_id)
        if self._dirty:  # the others hear of it even where this node cannot be told
            self._batches.soon()
        if is_deaf:
            return
        self._held[node_id] = set()
        for network_id in sorted(networks_of_node(self._view, node_id)):
            known = self._known(network_id)
            if known is not None:
                if not known.hearers:  # nobody else waits for what has changed …
                    self._settle(known)
                    if known.newcomers:  # … but those are still to be told all
                        self._touch(network_id)
                self._tell_all(known, node_id)
        self._tell_held(node_id)

    def publish(self, changed: dict[str, tuple[list[Task], list[Task]]]) -> None:
        """Hears of what was committed, before the nodes do: node id -> (tasks put, tasks dropped). They are
        told of their tasks whatever happens here."""
        try:
            self._publish(changed)
        except Exception:
            log.exception("overlays.publish_failed")

    def _publish(self, changed: dict[str, tuple[list[Task], list[Task]]]) -> None:
        is_urgent = False
        came: dict[tuple[str, str], None] = {}  # (node, network)
        for node_id, (put, dropped) in changed.items():
            for task in (*put, *dropped):
                for given in task.addresses:
                    self._touch(given.network_id, task.service_id)
            for task in put:
                if task.addresses and task.result is None:
                    is_urgent = is_urgent or task.desired_state > RUNNING
                    came.update(((node_id, given.network_id), None) for given in task.addresses)
        self._tell(came, is_urgent)

    def attachments_changed(self, changed: Iterable[Attachment]) -> None:
        """Single containers come, or went: before their nodes are told so."""
        try:
            changed = list(changed)
            self._take_attachments(changed)
            there = [each for each in changed if each.id in self._view.attached.get(each.node_id, {})]
            self._tell({(each.node_id, each.address.network_id): None for each in there}, is_urgent=False)
        except Exception:
            log.exception("overlays.attachments_failed")

    def reported(self, task: Task, status: TaskStatus) -> None:
        """What is seen of a task has changed."""
        if status.state >= RUNNING and task.addresses:
            for given in task.addresses:
                self._touch(given.network_id, task.service_id)
            self._batches.soon()

    def service_changed(self, service_id: str) -> None:
        """A service was made, changed or removed."""
        for network_id in networks_of_service(self._view, service_id):
            if network_id in self._networks:
                self._touch(network_id, service_id)
        self._tell({}, is_urgent=service_id in self._view.removed)

    def node_changed(self, node_id: str) -> None:
        """A node came, or is down."""
        for service_id, bucket in self._view.buckets.get(node_id, {}).items():
            for task in bucket.values():
                for given in task.addresses:
                    self._touch(given.network_id, service_id)
        self._take_attachments(self._view.attached.get(node_id, {}).values())
        if self._dirty:
            self._batches.soon()

    def node_removed(self, node_id: str) -> None:
        self._deaf.discard(node_id)
        self._ends.forget(node_id)
        for known in self._networks.values():
            for service_id in known.on_node(node_id):
                self._touch(known.network.id, service_id)
        if self._dirty:
            self._batches.soon()

    def _ended(self, node_id: str) -> None:
        for network_id in self._held.pop(node_id, ()):
            known = self._networks.get(network_id)
            if known is not None:
                known.hearers.discard(node_id)
                known.newcomers.discard(node_id)

    def _take_attachments(self, attachments: Iterable[Attachment]) -> None:
        for each in attachments:
            self._attached[each.id] = each
            self._touch(each.address.network_id, each.id)

    def _touch(self, network_id: str, *ids: str) -> None:
        self._dirty.setdefault(network_id, set()).update(ids)

    # Telling

    def _tell(self, came: Iterable[tuple[str, str]], is_urgent: bool) -> None:
        """Tells at once that tasks are to end, and who else is on a network that is new to a node."""
        for node_id, network_id in came:
            is_urgent = self._comes(node_id, network_id) or is_urgent
        if is_urgent:
            self._batches.at_once()
        elif self._dirty:
            self._batches.soon()

    def _comes(self, node_id: str, network_id: str) -> bool:
        """Returns whether the network is new to the node. It is told of the network in any case; who is on it
        may have to wait, where much is told."""
        held = self._held.get(node_id)
        known = self._known(network_id) if held is not None and network_id not in held else None
        if held is None or known is None:
            return False
        held.add(network_id)
        known.newcomers.add(node_id)
        self._touch(network_id)
        self._sessions.send(node_id, OverlayTold(known.network, self._is_whole, lead=self._lead))
        return True

    def _tell_news(self) -> None:
        failed: Exception | None = None
        for network_id in list(self._dirty):
            known = self._known(network_id)
            if known is None:
                for each in self._dirty.pop(network_id):
                    self._attached.pop(each, None)
                continue
            try:
                self._tell_network(known)
            except Exception as error:  # of one network only
                known.tell_anew()
                self._touch(network_id)
                failed = error
        if failed is not None:
            raise failed

    def _tell_network(self, known: KnownOverlay) -> None:
        self._settle(known)
        for node_id in self._take_out_who_left(known):
            self._tell_held(node_id)
        news = known.take_news(self._ends.of, self._lead)
        if news is not None:
            self._batches.sent(sum(self._send(news, node_id) for node_id in known.hearers))
        for node_id in sorted(known.newcomers):
            if self._batches.wait_s > AHEAD_MAX_S:
                self._touch(known.network.id)
                self._batches.soon()
                break
            known.newcomers.discard(node_id)
            self._batches.sent(self._tell_all(known, node_id))
        if known.is_nobodys:
            del self._networks[known.network.id]

    def _take_out_who_left(self, known: KnownOverlay) -> list[str]:
        """Returns the nodes that have nobody on the network any more: they hear nothing more of it."""
        network_id = known.network.id
        hearers = known.hearers | known.newcomers
        left = [
            each
            for each in sorted(hearers - known.hosts.keys())
            if network_id not in networks_of_node(self._view, each)
        ]
        for node_id in left:
            known.hearers.discard(node_id)
            known.newcomers.discard(node_id)
            self._held[node_id].discard(network_id)
        return left

    def _settle(self, known: KnownOverlay) -> None:
        """Takes what may have changed as it is now. A service that cannot be understood costs nobody else."""
        for each in sorted(self._dirty.pop(known.network.id, ())):
            try:
                known.put(each, self._now(each, known.network.id))
            except Exception:
                log.exception("overlays.service_failed", network_id=known.network.id, service_id=each)
        known.settle_stride()

    def _now(self, each: str, network_id: str) -> OverlayService | None:
        attachment = self._attached.pop(each, None)
        if attachment is None:  # or a single container of a node that was removed, which is no service
            return overlay_service(self._view, each, network_id, self._deaf)
        return overlay_attachment(self._view, attachment, self._deaf)

    def _known(self, network_id: str) -> KnownOverlay | None:
        """Returns the network; None where nodes are told nothing of it."""
        known = self._networks.get(network_id)
        if known is None:
            network = overlay_network(self._view, network_id)
            if network is not None:
                known = self._networks[network_id] = KnownOverlay(network)
        return known

    def _tell_all(self, known: KnownOverlay, node_id: str) -> int:
        """The node hears of the network from now on. Returns how many bytes it was sent."""
        known.hears(node_id)
        self._held[node_id].add(known.network.id)
        return self._send(known.all(self._is_whole, self._ends.of, self._lead), node_id)

    def _tell_held(self, node_id: str) -> None:
        """Where not all can be read from the store, what the node has besides is not to go."""
        held = self._held.get(node_id)
        if held is not None and self._is_whole:
            self._sessions.send(node_id, OverlaysHeld(sorted(held), self._lead))

    def _send(self, told: ForHearers, node_id: str) -> int:
        frames = told.frames(node_id)
        for frame in frames:
            self._sessions.send_frame(node_id, frame)
        return sum(map(len, frames))

    @property
    def _is_whole(self) -> bool:
        return not self._view.quarantine

    @property
    def _lead(self) -> messages.Lead | None:
        return self._sessions.lead
