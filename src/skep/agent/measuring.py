"""What a node answers who wants to know what its host and its tasks take. Until then nothing is measured.

How much of the processors somebody uses takes two readings. The last one is kept: who asks every few seconds
has what was used since, who asks for the first time, or for the first time of a task, waits for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec.structs import replace

from skep.agent.executor.interfaces import Counted, RunningTask, UsageReading
from skep.agent.session import Session
from skep.model.usage import HostUsage, TaskUsage
from skep.rpc import messages
from skep.runtime.supervise import cancel_and_wait

log = structlog.get_logger()

WINDOW_MIN_S = 0.25  # between two readings: the host's processors are counted in hundredths of a second
WINDOW_MAX_S = 10.0  # what was used in a longer time says little of now
TASKS_MAX = 10_000  # of a node: engines come to an end at a tenth of that. Their readings have 1 MB
PAUSE_S = 0.05  # between two messages of one answer: a heartbeat goes in between

ReadUsage = Callable[[Sequence[RunningTask]], Awaitable[UsageReading]]


class Measuring:
    """`read` reads what is used, `running` says which tasks there are. One measurement at a time."""

    def __init__(
        self, session: Session, read: ReadUsage, running: Callable[[], Sequence[RunningTask]]
    ) -> None:
        self._session = session
        self._read = read
        self._running = running
        self._asked: dict[bool, int] = {}  # whether of tasks, too -> number of the question: the last ones
        self._before: UsageReading | None = None
        self._work: asyncio.Task[None] | None = None
        session.on(messages.UsageAsk, self._take, messages.USAGE)

    async def close(self) -> None:
        await cancel_and_wait(self._work)

    def _take(self, asked: messages.UsageAsk) -> None:
        self._asked[asked.tasks] = asked.number
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        while self._asked:
            with_tasks, number = self._asked.popitem()
            try:
                host, tasks = await self._measure(self._running()[:TASKS_MAX] if with_tasks else None)
            except Exception as error:  # who asks does not wait for long, and may ask again
                log.warning("usage.not_measured", error=str(error) or repr(error))
                continue
            most = messages.TASKS_SAID_MAX
            for start in range(0, max(1, len(tasks)), most):
                if start:
                    await asyncio.sleep(PAUSE_S)
                more = start + most < len(tasks)
                if self._session.manager_knows(messages.USAGE):  # the leader may be another by now
                    part = tasks[start : start + most]
                    self._session.send(messages.UsageSaid(number, host, part, more))

    async def _measure(self, tasks: Sequence[RunningTask] | None) -> tuple[HostUsage, list[TaskUsage]]:
        """None: those of tasks are not asked for."""
        before = self._before
        known = before.tasks if before is not None else {}
        now = await self._read(tasks or ())
        if before is None or _must_wait(before, now):
            before = now
            await asyncio.sleep(WINDOW_MIN_S)
            now = await self._read(tasks or ())
        # Of tasks that are not asked for this time, what is known is still of use for a while.
        self._before = now if tasks is not None else replace(now, tasks=known)
        host = HostUsage(cores(before.host, now.host), now.host.memory_bytes, now.load1)
        usages = [
            TaskUsage(
                task_id, cores(before.tasks.get(task_id), each), each.memory_bytes, each.memory_limit_bytes
            )
            for task_id, each in now.tasks.items()
        ]
        return host, usages


def _must_wait(before: UsageReading, now: UsageReading) -> bool:
    """True where there is somebody of whom the reading of before says nothing, or nothing of use."""
    pairs = [(before.host, now.host), *((before.tasks.get(id), each) for id, each in now.tasks.items())]
    return any(then is None or not WINDOW_MIN_S <= each.at - then.at <= WINDOW_MAX_S for then, each in pairs)


def cores(before: Counted | None, now: Counted) -> float:
    """Returns how many processors were in use between two readings; 0 where there is but one."""
    if before is None or now.at <= before.at:
        return 0.0
    return round(max(0.0, (now.cpu_s - before.cpu_s) / (now.at - before.at)), 4)
