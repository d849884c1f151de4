"""The routing mesh to the nodes, as it changes: every node hears of every published service; of one with very
many tasks a part (`mesh_teller`).

In: what was committed and reported, for services that publish ports; nothing happens for others. Out: frames,
made once for all nodes. What changes within a moment is told together; the longer, the larger it is. A task
that is to end is told of at once, before its own node is told to end it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

import structlog
from msgspec.structs import replace

from skep.model.data_path import NFTABLES
from skep.model.mesh import ENDPOINTS_MAX, MeshService
from skep.model.node import DOWN
from skep.model.overlay import OverlayNetwork
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.messages import MESH, MESH_CHANGES, MESH_PARTS, MeshTold
from skep.store.view import View

from .batches import BATCH_S, Batches
from .mesh import is_published, mesh_endpoint, mesh_network, mesh_service, mesh_words
from .mesh_cut import parts_of
from .mesh_parted import PartedService
from .mesh_returns import WaysBack
from .mesh_teller import PartsTeller
from .overlay_views import replicas_wanted
from .sessions import Sessions
from .told_frames import mesh_parts
from .tunnel_ends import TunnelEnds

log = structlog.get_logger()

# Tasks of a service told in parts that are looked at in one go, but for those that are to end: a twentieth of
# a second. The others wait for their turn.
SETTLED_AT_ONCE = 5000
# How long a leader leads before it takes who is not there for gone: nodes that are somebody's way to a task
# come to a new leader within five heartbeats, of five seconds each.
SETTLED_S = 30.0

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
        self._in_parts: set[str] = set()  # services that were told in parts, the last time
        self._over: set[str] = set()  # … of which earlier agents hear some tasks only
        self._began_at = 0.0  # loop time
        self._dirty: set[str] = set()
        self._dirty_tasks: dict[
            str, dict[str, None]
        ] = {}  # by service; of others more than tasks has changed
        self._urgent_tasks: dict[str, dict[str, None]] = {}  # the same of those that are to end
        self._most: int | None = None
        self._dirty_words: set[str] = set()
        self._untold: set[str] = set()  # services that are others since they were told last
        self._untold_network: OverlayNetwork | None = None
        self._untold_data_path = ""
        self._came: set[str] = set()  # nodes that have tasks in the mesh since then
        # What each node is told when it comes, but for its own address, and whether that is all there is.
        self._all: dict[bool, tuple[bool, list[bytes]]] = {}  # by whether they know parts
        self._listeners: set[str] = set()
        self._deaf: set[str] = set()  # nodes of an earlier skep, or without a mesh, by their latest word
        self._earlier: set[str] = set()  # nodes that know the mesh, and no parts
        self._ways = WaysBack(view, sessions, self._ends, self._earlier, self._send_to)
        self._parts = PartsTeller(self._ends.of, self._send_to, sessions.lead, self._ways.is_informed)
        self._settled_at: float | None = None  # loop time
        self._batches = Batches("mesh", self._tell_news)
        sessions.says(MESH_PARTS)
        sessions.on_end(self._ended)

    def begin(self) -> None:
        """A leader has read everything: what it tells to the first node is all."""
        self._ends.begin()
        self._began_at = asyncio.get_running_loop().time()
        for service_id in (*self._view.services, *self._view.removed):
            if self._concerns(service_id):
                self._touch_service(service_id)

    def stop(self) -> None:
        self._batches.stop()

    # What has changed

    def began(self, node_id: str, said: messages.Register) -> None:
        """A session has begun: the node is told all."""
        self._failed(node_id, [])  # else it says so again
        if self._ends.heard(node_id, said):
            self._all.clear()
            self._ways.node_moved(node_id)
            self._parts.moved(node_id)
            if self._services or self._parts.services:
                self._batches.soon()
        self._hear_whether(node_id, is_deaf=not self._sessions.understands(node_id, MESH))
        knows_parts = node_id not in self._deaf and self._sessions.understands(node_id, MESH_PARTS)
        if knows_parts:
            self._parts.hear(node_id, said.mesh_parts)
        self._hear_whether_earlier(node_id, node_id not in self._deaf and not knows_parts)
        if not knows_parts:
            self._parts.leave(node_id)
        if node_id in self._deaf:
            return
        if not self._listeners:
            self._settle_all()
        self._listeners.add(node_id)
        if knows_parts:
            self._parts.come(node_id)
        self._tell_all(node_id)
        if self._needs_all(node_id):
            self._ways.inform(node_id)
        if self._parts.services:
            self._batches.soon()

    def _hear_whether_earlier(self, node_id: str, is_earlier: bool) -> None:
        """The first and the last earlier agent change what is made of large services for such agents."""
        if is_earlier == (node_id in self._earlier):
            return
        had = bool(self._earlier)
        self._earlier ^= {node_id}
        self.node_changed(node_id)
        if had != bool(self._earlier):
            self._dirty.update(self._parts.services)
            if self._listeners:
                self._settle_all()

    def _needs_all(self, node_id: str) -> bool:
        """True where connections to the node's tasks may come by any node."""
        return node_id in self._hosts or (node_id in self._earlier and self._parts.is_host(node_id))

    def _keeps_all(self, node_id: str) -> bool:
        """True where a node that knows all ways back is to hear of all others still."""
        return not self._parts.services or self._needs_all(node_id)

    def _hear_whether(self, node_id: str, is_deaf: bool) -> None:
        """Connections go to a node's tasks once it knows the mesh; to those of one that is not heard yet, as
        before."""
        if is_deaf != (node_id in self._deaf):
            self._deaf ^= {node_id}
            self.node_changed(node_id)

    def _tell_all(self, node_id: str) -> None:
        own = self._ends.of([node_id])
        knows_parts = node_id not in self._earlier
        # Where not all can be read from the store, what the node has besides is not to go.
        is_whole = not self._view.quarantine
        if not self._services and not (knows_parts and self._parts.services):
            told = MeshTold(is_whole, self._network, own, lead=self._lead, data_path=self._data_path)
            self._sessions.send(node_id, told)
            return
        found = self._all.get(knows_parts)
        if found is None or found[0] != is_whole:
            found = self._all[knows_parts] = is_whole, self._all_of(knows_parts, is_whole)
        for frame in (
            *found[1],
            *(self._parts.all(node_id, self._needs_all(node_id)) if knows_parts else ()),
        ):
            self._sessions.send_frame(node_id, frame)
        self._sessions.send(node_id, MeshTold(nodes=own, lead=self._lead))

    def _all_of(self, knows_parts: bool, is_whole: bool) -> list[bytes]:
        in_parts = self._parts.services if knows_parts else {}
        services = [each for each in self._services.values() if each.id not in in_parts]
        nodes = self._ends.of(self._hosts)
        told = MeshTold(is_whole, self._network, nodes, services=services, lead=self._lead)
        told = replace(told, data_path=self._data_path)
        return [messages.encode(replace(part, more=True)) for part in mesh_parts(told)]

    def _ended(self, node_id: str) -> None:
        self._ways.node_ended(node_id)
        self._listeners.discard(node_id)
        if self._view.node_state(node_id).state == DOWN:
            self._leave_parts(node_id)

    def _leave_parts(self, node_id: str) -> None:
        """Nobody leads to tasks by the node any more."""
        self._parts.leave(node_id)
        if self._parts.services:
            self._batches.soon()

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
                    is_to_end = task.desired_state > RUNNING
                    self._touch_task(task, is_to_end)
                    is_urgent = is_urgent or is_to_end
        self._tell(is_urgent)

    def reported(self, task: Task, status: TaskStatus) -> None:
        """What is seen of a task has changed."""
        if status.state >= RUNNING and task.addresses and self._concerns(task.service_id):
            self._touch_task(task)
            self._batches.soon()

    def service_changed(self, service_id: str) -> None:
        """A service was made, changed or removed."""
        if self._concerns(service_id):
            self._touch_service(service_id)
            self._tell(service_id in self._view.removed)

    def cluster_changed(self) -> None:
        """The swarm's settings may be others."""
        if _data_path(self._view) != self._data_path:
            self._batches.soon()

    def node_changed(self, node_id: str) -> None:
        """A node came, or is down."""
        buckets = self._view.buckets.get(node_id, {})
        found = [each for each in buckets if self._concerns(each)]
        for service_id in found:
            for task in buckets[service_id].values():
                self._touch_task(task)
        if found:
            self._batches.soon()
        if self._view.node_state(node_id).state == DOWN and not self._sessions.has(node_id):
            self._leave_parts(node_id)

    def node_removed(self, node_id: str) -> None:
        self._deaf.discard(node_id)
        self._earlier.discard(node_id)
        self._all.clear()
        self._leave_parts(node_id)
        if self._ends.forget(node_id) and (self._services or self._parts.services):
            self._ways.node_gone(node_id)
            self._batches.soon()
        self.node_changed(node_id)

    # Telling

    def _concerns(self, service_id: str) -> bool:
        is_known = service_id in self._services or service_id in self._parts.services
        return is_known or is_published(self._view, service_id)

    def _touch_task(self, task: Task, is_urgent: bool = False) -> None:
        self._dirty.add(task.service_id)
        if task.service_id in self._parts.services:
            found = self._urgent_tasks if is_urgent else self._dirty_tasks
            found.setdefault(task.service_id, {})[task.id] = None

    def _touch_service(self, service_id: str) -> None:
        self._dirty.add(service_id)
        self._dirty_words.add(service_id)

    def _tell(self, is_urgent: bool) -> None:
        """Tells at once that tasks are to end: their own nodes are told next."""
        if is_urgent and self._dirty:
            self._batches.at_once()
        elif self._dirty:
            self._batches.soon()

    def _settle_all(self, most: int | None = None) -> None:
        """Takes all that has changed as it is now; of tasks of services that are told in parts no more than
        so many, and those that cannot wait."""
        dirty, self._dirty, self._most = self._dirty, set(), most
        network = mesh_network(self._view)
        if network != self._network:
            self._all.clear()
            self._network = self._untold_network = network
            dirty.update(self._services)
            dirty.update(self._parts.services)
            self._dirty_words.update(self._parts.services)
        if (data_path := _data_path(self._view)) != self._data_path:
            self._all.clear()
            self._data_path = self._untold_data_path = data_path
        before = set(self._hosts)
        self._untold.update(each for each in sorted(dirty) if self._is_news(each))
        self._came |= set(self._hosts) - before
        self._ways.nodes_left(before - set(self._hosts))
        hosts = {each for each in self._earlier if self._parts.is_host(each)}
        self._came.update(each for each in hosts if not self._ways.is_informed(each))
        if not self._listeners:
            self._forget_untold()

    def _forget_untold(self) -> None:
        """What is told from now on is what changes from now on."""
        self._told = dict(self._services)
        self._untold, self._untold_network, self._untold_data_path = set(), None, ""
        self._came = set()
        self._ways.told()

    def _tell_news(self) -> None:
        if not self._listeners:
            return  # it costs nothing before somebody wants to know
        self._settle_all(SETTLED_AT_ONCE)
        again_at = self._settle_parts()
        before, self._told = self._told, {}
        told = MeshTold(
            network=self._untold_network,
            nodes=self._ends.of(self._came | (self._ways.moved & set(self._hosts))),
            gone_nodes=sorted(self._ways.gone),
            services=[self._services[each] for each in sorted(self._untold) if each in self._services],
            gone_services=[each for each in sorted(self._untold) if each not in self._services],
            lead=self._lead,
            data_path=self._untold_data_path,
        )
        for node_id in sorted(self._came):  # before others lead to its tasks
            self._ways.inform(node_id)
        self._parts.tell()
        if told != MeshTold(lead=self._lead):
            self._broadcast(told, before)
        self._ways.tell()
        self._forget_untold()
        self._ways.spare(self._keeps_all, self._parts.inform)
        if self._dirty:
            self._batches.soon()
        elif again_at is not None:
            self._batches.within(max(BATCH_S, again_at - asyncio.get_running_loop().time()))

    def _settle_parts(self) -> float | None:
        """Decides which nodes lead to what of services that are told in parts. Returns when to come again."""
        if not self._parts.services:
            return None
        now = asyncio.get_running_loop().time()
        if self._settled_at is None:
            self._settled_at = self._began_at + SETTLED_S
        if now >= self._settled_at and not self._parts.is_settled:
            self._parts.now_settled()
        at = self._parts.settle(self._count_of, now)
        return at if self._parts.is_settled else min(at or self._settled_at, self._settled_at)

    def _count_of(self, service: PartedService) -> int:
        """Returns in how many parts the service is to be told."""
        tasks = max(service.size, replicas_wanted(self._view, service.words.id))
        return parts_of(tasks, len(self._view.nodes), service.cut.count)

    def _is_news(self, service_id: str) -> bool:
        """Takes a service as it is now. One that cannot be understood costs nobody else his."""
        try:
            return self._settle(service_id)
        except Exception:
            log.exception("mesh.service_failed", service_id=service_id)
            self._dirty_words.add(service_id)  # of which tasks something is new nobody knows any more
            return False

    def _settle(self, service_id: str) -> bool:
        before, was_parted = self._services.get(service_id), service_id in self._parts.services
        now = self._now(service_id)
        if now == before and was_parted == (service_id in self._parts.services):
            return False
        self._all.clear()
        if now is None:
            self._services.pop(service_id, None)
        else:
            self._services[service_id] = now
        self._hosts.subtract(each.node_id for each in (before.endpoints if before is not None else ()))
        self._hosts.update(each.node_id for each in (now.endpoints if now is not None else ()))
        self._hosts = +self._hosts  # without those that have none any more
        return True

    def _now(self, service_id: str) -> MeshService | None:
        """Returns a service as all nodes are told of it; of one that is told in parts, what those are that
        know no parts. None: nothing."""
        is_other = service_id in self._dirty_words
        self._dirty_words.discard(service_id)
        if self._network is None:
            if service_id in self._parts.services:
                self._parts.remove(service_id)
            return None
        service, whole = self._parts.services.get(service_id), None
        if service is None:
            wanted = replicas_wanted(self._view, service_id)
            count = self._count(service_id, wanted)
            if count == 1:
                whole = mesh_service(self._view, service_id, self._network.id, self._deaf)
                count = self._count(service_id, len(whole.endpoints) if whole is not None else 0)
            if count == 1:
                return whole
            service, is_other = self._parts.add(mesh_words(self._view, service_id), count), True
            self._most = None  # it was told whole, and is to be so
        self._settle_tasks(service, is_other)
        is_nobodys = not service.size and not service.words.ports
        is_known = service_id not in self._dirty_tasks  # else more of it comes
        if is_known and (is_nobodys or self._count_of(service) == 1):
            self._parts.remove(service_id)
            self._over.discard(service_id)
        elif not self._earlier:
            return None
        return mesh_service(self._view, service_id, self._network.id, self._deaf)

    def _count(self, service_id: str, tasks: int) -> int:
        """Returns in how many parts a service is to be told of which nobody knows here."""
        return parts_of(tasks, len(self._view.nodes), self._parts.count_before(service_id))

    def _settle_tasks(self, service: PartedService, is_other: bool) -> None:
        """Takes tasks of the service as they are now that may be others; `is_other`: all of them."""
        id = service.words.id
        assert self._network is not None
        # Tasks of nodes that know no parts, and which are not among those that they hear of, are led to by
        # nobody: such a node knows no way back for them.
        is_over = bool(self._earlier) and max(service.size, replicas_wanted(self._view, id)) > ENDPOINTS_MAX
        if is_over != (id in self._over):
            self._over ^= {id}
            is_other = True
        deaf = self._deaf | self._earlier if is_over else self._deaf
        if is_other:
            service.put_words(mesh_words(self._view, id))
            touched = self._dirty_tasks.setdefault(id, {})
            touched.update(dict.fromkeys(service.tasks()))
            touched.update((each.id, None) for each in self._view.tasks_of_service(id))
        for task_id in self._take_tasks(id):
            task = self._view.tasks.get(task_id)
            endpoint = mesh_endpoint(self._view, task, self._network.id, deaf) if task is not None else None
            if task is None or endpoint is None:
                service.drop(task_id)
                continue
            if not service.has(task_id) and service.words.is_alone:
                demand = self._view.demand(id, task.spec_version)
                service.put_words(replace(service.words, is_alone=len(demand.networks) <= 1))
            service.put(task_id, endpoint)

    def _take_tasks(self, service_id: str) -> dict[str, None]:
        """Returns which tasks of the service are to be looked at now; what is left is dirty still."""
        taken, left = self._urgent_tasks.pop(service_id, {}), self._dirty_tasks.pop(service_id, {})
        if self._most is None or len(left) <= self._most:
            return {**taken, **left}
        for task_id in list(islice(left, self._most)):
            taken[task_id] = left.pop(task_id)
        self._dirty_tasks[service_id] = left
        self._dirty.add(service_id)
        return taken

    def _broadcast(self, told: MeshTold, before: dict[str, MeshService]) -> None:
        """Tells all what has changed since then; earlier agents each service whole."""
        changes = [each.since(before[each.id]) if each.id in before else each for each in told.services]
        if self._sessions.knows_any(MESH_CHANGES, without=MESH_PARTS):
            self._send(replace(told, services=changes), MESH_CHANGES, without=MESH_PARTS)
        if self._sessions.knows_any(MESH, without=MESH_CHANGES):
            self._send(told, MESH, without=MESH_CHANGES)
        parts, in_parts, self._in_parts = self._parts.services, self._in_parts, set(self._parts.services)
        whole = {each.id: each for each in told.services if each.id in in_parts}
        told = replace(
            told,
            services=[whole.get(each.id, each) for each in changes if each.id not in parts],
            gone_services=[each for each in told.gone_services if each not in parts],
        )
        if told != MeshTold(lead=self._lead):
            self._send(told, MESH_PARTS)

    def _send_to(self, nodes: Iterable[str], frame: bytes) -> None:
        for node_id in nodes:
            self._sessions.send_frame(node_id, frame)
            self._batches.sent(len(frame))

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
