"""Overlay networks to the nodes that have somebody on them, as they change.

In: what was committed and reported of tasks and single containers. Out: to a node's first one on a network
all that it needs, before the node is told of the task; to those on the network what has changed, in frames
made once; and to who has nobody there any more, which ones it still has. What changes within a moment is told
together. A task that is to end is told of at once, before its own node is told to end it. Of a large network
a node is told what it asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog
from msgspec.structs import replace

from skep.manager.rates import Rates
from skep.model.attachment import Attachment
from skep.model.node import NodeDescription
from skep.model.overlay_keys import OverlayKey
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, OverlayAsk, OverlaysHeld, OverlayTold
from skep.store.view import View

from .batches import AGAIN_S, Batches
from .overlay_asks import FoundEndpoints, all_unknown
from .overlay_bounds import Bounds
from .overlay_keys import OverlayKeyring
from .overlay_known import KnownOverlay
from .overlay_questions import OverlayQuestion, OverlayQuestions
from .overlay_registry import OverlayRegistry
from .overlay_views import is_on, networks_of_node
from .sessions import Sessions
from .tunnel_ends import TunnelEnds

log = structlog.get_logger()

# How far ahead of the lines all is told to nodes that come to networks; the others are told a moment later.
AHEAD_MAX_S = 1.0
# How many are told so at once: of a large network to each something else, in 0.1 ms.
NEWCOMERS_MAX = 200
# How many tasks of a large network are looked at before others have their turn: 20 ms of the leader's time.
# Those that are to end do not wait.
SETTLED_MAX, ALL = 2500, 1 << 60
# While more has changed than is looked at, it is told so often: each of a thousand parts of a service is a
# message for its nodes, however many of its endpoints are others.
TOLD_S = 0.5
# A node asks one question after the other on each of its networks, of up to 256 names or addresses. One that
# is not answered is asked again. What is told counts, too: a service's part has 15 kB.
ASKS_BURST, ASKS_PER_S = 100, 50
ASK_BYTES, ASK_ITEMS = 64 << 10, 64


class OverlayDispatcher:
    """What of networks is known has `OverlayRegistry`; here it is told."""

    def __init__(
        self, view: View, sessions: Sessions, new_key: Callable[[], OverlayKey], bounds: Bounds = Bounds()
    ) -> None:
        self._view = view
        self._sessions = sessions
        self._batches = Batches("overlays", self._tell_news)
        self._ends = TunnelEnds(view, sessions)
        self._registry = OverlayRegistry(view, self._ends, sessions.lead, bounds, self._batches.soon)
        self._networks, self._dirty = self._registry.networks, self._registry.dirty
        self._held: dict[str, set[str]] = {}  # node with a session -> networks that it was told of
        self._keyring = OverlayKeyring(sessions, self._registry.encrypted_hosts, new_key)
        self._not_before: dict[str, float] = {}  # network that could not be told -> loop time of the next try
        self._asks = Rates(ASKS_BURST, ASKS_PER_S)
        self._questions = OverlayQuestions(self._answer)
        sessions.on_end(self._ended)

    def begin(self) -> None:
        """A leader has read everything. It is looked at by `look_at_all`, or once the first node wants to
        know."""
        self._ends.begin()
        self._registry.touch_all()

    async def look_at_all(self) -> None:
        """Takes everything as it is, before the first node comes; others have their turn meanwhile."""
        for network_id in self._dirty:
            try:
                known = self._registry.known(network_id)
                while known is not None and self._registry.settle(known, SETTLED_MAX):
                    await asyncio.sleep(0)
                    known = self._registry.known(network_id)  # who finds nobody there forgets it meanwhile
            except Exception:  # it keeps nobody from leading
                log.exception("overlays.look_failed", network_id=network_id)

    def stop(self) -> None:
        self._batches.stop()
        self._questions.stop()
        self._keyring.stop()

    # What nodes say

    def began(self, node_id: str, said: messages.Register) -> None:
        """A session has begun: the node is told all of its networks."""
        if self._ends.heard(node_id, said):
            self._registry.touch_moved(node_id)
        is_deaf = not self._sessions.understands(node_id, OVERLAY)
        if self._registry.mark_deaf(node_id, is_deaf):
            self.node_changed(node_id)
        if self._dirty:  # the others hear of it even where this node cannot be told
            self._batches.soon()
        if is_deaf:
            return
        self._held[node_id] = set()
        self._keyring.described(node_id, said.description)
        for network_id in sorted(networks_of_node(self._view, node_id)):
            known = self._registry.known(network_id)
            if known is not None and self._keyring.admits(node_id, known.network):
                if not known.hearers:  # nobody else waits for what has changed …
                    self._registry.settle(known, ALL)
                    if known.newcomers:  # … but those are still to be told all
                        self._dirty.touch(network_id)
                self._tell_all(known, node_id)
        self._tell_held(node_id)

    def described(self, node_id: str, said: NodeDescription) -> None:
        """A node is not what it was: where it can encrypt now, it is told of its encrypted networks."""
        if node_id in self._held and self._keyring.described(node_id, said):
            self._tell({(node_id, n): None for n in networks_of_node(self._view, node_id)}, is_urgent=False)

    def asked(self, node_id: str, asked: OverlayAsk) -> None:
        """A node asks who somebody on a large network is. One that asks too much has no answer."""
        items = len(asked.names) + len(asked.addresses) + len(asked.services)
        if self._asks.take(node_id, asyncio.get_running_loop().time(), 1 + items / ASK_ITEMS):
            self._questions.put(node_id, asked)

    def _answer(self, question: OverlayQuestion, is_late: bool) -> OverlayQuestion | None:
        """Answers by what all others have been told so far; what is not known may be among what has changed
        since, and waits for that, not so what is found. Returns the question where it waits."""
        node_id, asked = question.node_id, question.asked
        known = self._networks.get(asked.network_id)
        if known is None or asked.network_id not in self._held.get(node_id, ()):
            self._sessions.send(node_id, all_unknown(asked))
            return None
        found = known.find(asked)
        is_open = known.has_untold
        waits = not is_late and (is_open or (found.misses_some and asked.network_id in self._dirty))
        if not waits or not (is_open or question.is_told):
            self._tell_found(known, node_id, found)
        if waits:
            self._batches.soon()
            return replace(question, is_told=question.is_told or not is_open)
        self._sessions.send(node_id, found.answered)
        return None

    def _tell_found(self, known: KnownOverlay, node_id: str, found: FoundEndpoints) -> None:
        """Tells what there is of what was asked for: what a node kept from an earlier leader may lead to who
        is about to end."""
        try:
            size = self._tell_all(known, node_id) if node_id not in known.hearers else 0
            size += self._send(known.answer(node_id, found), node_id)
        except Exception:  # nobody knows what it was told: it is told all again, and asks again
            known.leaves(node_id)
            known.newcomers.add(node_id)
            self._dirty.touch(known.network.id)
            self._batches.soon()
            raise
        self._asks.spend(node_id, asyncio.get_running_loop().time(), size / ASK_BYTES)

    def _ended(self, node_id: str) -> None:
        self._keyring.ended(node_id)
        for network_id in self._held.pop(node_id, ()):
            known = self._networks.get(network_id)
            if known is not None:
                known.leaves(node_id)

    # What has changed

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
            for task in dropped:
                self._dirty.touch_task(task)
            for task in put:
                is_to_end = task.result is None and task.desired_state > RUNNING
                if self._dirty.touch_task(task, is_to_end) and task.result is None:
                    is_urgent = is_urgent or is_to_end
                    for given in task.addresses:
                        came[node_id, given.network_id] = None
        self._tell(came, is_urgent)

    def attachments_changed(self, changed: Iterable[Attachment]) -> None:
        """Single containers come, or went: before their nodes are told so."""
        try:
            changed = list(changed)
            self._dirty.touch_attachments(changed)
            there = [each for each in changed if each.id in self._view.attached.get(each.node_id, {})]
            self._tell({(each.node_id, each.address.network_id): None for each in there}, is_urgent=False)
        except Exception:
            log.exception("overlays.attachments_failed")

    def reported(self, task: Task, status: TaskStatus) -> None:
        """What is seen of a task has changed. One of before this lead was taken to serve until now."""
        is_old = task.updated_at < self._view.led_since
        if (status.state >= RUNNING or is_old) and self._dirty.touch_task(task):
            self._batches.soon()

    def service_changed(self, service_id: str) -> None:
        """A service was made, changed or removed."""
        self._registry.touch_service(service_id)
        self._tell({}, is_urgent=service_id in self._view.removed)

    def node_changed(self, node_id: str) -> None:
        """A node came, or is down."""
        self._registry.touch_node(node_id)
        if self._dirty:
            self._batches.soon()

    def node_removed(self, node_id: str) -> None:
        self._ends.forget(node_id)
        self._registry.touch_removed(node_id)
        if self._dirty:
            self._batches.soon()

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
        known = self._registry.known(network_id) if held is not None and network_id not in held else None
        if held is None or known is None or not self._keyring.admits(node_id, known.network):
            return False
        self._keyring.comes(node_id, known.network)
        held.add(network_id)
        known.newcomers.add(node_id)
        self._dirty.touch(network_id)
        self._sessions.send(node_id, OverlayTold(known.network, self._is_whole, lead=self._sessions.lead))
        return True

    def _tell_news(self) -> None:
        now = asyncio.get_running_loop().time()
        for network_id in self._dirty:
            rest_s = self._not_before.get(network_id, now) - now
            if rest_s > 0.0:
                self._batches.within(rest_s)
                continue
            self._not_before.pop(network_id, None)
            known = self._registry.known(network_id)
            if known is None:
                self._dirty.take(network_id)
                network = self._view.networks.get(network_id)
                if network is not None and network.spec.ingress:
                    self._dirty.ignore(network_id)
                continue
            try:
                self._tell_network(known)
            except Exception:  # of one network only: the others do not wait for it
                log.exception("overlays.not_told", network_id=network_id)
                self._tell_anew(known)
                self._not_before[network_id] = now + AGAIN_S
                self._batches.within(AGAIN_S)
        self._questions.looked()

    def _tell_network(self, known: KnownOverlay) -> None:
        is_urgent = self._dirty.is_urgent(known.network.id)
        self._registry.settle(known, SETTLED_MAX if known.network.is_large else ALL)
        if not is_urgent and self._waits_for_more(known):
            return
        for node_id in self._take_out_who_left(known):
            self._tell_held(node_id)
        self._send_news(known)
        for number, node_id in enumerate(sorted(known.newcomers)):
            if self._batches.wait_s > AHEAD_MAX_S or number == NEWCOMERS_MAX:
                self._dirty.touch(known.network.id)
                self._batches.soon()
                break
            self._batches.sent(self._tell_all(known, node_id))
        if known.is_nobodys:
            del self._networks[known.network.id]

    def _waits_for_more(self, known: KnownOverlay) -> bool:
        """Returns whether more is looked at before anything is told: for a while at most."""
        if not known.network.is_large or known.network.id not in self._dirty:
            return False
        return known.untold_s(asyncio.get_running_loop().time()) < TOLD_S

    def _send_news(self, known: KnownOverlay) -> None:
        news = known.take_news()
        self._batches.sent(sum(self._send(frames, node_id) for node_id, frames in news.items()))

    def _tell_anew(self, known: KnownOverlay) -> None:
        known.tell_anew()
        self._dirty.touch(known.network.id)

    def _take_out_who_left(self, known: KnownOverlay) -> list[str]:
        """Returns the nodes that have nobody on the network any more: they hear nothing more of it."""
        network_id = known.network.id
        hearers = known.hearers | known.newcomers
        left = [
            each
            for each in sorted(hearers - known.state.hosts.keys())
            if not is_on(self._view, each, network_id)
        ]
        for node_id in left:
            known.leaves(node_id)
            self._held[node_id].discard(network_id)
            others = (self._networks.get(each) for each in self._held[node_id])
            if not any(each is not None and each.network.is_encrypted for each in others):
                self._keyring.left(node_id)
        return left

    def _tell_all(self, known: KnownOverlay, node_id: str) -> int:
        """The node hears of the network from now on. Returns how many bytes it was sent."""
        known.newcomers.discard(node_id)
        self._keyring.comes(node_id, known.network)
        self._held[node_id].add(known.network.id)
        return self._send(known.hears(node_id, self._is_whole), node_id)

    def _tell_held(self, node_id: str) -> None:
        """Where not all can be read from the store, what the node has besides is not to go."""
        held = self._held.get(node_id)
        if held is not None and self._is_whole:
            self._sessions.send(node_id, OverlaysHeld(sorted(held), self._sessions.lead))

    def _send(self, frames: Sequence[bytes], node_id: str) -> int:
        for frame in frames:
            self._sessions.send_frame(node_id, frame)
        return sum(map(len, frames))

    @property
    def _is_whole(self) -> bool:
        return not self._view.quarantine
