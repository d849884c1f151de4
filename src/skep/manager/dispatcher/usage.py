"""Questions to nodes what their hosts and tasks take, and their answers.

Nobody is asked unless somebody wants to know. Thousands of answers at once must not keep a heartbeat waiting:
nodes are asked a hundred at a time, and one that has just answered is not asked again, whoever wants to know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from skep.manager.node_sessions import NodeSessions
from skep.manager.node_usage import NodeUsages
from skep.model.usage import NodesAsked, NodeUsage, TaskUsage
from skep.rpc.messages import USAGE, UsageAsk, UsageSaid
from skep.runtime.clock import Clock
from skep.store.view import View

FRESH_S = 2.0  # as often as people look at numbers that move; a younger answer is everybody's
# Nodes asked at a time, and then a pause: 2,300 of them within 0.5 s. A manager takes 6,000 answers a second.
BATCH, PAUSE_S = 96, 0.02
# From being asked to the whole answer: so long somebody waits. A node measures for a quarter of a second if
# nobody asked lately. A busy one may answer later: that is taken, too, and it is not asked meanwhile.
ANSWER_S, LATE_S = 1.0, 10.0
KEPT_S = 10.0  # what tasks take, after that nobody needs it: 100,000 of them are some 20 MB


class _Question:
    """One that a node was, or is to be, asked, for all who want to know meanwhile."""

    __slots__ = ("answer", "node_id", "number", "tasks")

    def __init__(self, number: int, node_id: str, with_tasks: bool) -> None:
        self.number = number
        self.node_id = node_id
        self.tasks: dict[str, TaskUsage] | None = {} if with_tasks else None
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def settle(self, is_answered: bool) -> None:
        if not self.answer.done():
            self.answer.set_result(is_answered)


class _TaskAnswer:
    """What a node has said of its tasks, and when (loop time)."""

    __slots__ = ("at", "tasks")

    def __init__(self, at: float, tasks: Sequence[TaskUsage]) -> None:
        self.at = at
        self.tasks = tasks


class UsageQuestions:
    """Of one leader. What hosts take goes to `known`; what tasks take stays here for a moment."""

    def __init__(self, view: View, nodes: NodeSessions, known: NodeUsages, clock: Clock) -> None:
        self._view = view
        self._nodes = nodes
        self._known = known
        self._clock = clock
        self._number = 0
        self._open: dict[tuple[str, bool], _Question] = {}  # by node, and whether its tasks are asked for
        self._to_send: deque[_Question] = deque()
        self._sending: asyncio.TimerHandle | None = None
        self._ends: set[asyncio.TimerHandle] = set()
        self._answered_at: dict[str, float] = {}  # of nodes, in loop time
        self._of_tasks: dict[str, _TaskAnswer] = {}
        self._dropping: asyncio.TimerHandle | None = None

    async def ask(self, node_ids: Iterable[str], tasks: bool, age_s: float = FRESH_S) -> NodesAsked:
        """Has each of these nodes say how much of its host is used, with `tasks` also what each task takes,
        that has not for `age_s`. Returns when all have, or those that have not are late; how many have."""
        ids = list(node_ids)
        waiting = [q.answer for q in (self._question(id, tasks, age_s) for id in ids) if q is not None]
        if self._to_send and self._sending is None:
            self._send_some()
        if waiting:
            batches = -(-len(self._to_send) // BATCH)
            await asyncio.wait(waiting, timeout=batches * PAUSE_S + ANSWER_S)
        return NodesAsked(len(ids), sum(1 for each in ids if self._is_fresh(each, tasks, age_s + ANSWER_S)))

    def tasks_of(self, node_id: str) -> Sequence[TaskUsage]:
        """Returns what the node has said of its tasks in the last seconds."""
        found = self._of_tasks.get(node_id)
        return found.tasks if found is not None else ()

    def said(self, node_id: str, said: UsageSaid) -> None:
        """A node answers; what it was not asked for is not heard."""
        found = [self._open.get((node_id, tasks)) for tasks in (True, False)]
        question = next((each for each in found if each is not None and each.number == said.number), None)
        if question is None or question.answer.done():
            return
        now = asyncio.get_running_loop().time()
        if question.tasks is not None:
            for each in said.tasks:
                task = self._view.tasks.get(each.task_id)
                if task is not None and task.node_id == node_id:  # of others it has nothing to say
                    question.tasks[task.id] = each
            if said.more:
                return
            self._of_tasks[node_id] = _TaskAnswer(now, tuple(question.tasks.values()))
            self._drop_later()
        self._known.put(node_id, NodeUsage(self._clock.now(), said.host))
        self._answered_at[node_id] = now
        question.settle(True)
        del self._open[node_id, question.tasks is not None]

    def ended(self, node_id: str) -> None:
        """The node's session is over: the next one has not heard the question."""
        for key in ((node_id, True), (node_id, False)):
            question = self._open.pop(key, None)
            if question is not None:
                question.settle(False)
        self._answered_at.pop(node_id, None)
        self._of_tasks.pop(node_id, None)

    def stop(self) -> None:
        """This manager no longer leads."""
        for timer in (*self._ends, self._sending, self._dropping):
            if timer is not None:
                timer.cancel()
        self._ends.clear()
        self._to_send.clear()
        self._give_up(list(self._open.values()))

    def _question(self, node_id: str, tasks: bool, age_s: float) -> _Question | None:
        """Returns what the node is to be waited for; None where it need not, or cannot, be asked."""
        question = self._open.get((node_id, True)) or self._open.get((node_id, tasks))
        if question is None and not self._is_fresh(node_id, tasks, age_s):
            if not self._nodes.understands(node_id, USAGE):  # it has no session, or an agent of before
                return None
            self._number += 1
            question = self._open[node_id, tasks] = _Question(self._number, node_id, tasks)
            self._to_send.append(question)
        return question

    def _is_fresh(self, node_id: str, tasks: bool, age_s: float) -> bool:
        answer = self._of_tasks.get(node_id)
        at = self._answered_at.get(node_id) if not tasks else answer.at if answer is not None else None
        return at is not None and asyncio.get_running_loop().time() - at < age_s

    def _send_some(self) -> None:
        loop = asyncio.get_running_loop()
        batch = [self._to_send.popleft() for _ in range(min(BATCH, len(self._to_send)))]
        for question in (each for each in batch if not each.answer.done()):
            self._nodes.send(question.node_id, UsageAsk(question.number, question.tasks is not None))
        self._ends = {each for each in self._ends if each.when() > loop.time()}
        self._ends.add(loop.call_later(LATE_S, self._give_up, batch))
        self._sending = loop.call_later(PAUSE_S, self._send_some) if self._to_send else None

    def _give_up(self, questions: Iterable[_Question]) -> None:
        """Those that are not answered by now will not be."""
        for question in questions:
            key = (question.node_id, question.tasks is not None)
            if self._open.get(key) is question:
                del self._open[key]
            question.settle(False)

    def _drop_later(self) -> None:
        if self._dropping is None:
            self._dropping = asyncio.get_running_loop().call_later(KEPT_S, self._drop_old)

    def _drop_old(self) -> None:
        self._dropping = None
        since = asyncio.get_running_loop().time() - KEPT_S
        self._of_tasks = {id: each for id, each in self._of_tasks.items() if each.at > since}
        if self._of_tasks:
            self._drop_later()
