"""The routing mesh to the nodes, as it changes: every node hears of every published service.

In: what was committed and reported, for services that publish ports; nothing happens for others. Out: frames,
made once for all nodes. What changes within a moment is told together; the longer, the larger it is. A task
that is to end is told of at once, before its own node is told to end it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from skep.model.data_path import NFTABLES
from skep.model.mesh import MeshService
from skep.model.overlay import OverlayNetwork
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.messages import MESH, MESH_CHANGES, MeshTold
from skep.store.view import View

from .batches import Batches
from .mesh import is_published, mesh_network, mesh_service
from .sessions import Sessions
from .told_frames import mesh_parts
from .tunnel_ends import TunnelEnds

log = structlog.get_logger()

Failed = Callable[[str, list[str]], None]  # (node id, what is not so there)


class MeshDispatcher:
    """`failed` hears what nodes could not do."""

    def __init__(self, view: View, sessions: Sessions, failed: Failed) -> None:
        self._view = view
        self._sessions = sessions
        self._failed = failed
        self._network: OverlayNetwork | None = None
        self._data_path = NFTABLES
        self._services: dict[str, MeshService] = {}  # as they are
        self._told: dict[str, MeshService] = {}  # as all who listen know them; what is missing is told whole
        self._hosts: Counter[str] = Counter()  # nodes that have tasks in the mesh: how many
        self._ends = TunnelEnds(view, sessions)
        self._informed: set[str] = set()  # nodes that know all others
        self._moved: set[str] = set()  # nodes of which those do not know yet where they are
        self._gone: set[str] = set()
        self._dirty: set[str] = set()
        self._untold: set[str] = set()  # services that are others since they were told last
        self._untold_network: OverlayNetwork | None = None
        self._untold_data_path = ""
        self._came: set[str] = set()  # nodes that have tasks in the mesh since then
        # What each node is told when it comes, but for its own address, and whether that is all there is.
        self._all: tuple[bool, list[bytes]] | None = None
        self._listeners: set[str] = set()
        self._deaf: set[str] = set()  # nodes of an earlier skep, or without a mesh, by their latest word
        self._batches = Batches("mesh", self._tell_news)
        sessions.on_end(self._ended)

    def begin(self) -> None:
        """A leader has read everything: what it tells to the first node is all."""
        self._ends.begin()
        self._dirty.update(
            each for each in (*self._view.services, *self._view.removed) if self._concerns(each)
        )

    def stop(self) -> None:
        self._batches.stop()

    # What has changed

    def began(self, node_id: str, said: messages.Register) -> None:
        """A session has begun: the node is told all."""
        self._failed(node_id, [])  # else it says so again
        if self._ends.heard(node_id, said):
            self._all = None
            self._moved.add(node_id)
            if self._services:
                self._batches.soon()
        self._hear_whether(node_id, is_deaf=not self._sessions.understands(node_id, MESH))
        if node_id in self._deaf:
            return
        if not self._listeners:
            self._settle_all()
        self._listeners.add(node_id)
        self._tell_all(node_id)
        if node_id in self._hosts:
            self._inform(node_id)

    def _hear_whether(self, node_id: str, is_deaf: bool) -> None:
        """Connections go to a node's tasks once it knows the mesh; to those of one that is not heard yet, as
        before."""
        if is_deaf != (node_id in self._deaf):
            self._deaf ^= {node_id}
            self.node_changed(node_id)

    def _tell_all(self, node_id: str) -> None:
        own = self._ends.of([node_id])
        # Where not all can be read from the store, what the node has besides is not to go.
        is_whole = not self._view.quarantine
        if not self._services:
            told = MeshTold(is_whole, self._network, own, lead=self._lead, data_path=self._data_path)
            self._sessions.send(node_id, told)
            return
        if self._all is None or self._all[0] != is_whole:
            services = list(self._services.values())
            nodes = self._ends.of(self._hosts)
            told = MeshTold(is_whole, self._network, nodes, services=services, lead=self._lead)
            told = replace(told, data_path=self._data_path)
            self._all = is_whole, [messages.encode(replace(part, more=True)) for part in mesh_parts(told)]
        for frame in self._all[1]:
            self._sessions.send_frame(node_id, frame)
        self._sessions.send(node_id, MeshTold(nodes=own, lead=self._lead))

    def _ended(self, node_id: str) -> None:
        self._informed.discard(node_id)
        self._listeners.discard(node_id)

    def applied(self, node_id: str, said: messages.MeshApplied) -> None:
        self._failed(node_id, said.failures)

    def publish(self, changed: dict[str, tuple[list[Task], list[Task]]]) -> None:
        """Hears of what was committed, before the nodes do: node id -> (tasks put, tasks dropped). They are
        told of their tasks whatever happens here."""
        try:
            self._publish(changed)
        except Exception:
            log.exception("mesh.publish_failed")

    def _publish(self, changed: dict[str, tuple[list[Task], list[Task]]]) -> None:
        is_urgent = False
        for put, dropped in changed.values():
            for task in (*put, *dropped):
                if task.addresses and self._concerns(task.service_id):
                    self._dirty.add(task.service_id)
                    is_urgent = is_urgent or task.desired_state > RUNNING
        self._tell(is_urgent)

    def reported(self, task: Task, status: TaskStatus) -> None:
        """What is seen of a task has changed."""
        if status.state >= RUNNING and task.addresses and self._concerns(task.service_id):
            self._dirty.add(task.service_id)
            self._batches.soon()

    def service_changed(self, service_id: str) -> None:
        """A service was made, changed or removed."""
        if self._concerns(service_id):
            self._dirty.add(service_id)
            self._tell(service_id in self._view.removed)

    def cluster_changed(self) -> None:
        """The swarm's settings may be others."""
        if _data_path(self._view) != self._data_path:
            self._batches.soon()

    def node_changed(self, node_id: str) -> None:
        """A node came, or is down."""
        found = [each for each in self._view.buckets.get(node_id, ()) if self._concerns(each)]
        if found:
            self._dirty.update(found)
            self._batches.soon()

    def node_removed(self, node_id: str) -> None:
        self._deaf.discard(node_id)
        self._all = None
        if self._ends.forget(node_id) and self._services:
            self._gone.add(node_id)
            self._batches.soon()
        self.node_changed(node_id)

    # Telling

    def _concerns(self, service_id: str) -> bool:
        return service_id in self._services or is_published(self._view, service_id)

    def _tell(self, is_urgent: bool) -> None:
        """Tells at once that tasks are to end: their own nodes are told next."""
        if is_urgent and self._dirty:
            self._batches.at_once()
        elif self._dirty:
            self._batches.soon()

    def _settle_all(self) -> None:
        """Takes all that has changed as it is now."""
        dirty, self._dirty = self._dirty, set()
        network = mesh_network(self._view)
        if network != self._network:
            self._all = None
            self._network = self._untold_network = network
            dirty.update(self._services)
        if (data_path := _data_path(self._view)) != self._data_path:
            self._all = None
            self._data_path = self._untold_data_path = data_path
        before = set(self._hosts)
        self._untold.update(each for each in sorted(dirty) if self._is_news(each))
        self._came |= set(self._hosts) - before
        if not self._listeners:
            self._forget_untold()

    def _forget_untold(self) -> None:
        """What is told from now on is what changes from now on."""
        self._told = dict(self._services)
        self._untold, self._untold_network, self._untold_data_path = set(), None, ""
        self._came, self._moved, self._gone = set(), set(), set()

    def _tell_news(self) -> None:
        if not self._listeners:
            return  # it costs nothing before somebody wants to know
        self._settle_all()
        before, self._told = self._told, {}
        told = MeshTold(
            network=self._untold_network,
            nodes=self._ends.of(self._came | (self._moved & set(self._hosts))),
            gone_nodes=sorted(self._gone),
            services=[self._services[each] for each in sorted(self._untold) if each in self._services],
            gone_services=[each for each in sorted(self._untold) if each not in self._services],
            lead=self._lead,
            data_path=self._untold_data_path,
        )
        if told != MeshTold(lead=self._lead):
            self._broadcast(told, before)
        if self._moved:
            self._tell_informed(MeshTold(nodes=self._ends.of(self._moved), lead=self._lead))
        came = sorted(self._came)
        self._forget_untold()
        for node_id in came:
            self._inform(node_id)

    def _is_news(self, service_id: str) -> bool:
        """Takes a service as it is now. One that cannot be understood costs nobody else his."""
        try:
            return self._settle(service_id)
        except Exception:
            log.exception("mesh.service_failed", service_id=service_id)
            return False

    def _settle(self, service_id: str) -> bool:
        before = self._services.get(service_id)
        now = None
        if self._network is not None:
            now = mesh_service(self._view, service_id, self._network.id, self._deaf)
        if now == before:
            return False
        self._all = None
        if now is None:
            del self._services[service_id]
        else:
            self._services[service_id] = now
        self._hosts.subtract(each.node_id for each in (before.endpoints if before is not None else ()))
        self._hosts.update(each.node_id for each in (now.endpoints if now is not None else ()))
        self._hosts = +self._hosts  # without those that have none any more
        return True

    def _inform(self, node_id: str) -> None:
        """Tells a node that has tasks in the mesh where all others are: connections may come by any."""
        if node_id in self._informed or not self._sessions.understands(node_id, MESH):
            return
        self._informed.add(node_id)
        self._sessions.send(node_id, MeshTold(nodes=self._ends.of(self._view.nodes), lead=self._lead))

    def _tell_informed(self, told: MeshTold) -> None:
        frame = messages.encode(told)
        for node_id in self._informed:
            self._sessions.send_frame(node_id, frame)

    def _broadcast(self, told: MeshTold, before: dict[str, MeshService]) -> None:
        """Tells all what has changed since then; earlier agents each service whole."""
        changes = [each.since(before[each.id]) if each.id in before else each for each in told.services]
        self._send(replace(told, services=changes), MESH_CHANGES)
        if self._sessions.knows_any(MESH, without=MESH_CHANGES):
            self._send(told, MESH, without=MESH_CHANGES)

    def _send(self, told: MeshTold, feature: str, without: str | None = None) -> None:
        for part in mesh_parts(told):
            frame = messages.encode(part)
            count = self._sessions.broadcast_frame(frame, feature, without)
            self._batches.sent(count * len(frame))

    @property
    def _lead(self) -> messages.Lead | None:
        return self._sessions.lead


def _data_path(view: View) -> str:
    return view.cluster.data_path if view.cluster is not None else NFTABLES
