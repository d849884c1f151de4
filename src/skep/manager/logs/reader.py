"""One client's request for logs: asks the nodes that have some, and merges what they bring.

Lines of one task keep their order; those of different tasks come as they arrive, whole lines in pieces of up
to 64 kB. Nothing is sorted: a follower would have to wait for the slowest node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from skep.manager.logs.lines import LineWriter, Origin, Style, after, warning
from skep.model.logs import LogOptions, LogSelection
from skep.model.states import RUNNING, STARTING, is_terminal
from skep.model.task import Task
from skep.rpc.log_streams import LINES, LogSource, Record
from skep.runtime.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from skep.manager.logs.broker import LogBroker

log = structlog.get_logger()

# Nodes asked at once: a handshake costs the leader 2 ms, and one that hangs holds its place for five seconds.
ASKING_MAX = 64
READING_MAX = 128  # nodes read at once where nothing is followed: connections, not tasks, cost memory
TROUBLE_MAX_BYTES = 2000  # of why a task's logs cannot be read: an engine's error
TOGETHER_S = 0.1  # tasks of a node that start together are asked for together
AGAIN_S = 2.0  # before a task whose stream broke off, and which runs, is asked for again
SLICE = 1000  # tasks that are looked at before the loop goes round: 2 ms
HEARD_POLL_S, HEARD_POLLS = 0.1, 50  # five seconds, as for a node that was asked
TASKS_MAX = 2000  # per connection: a request of 100 kB


class _Log:
    """What is known of one task's lines."""

    __slots__ = ("is_late", "is_over", "is_read", "task", "writer")

    def __init__(self, task: Task, writer: LineWriter, is_late: bool) -> None:
        self.task = task
        self.writer = writer
        self.is_late = is_late  # it began to run after the request: all of it is news, whatever `tail` says
        self.is_read = False  # a connection brings it, or will
        self.is_over = False  # nothing ever will come

    @property
    def has_begun(self) -> bool:
        """True where `tail` has been done, or does not count."""
        return self.is_late or bool(self.writer.last_time)


