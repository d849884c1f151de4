"""Who reads logs at the moment, and which connections of nodes are expected for them.

The leader has one. It asks a node over its session (`ReadLogs`); the node opens a connection and says the id
it was given, which is random, of use once, and good for this node only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from skep.manager.logs.reader import LogReader
from skep.manager.node_sessions import NodeSessions
from skep.model.logs import LogOptions, LogSelection
from skep.model.node import DOWN
from skep.model.task import Task
from skep.rpc.link import FrameLink
from skep.rpc.log_streams import LogSource, PublishLogs, refuse_logs
from skep.rpc.messages import LOGS, ReadLogs
from skep.runtime.clock import Clock
from skep.runtime.errors import Unavailable
from skep.store.view import View

log = structlog.get_logger()

READERS_MAX = 64  # requests at once: each may hold READER_BYTES, 512 MB in all where every one is slow
READER_BYTES = 8 << 20  # what is under way for one reader, over all nodes
WINDOW_MIN_BYTES, WINDOW_MAX_BYTES = 2 << 10, 512 << 10  # per node: more than 20 MB/s at 20 ms
CONNECTIONS_MAX = 4096  # of nodes, for all readers: 50 kB each, as a session
ANSWER_S = 5.0  # until a node that was asked has connected; it is what a reader waits at most for a hung one
HERE_POLL_S = 0.1


class LogBroker:
    """`new_secret` makes ids that nobody can guess."""

    def __init__(self, view: View, nodes: NodeSessions, clock: Clock, new_secret: Callable[[], str]) -> None:
        self._view = view
        self._nodes = nodes
        self.clock = clock
        self._new_secret = new_secret
        self._readers: set[LogReader] = set()
        self._by_service: dict[str, set[LogReader]] = {}
        self._expected: dict[str, tuple[str, int, asyncio.Future[LogSource]]] = {}
        self._connections = 0
        self._stopped = False
        # One piece of lines per turn of the loop, whoever reads: a leader's heartbeats come between them.
        self.turn = asyncio.Lock()

    @property
    def view(self) -> View:
        return self._view

    def open(self, selection: LogSelection, options: LogOptions, since: str, timestamps: bool) -> LogReader:
        """Returns what yields the lines; it must be closed. `since`: `seconds.nanoseconds`.

        Errors: `Unavailable` where too many read."""
        if len(self._readers) >= READERS_MAX:
            raise Unavailable(f"{READERS_MAX} requests for logs are under way already: try again later")
        if self._stopped:
            raise Unavailable("this manager no longer leads: try again")
        reader = LogReader(self, selection, options, since, timestamps)
        self._readers.add(reader)
        self._by_service.setdefault(selection.service_id, set()).add(reader)
        return reader

    def closed(self, reader: LogReader) -> None:
        self._readers.discard(reader)
        readers = self._by_service.get(reader.selection.service_id)
        if readers is not None:
            readers.discard(reader)
            if not readers:
                del self._by_service[reader.selection.service_id]

    def is_here(self, node_id: str) -> bool:
        """True where it can be asked: one whose engine does not answer has a session, and no logs."""
        return self._nodes.has(node_id) and not self._view.node_state(node_id).engine_is_silent

    async def ask(
        self, node_id: str, tasks: list[tuple[str, str]], options: LogOptions, nodes: int
    ) -> LogSource:
        """Returns the connection over which a node brings these tasks' lines. `nodes` share the reader's
        memory. `release` it. Errors: `Unavailable`, which says why not."""
        await self._wait_here(node_id)
        if not self._nodes.understands(node_id, LOGS):
            raise Unavailable("its skep is too old to send logs")
        if self._connections >= CONNECTIONS_MAX:
            raise Unavailable(f"logs of {CONNECTIONS_MAX} nodes are read already")
        request_id = self._new_secret()
        window = max(WINDOW_MIN_BYTES, min(WINDOW_MAX_BYTES, READER_BYTES // max(1, nodes)))
        coming: asyncio.Future[LogSource] = asyncio.get_running_loop().create_future()
        self._expected[request_id] = (node_id, window, coming)
        self._connections += 1
        try:
            self._nodes.send(node_id, ReadLogs(request_id, tasks, options, window))
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(coming)
        except BaseException as error:
            coming.add_done_callback(_close)  # it may come between here and there
            coming.cancel()
            self._connections -= 1
            if isinstance(error, TimeoutError):
                raise Unavailable(f"it did not answer within {ANSWER_S:g} s") from error
            raise
        finally:
            self._expected.pop(request_id, None)

    def release(self, source: LogSource) -> None:
        """A connection that `ask` has returned is not needed any more."""
        self._connections -= 1
        source.close()

    def why_away(self, node_id: str) -> str:
        """Returns why a node cannot be asked at the moment; an empty text where it can."""
        if self.is_here(node_id):
            return ""
        if node_id not in self._view.nodes:
            return "it is not in the swarm any more"
        state = self._view.node_state(node_id)
        if state.engine_is_silent:
            return "its engine does not answer"
        if state.state == DOWN:
            return "it is down"
        return "it has no connection to this manager"

    def may_come(self, node_id: str) -> bool:
        """True for a node that is here or, as it is not down, may come yet: to a new leader they come one
        after the other."""
        state = self._view.node_state(node_id)
        is_away = state.state == DOWN or state.engine_is_silent
        return self.is_here(node_id) or (node_id in self._view.nodes and not is_away)

    async def _wait_here(self, node_id: str) -> None:
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        while not self.is_here(node_id):
            if not self.may_come(node_id) or asyncio.get_running_loop().time() > deadline:
                raise Unavailable(self.why_away(node_id))
            await asyncio.sleep(HERE_POLL_S)

    # What comes from the port

    def accept(self, link: FrameLink, brought: PublishLogs) -> None:
        """Takes a node's connection, if it was asked for."""
        found = self._expected.get(brought.id)
        node_id = link.identity.node_id if link.identity is not None else ""
        if found is None or found[0] != node_id or found[2].done():
            refuse_logs(link, "these logs are not wanted (any more)")
            return
        try:
            found[2].set_result(LogSource(link, found[1]))
        except Unavailable as error:
            found[2].set_exception(error)

    # What the leader hears

    def task_changed(self, task: Task) -> None:
        """A task's observed state has risen."""
        for reader in self._by_service.get(task.service_id, ()):
            reader.task_changed(task)

    def node_came(self, node_id: str) -> None:
        """A node has a session again."""
        for reader in self._readers:
            reader.node_came(node_id)

    def node_down(self, node_id: str) -> None:
        for reader in self._readers:
            reader.node_down(node_id)

    def service_removed(self, service_id: str) -> None:
        for reader in self._by_service.get(service_id, ()):
            reader.look()

    def stop(self) -> None:
        """This manager no longer leads: what is read ends, and says so."""
        self._stopped = True
        for reader in list(self._readers):
            reader.end("this manager no longer leads the swarm: ask again for what follows")


def _close(coming: asyncio.Future[LogSource]) -> None:
    if not coming.cancelled() and coming.exception() is None:
        coming.result().close()
