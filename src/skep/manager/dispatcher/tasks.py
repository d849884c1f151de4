"""Tasks to their nodes as they are committed, and what became of them back from there.

In: what was committed (`publish`), and nodes' reports. Out: frames to nodes, and `reported` hears of each
task whose observed state has changed. Cost: a commit touches the nodes it names, a report the tasks in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc import messages
from skep.rpc.checking import check_statuses
from skep.runtime.clock import Clock
from skep.runtime.metrics import Histogram, Metric
from skep.store.view import View

from .assignments import Sent, complete, difference, frames, is_news
from .materials import given, withdrawn
from .reports import Reports, bounded
from .sessions import Sessions

START_BOUNDS_S = (
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
)  # with its image there, or to pull
Reported = Callable[[Task, TaskStatus, bool], None]  # (task, status, news): its slot must be looked at


class TaskDispatcher:
    """Hears of sessions by `began`; what the node of each has been sent is forgotten with it."""

    def __init__(self, view: View, sessions: Sessions, reported: Reported, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._start_delay = Histogram(
            "skep_start_delay_seconds",
            "How long tasks took from when they were made until their node said that they run.",
            START_BOUNDS_S,
        )
        self._sessions = sessions
        self._reported = reported
        self._sent: dict[str, Sent] = {}  # by node, for those that have a session
        self._reports = Reports(self._take)
        sessions.on_statuses(self._reports.add)
        sessions.on_end(lambda node_id: self._sent.pop(node_id, None))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (self._start_delay,)

    def stop(self) -> None:
        self._reports.stop()

    def began(self, node_id: str, said: messages.Register) -> None:
        """A session has begun: the node is told everything."""
        sent = self._sent[node_id] = Sent(self._sessions.understands(node_id, messages.OVERLAY))
        for assign in given(self._view, self._view.tasks_of_node(node_id), sent.materials):
            self._assign(node_id, assign)
        self._assign(node_id, complete(self._view, node_id, sent))

    def publish(self, changed: dict[str, tuple[list[Task], list[Task]]]) -> None:
        """Tells nodes what was committed: node id -> (tasks put, tasks dropped)."""
        for node_id, (put, dropped) in changed.items():
            sent = self._sent.get(node_id)
            if sent is None:
                continue
            had = sent.materials
            told = [*given(self._view, put, had), difference(self._view, node_id, put, dropped, sent)]
            if had and (dropped or any(task.result is not None for task in put)):
                told.append(withdrawn(self._view, node_id, had))
            for assign in told:
                if assign is not None:
                    self._assign(node_id, assign)

    def publish_removing(self, service_id: str, node_ids: Iterable[str]) -> None:
        """Tells nodes that every task of a service is to end."""
        frame = messages.encode(messages.Assign(removing=[service_id], lead=self._sessions.lead))
        for node_id in node_ids:
            self._sessions.send_frame(node_id, frame)

    # Inside

    def _assign(self, node_id: str, assign: messages.Assign) -> None:
        for frame in frames(replace(assign, lead=self._sessions.lead)):
            self._sessions.send_frame(node_id, frame)

    def _take(self, node_id: str, frame: bytes) -> None:
        """Takes in one report; what cannot be taken ends the session of its node."""
        try:
            items = messages.decode_statuses(frame)
            check_statuses(items)
            for task_id, status in items:
                self._observe(node_id, task_id, status)
        except Exception as error:
            self._sessions.refuse(node_id, error)

    def _observe(self, node_id: str, task_id: str, status: TaskStatus) -> None:
        task = self._view.tasks.get(task_id)
        if task is None or task.node_id != node_id:
            return
        status = bounded(status)
        known = self._view.status_of(task)
        if self._view.put_status(task, status):
            if status.state == RUNNING and (known is None or known.state < RUNNING):
                self._began_to_run(task)
            self._reported(task, status, is_news(self._view, task, status.state))

    def _began_to_run(self, task: Task) -> None:
        """Those that were made before this leader began, which hears of them anew, are none of its."""
        if task.created_at >= self._view.led_since:
            self._start_delay.observe(max(0.0, self._clock.now() - task.created_at))