class LogReader:
    """Made by `LogBroker.open`. `parts` yields until the end; `close` whatever happened."""

    def __init__(
        self, broker: LogBroker, selection: LogSelection, options: LogOptions, since: str, timestamps: bool
    ) -> None:
        self.selection = selection
        self._first_since = since
        self._broker = broker
        self._options = options
        self._style = Style(timestamps, options.details, selection.is_raw)
        self._logs: dict[str, _Log] = {}
        self._waiting: dict[str, list[_Log]] = {}  # node -> to be asked for
        self._sources: dict[str, set[LogSource]] = {}
        self._lost: dict[str, list[_Log]] = {}  # node -> to be asked for when it is back
        self._warned: set[str] = set()  # nodes that bring nothing, which the reader knows
        # One piece at a time: what a slow client has not taken yet stays with the nodes.
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._asking = asyncio.Semaphore(ASKING_MAX)
        self._reading = asyncio.Semaphore(READING_MAX)
        self._works: set[asyncio.Task[None]] = set()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._is_ending = False

    async def parts(self) -> AsyncIterator[bytes]:
        """Yields whole lines, in the style asked for."""
        self._do(self._begin())
        while (part := await self._ready.get()) is not None:
            yield part

    def close(self) -> None:
        self._broker.closed(self)
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        for work in self._works:
            work.cancel()

    def end(self, reason: str) -> None:
        """Ends it before its time, with a word, which is the last one."""
        for sources in self._sources.values():
            for source in sources:
                source.close(reason)
        if not self._is_ending:
            self._is_ending = True
            for work in self._works:
                work.cancel()
            self._do(self._say_end(reason))

    # What there is to read

    async def _begin(self) -> None:
        view, selection = self._broker.view, self.selection
        if selection.task_id:
            task = view.tasks.get(selection.task_id)
            tasks = [task] if task is not None else []
        else:
            tasks = list(view.tasks_of_service(selection.service_id))
        unheard = []
        for n, task in enumerate(tasks, 1):
            if view.status_of(task) is None and task.created_at < view.led_since:
                unheard.append(self._note(task, is_late=False))
            else:
                self._take(task, is_late=False)
            if n % SLICE == 0:
                await asyncio.sleep(0)
        self._flush()
        await self._wait_heard(unheard)

    async def _wait_heard(self, logs: list[_Log]) -> None:
        """A new leader does not know what tasks of before do until their nodes have come and said it. Waits
        a while, then names the nodes that are missing; a follower reads them when they come."""
        missing: dict[str, list[_Log]] = {}
        for _ in range(HEARD_POLLS):
            missing = {}
            for n, each in enumerate(logs, 1):
                if n % SLICE == 0:
                    await asyncio.sleep(0)
                if self._has_begun(each.task):
                    self._want(each)
                elif self._broker.view.status_of(each.task) is None:
                    missing.setdefault(each.task.node_id, []).append(each)
            logs = [each for of_node in missing.values() for each in of_node]
            if not any(self._broker.may_come(node_id) for node_id in missing):
                break
            await asyncio.sleep(HEARD_POLL_S)
        for node_id, of_node in missing.items():
            why = self._broker.why_away(node_id)
            if why:
                await self._name(node_id, of_node, why)

    def task_changed(self, task: Task) -> None:
        """A task of this service did something."""
        if not self._options.follow or (self.selection.task_id and task.id != self.selection.task_id):
            return
        known = self._logs.get(task.id)
        if known is None:
            self._take(task, is_late=True)
        elif self._has_begun(task):
            self._want(known)
        self.look()

    def _take(self, task: Task, is_late: bool) -> None:
        if not self._has_begun(task) or task.id in self._logs:
            return
        self._want(self._note(task, is_late))
        if is_late and len(self._logs) % SLICE == 0:  # a crash loop that is followed for weeks
            tasks = self._broker.view.tasks
            self._logs = {k: v for k, v in self._logs.items() if v.is_read or k in tasks}

    def _has_begun(self, task: Task) -> bool:
        """True where it may have put out something, as far as this leader knows."""
        status = self._broker.view.status_of(task)
        return status is not None and status.state >= STARTING

    def _note(self, task: Task, is_late: bool) -> _Log:
        origin = Origin(task.node_id, task.service_id, task.id)
        noted = self._logs[task.id] = _Log(task, LineWriter(origin, self._style), is_late)
        return noted

    def _want(self, log_of: _Log) -> None:
        if log_of.is_read or log_of.is_over:
            return  # its task has done something while its node was to be asked again
        log_of.is_read = True
        self._waiting.setdefault(log_of.task.node_id, []).append(log_of)
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(TOGETHER_S, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._flush_timer = None
        waiting, self._waiting = self._waiting, {}
        nodes = max(len(waiting), len(self._sources))
        for node_id, logs in waiting.items():
            fresh = [each for each in logs if not each.has_begun]
            for group in (fresh, [each for each in logs if each.has_begun]):
                for start in range(0, len(group), TASKS_MAX):
                    self._do(self._read(node_id, group[start : start + TASKS_MAX], nodes))
        self.look()

    def look(self) -> None:
        """Ends what has come to its end: everything was read, and nothing can follow."""
        if not (self._works or self._waiting or self._is_ending or self._can_follow()):
            self._is_ending = True
            self._do(self._ready.put(None))

    def _can_follow(self) -> bool:
        """Docker's followers never end by themselves; ours do when the service, or the task, is gone."""
        if not self._options.follow:
            return False
        view, selection = self._broker.view, self.selection
        if not selection.task_id:
            return selection.service_id in view.services
        task = view.tasks.get(selection.task_id)
        if task is None:
            return selection.task_id in view.pending_ids
        status = view.status_of(task)
        return status is None or not is_terminal(status.state)

    # Nodes that come and go

    def node_came(self, node_id: str) -> None:
        for log_of in self._lost.pop(node_id, ()):
            self._want(log_of)

    def node_down(self, node_id: str) -> None:
        for source in self._sources.get(node_id, ()):
            source.close(self._broker.why_away(node_id))

    # Reading

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("logs.failed", error=repr(error))
        self.look()

    async def _read(self, node_id: str, logs: list[_Log], nodes: int) -> None:
        if self._options.follow:
            await self._read_from(node_id, logs, nodes)
        else:
            async with self._reading:
                await self._read_from(node_id, logs, min(nodes, READING_MAX))

    async def _read_from(self, node_id: str, logs: list[_Log], nodes: int) -> None:
        try:
            async with self._asking:
                wanted = [(each.task.id, self._since(each)) for each in logs]
                options = replace(self._options, tail=-1) if logs[0].has_begun else self._options
                source = await self._broker.ask(node_id, wanted, options, nodes)
        except (Unavailable, Invalid) as error:
            await self._lose(node_id, logs, str(error))
            return
        sources = self._sources.setdefault(node_id, set())
        sources.add(source)
        try:
            while (record := await source.read()) is not None:
                self._warned.discard(node_id)
                await self._pass_on(logs, record)
                source.give(record.size)
        except (Unavailable, Invalid) as error:
            await self._lose(node_id, logs, str(error))
        else:
            self._finish(logs)
        finally:
            self._broker.release(source)
            sources.discard(source)
            if not sources and self._sources.get(node_id) is sources:
                del self._sources[node_id]

    async def _pass_on(self, logs: list[_Log], record: Record) -> None:
        if not 0 <= record.task < len(logs):
            raise Invalid("it sends lines of a task that it was not asked for")
        log_of = logs[record.task]
        if record.kind != LINES:
            log_of.is_over = True
            why = record.content[:TROUBLE_MAX_BYTES].decode(errors="replace")
            await self._warn(log_of.task, f"no logs of this task: {why}")
            return
        async with self._broker.turn:
            lines = log_of.writer.write(record.content)
            await asyncio.sleep(0)
        if lines:
            await self._ready.put(lines)

    def _finish(self, logs: list[_Log]) -> None:
        """All has come that there was. A task that runs on is asked for again: its engine went away."""
        again = []
        for log_of in logs:
            log_of.is_read = False
            status = self._broker.view.status_of(log_of.task)
            runs = status is not None and status.state in (STARTING, RUNNING)
            if self._options.follow and runs and not log_of.is_over:
                again.append(log_of)
        self._want_later(again)

    def _want_later(self, logs: list[_Log]) -> None:
        async def want() -> None:
            await asyncio.sleep(AGAIN_S)
            for log_of in logs:
                self._want(log_of)

        if logs:
            self._do(want())

    async def _lose(self, node_id: str, logs: list[_Log], reason: str) -> None:
        """A node brings nothing more: says so once; asks again when it is back, where this is followed."""
        view = self._broker.view
        for log_of in logs:
            log_of.is_read = False
        if self._is_ending:
            return
        node = view.nodes.get(node_id)
        if self._options.follow and node is not None:
            left = [each for each in logs if not each.is_over]
            if self._broker.is_here(node_id):
                self._want_later(left)
            else:
                self._lost.setdefault(node_id, []).extend(left)
        await self._name(node_id, logs, reason)

    async def _name(self, node_id: str, logs: list[_Log], reason: str) -> None:
        """Says once why a node brings nothing."""
        if node_id not in self._warned:
            self._warned.add(node_id)
            node = self._broker.view.nodes.get(node_id)
            name = node.description.hostname if node is not None else node_id
            no = "no more" if any(each.writer.last_time for each in logs) else "no"
            await self._warn(logs[-1].task, f"{no} logs from node {name}: {reason}")

    async def _warn(self, task: Task, text: str) -> None:
        """The docker client asks for the task that a line names, and gives up where there is none."""
        view = self._broker.view
        if task.id not in view.tasks:
            task = next(iter(view.tasks_of_service(task.service_id)), task)
        if task.id in view.tasks or not self._style.details:
            origin = Origin(task.node_id, task.service_id, task.id)
            await self._ready.put(warning(origin, self._style, text, self._broker.clock.now()))

    async def _say_end(self, reason: str) -> None:
        for log_of in list(self._logs.values())[-1:]:
            await self._warn(log_of.task, reason)
        await self._ready.put(None)

    def _since(self, log_of: _Log) -> str:
        return after(log_of.writer.last_time) if log_of.writer.last_time else self._first_since
