"""The routing mesh to the nodes, as it changes: every node hears of every published service; of one with very
many tasks a part (`mesh_teller`).

In: what was committed and reported, for services that publish ports; nothing happens for others. Out: frames,
made once for all nodes. What changes within a moment is told together; the longer, the larger it is. A task
that is to end is told of at once, before its own node is told to end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from skep.model.node import DOWN
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.messages import MESH, MESH_PARTS, MeshTold
from skep.store.view import View

from .batches import BATCH_S, Batches
from .mesh_returns import WaysBack
from .mesh_services import MeshServices
from .mesh_teller import PartsTeller
from .mesh_whole import WholeTeller
from .sessions import Sessions
from .tunnel_ends import TunnelEnds

log = structlog.get_logger()

# Tasks of a service told in parts that are looked at in one go, but for those that are to end: a thirtieth of
# a second. The others wait for their turn.
SETTLED_AT_ONCE = 10_000
# Where so many nodes do not know their own tasks, or more has changed than that, it is told so often: each of
# them is told something else, for a fifth of a second of the leader's time with 2,300 of them.
MANY_NODES, TOLD_S = 500, 2.0
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
        self._ends = TunnelEnds(view, sessions)
        self._began_at = 0.0  # loop time
        self._listeners: set[str] = set()
        self._deaf: set[str] = set()  # nodes of an earlier skep, or without a mesh, by their latest word
        self._earlier: set[str] = set()  # nodes that know the mesh, and no parts
        self._ways = WaysBack(view, sessions, self._ends, self._earlier, self._send_to)
        self._parts = PartsTeller(self._ends, self._send_to, sessions.lead, self._ways.is_informed)
        self._services = MeshServices(view, self._parts, self._deaf, self._earlier)
        self._whole = WholeTeller(view, sessions, self._services, self._parts, self._ends)
        self._settled_at: float | None = None  # loop time
        self._untold_since: float | None = None  # loop time; None: nothing is held back
        self._many_told_at = -TOLD_S  # loop time
        self._is_urgent = False  # what is to be told does not wait for more
        self._batches = Batches("mesh", self._tell_news)
        sessions.says(MESH_PARTS)
        sessions.on_end(self._ended)

    def begin(self) -> None:
        """A leader has read everything: what it tells to the first node is all."""
        self._ends.begin()
        self._began_at = asyncio.get_running_loop().time()
        for service_id in (*self._view.services, *self._view.removed):
            if self._services.concerns(service_id):
                self._services.touch_service(service_id)

    def stop(self) -> None:
        self._batches.stop()

    # What has changed

    def began(self, node_id: str, said: messages.Register) -> None:
        """A session has begun: the node is told all."""
        self._failed(node_id, [])  # else it says so again
        if self._ends.heard(node_id, said):
            self._whole.forget_all()
            self._ways.node_moved(node_id)
            self._parts.moved(node_id)
            if not self._services.is_empty:
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
            self._is_urgent = True  # it leads to all that is known here, told or not: their nodes are to know
            self._batches.soon()

    def _hear_whether_earlier(self, node_id: str, is_earlier: bool) -> None:
        """The first and the last earlier agent change what is made of large services for such agents."""
        if is_earlier == (node_id in self._earlier):
            return
        had = bool(self._earlier)
        self._earlier ^= {node_id}
        self.node_changed(node_id)
        if had != bool(self._earlier):
            self._services.touch_parted()
            if self._listeners:
                self._settle_all()

    def _needs_all(self, node_id: str) -> bool:
        """True where connections to the node's tasks may come by any node."""
        return node_id in self._services.hosts or (node_id in self._earlier and self._parts.is_host(node_id))

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
        own, knows_parts = self._ends.of([node_id]), node_id not in self._earlier
        if not self._services.whole and not (knows_parts and self._parts.services):
            self._sessions.send(node_id, self._whole.nothing(own))
            return
        for frame in self._whole.all(knows_parts):
            self._sessions.send_frame(node_id, frame)
        for frame in self._parts.all(node_id, self._needs_all(node_id)) if knows_parts else ():
            self._sessions.send_frame(node_id, frame)
        self._sessions.send(node_id, MeshTold(nodes=own, lead=self._sessions.lead))

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
                if task.addresses and self._services.concerns(task.service_id):
                    is_to_end = task.desired_state > RUNNING
                    self._services.touch_task(task, is_to_end)
                    is_urgent = is_urgent or is_to_end
        self._tell(is_urgent)

    def reported(self, task: Task, status: TaskStatus) -> None:
        """What is seen of a task has changed."""
        if status.state >= RUNNING and task.addresses and self._services.concerns(task.service_id):
            self._services.touch_task(task)
            self._batches.soon()

    def service_changed(self, service_id: str) -> None:
        """A service was made, changed or removed."""
        if self._services.concerns(service_id):
            self._services.touch_service(service_id)
            self._tell(service_id in self._view.removed)

    def cluster_changed(self) -> None:
        """The swarm's settings may be others."""
        if self._services.is_other_data_path:
            self._batches.soon()

    def node_changed(self, node_id: str) -> None:
        """A node came, or is down."""
        buckets = self._view.buckets.get(node_id, {})
        found = [each for each in buckets if self._services.concerns(each)]
        for service_id in found:
            for task in buckets[service_id].values():
                self._services.touch_task(task)
        if found:
            self._is_urgent = True  # others lead to its tasks: that does not wait for what else there is
            self._batches.soon()
        if self._view.node_state(node_id).state == DOWN and not self._sessions.has(node_id):
            self._leave_parts(node_id)

    def node_removed(self, node_id: str) -> None:
        self._deaf.discard(node_id)
        self._earlier.discard(node_id)
        self._whole.forget_all()
        self._leave_parts(node_id)
        if self._ends.forget(node_id) and not self._services.is_empty:
            self._ways.node_gone(node_id)
            self._batches.soon()
        self.node_changed(node_id)

    # Telling

    def _tell(self, is_urgent: bool) -> None:
        """Tells at once that tasks are to end: their own nodes are told next."""
        if is_urgent and self._services.is_dirty:
            self._is_urgent = True
            self._batches.at_once()
        elif self._services.is_dirty:
            self._batches.soon()

    def _settle_all(self, most: int | None = None) -> None:
        """Takes all that has changed as it is now; of tasks of services that are told in parts no more than
        so many, and those that cannot wait."""
        settled = self._services.settle(most)
        self._whole.take(settled)
        self._ways.nodes_left(settled.left)
        hosts = {each for each in self._earlier if self._parts.is_host(each)}
        self._whole.came.update(each for each in hosts if not self._ways.is_informed(each))
        if not self._listeners:
            self._forget_untold()

    def _forget_untold(self) -> None:
        """What is told from now on is what changes from now on."""
        self._whole.forget_untold()
        self._ways.told()

    def _tell_news(self) -> None:
        if not self._listeners:
            return  # it costs nothing before somebody wants to know
        self._settle_all(SETTLED_AT_ONCE)
        if self._waits_for_more():
            self._batches.soon()
            return
        self._is_urgent = True  # also the next time, where it fails: somebody may have been told
        again_at = self._settle_parts()
        if self._parts.waiting >= MANY_NODES:
            self._many_told_at = asyncio.get_running_loop().time()
        told, before = self._whole.take_news(self._ways.moved, self._ways.gone)
        for node_id in sorted(self._whole.came):  # before others lead to its tasks
            self._ways.inform(node_id)
        self._parts.tell()
        self._batches.sent(self._whole.tell(told, before))
        self._ways.tell()
        self._forget_untold()
        self._untold_since, self._is_urgent = None, False
        self._ways.spare(self._keeps_all, self._parts.inform)
        if self._services.is_dirty:
            self._batches.soon()
        elif again_at is not None:
            self._batches.within(max(BATCH_S, again_at - asyncio.get_running_loop().time()))

    def _waits_for_more(self) -> bool:
        """Returns whether more is looked at before anything is told: for a while at most. Of what comes after
        nothing has for as long, many nodes are told at once, unless there is more of it than is looked at."""
        if self._is_urgent:
            return False
        now, since = asyncio.get_running_loop().time(), list[float]()
        if self._services.is_dirty:
            self._untold_since = now if self._untold_since is None else self._untold_since
            since.append(self._untold_since)
        if self._parts.waiting >= MANY_NODES:
            since.append(self._many_told_at)
        return any(now < each + TOLD_S for each in since)

    def _settle_parts(self) -> float | None:
        """Decides which nodes lead to what of services that are told in parts. Returns when to come again."""
        if not self._parts.services:
            return None
        now = asyncio.get_running_loop().time()
        if self._settled_at is None:
            self._settled_at = self._began_at + SETTLED_S
        if now >= self._settled_at and not self._parts.is_settled:
            self._parts.now_settled()
        at = self._parts.settle(self._services.count_of, now)
        return at if self._parts.is_settled else min(at or self._settled_at, self._settled_at)

    def _send_to(self, nodes: Iterable[str], frame: bytes) -> None:
        for node_id in nodes:
            self._sessions.send_frame(node_id, frame)
            self._batches.sent(len(frame), 1)
