"""Log lines on their way from a node to the manager that reads them: a connection of their own.

    node                                 manager
    PublishLogs  ------------------------->   the id that `messages.ReadLogs` gave it, over the session
                 <-------------------------  StreamOpened | StreamRefused
    records      ------------------------->   whole frames of one task each, or why there are none
                 <-------------------------  credit: how many bytes more may come

Bulk never goes over the session: heartbeats would wait behind it. The node sends no more than it has credit
for, so the manager holds one window per connection, however slowly its reader reads; a node that does not
care is held back by TCP.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.messages import UNREADABLE
from skep.rpc.streams import OPEN_S, StreamAnswer, StreamOpened, StreamRefused
from skep.runtime.errors import Invalid, SkepError, Unavailable

RECORD_MAX_BYTES = 2 << 20  # a line is 16 kB at most with the engine's usual drivers, 1 MB with `local`
RECORD_BYTES = 64 << 10  # what a node puts into one record: half a millisecond of the manager's time
LINES, TROUBLE, END = 1, 2, 3  # kinds of records: lines; why a task's logs cannot be read; nothing follows
_RECORD = struct.Struct(">IBI")  # which task of those asked for, kind, length
_CREDIT = struct.Struct(">I")


class PublishLogs(Struct, frozen=True, tag="publish-logs"):
    """A node brings what it was asked for under this id."""

    id: str


class Record(Struct, frozen=True):
    """`task` counts the tasks that were asked for."""

    task: int
    kind: int
    content: bytes

    @property
    def size(self) -> int:
        return _RECORD.size + len(self.content)


Connect = Callable[[str, Handler], Awaitable[Connection]]

_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(PublishLogs)


def logs_brought(frame: bytes) -> PublishLogs | None:
    """Returns what a connection's first frame brings; None where it is something else."""
    try:
        return _question.decode(frame)
    except UNREADABLE:
        return None


def refuse_logs(link: FrameLink, reason: str) -> None:
    link.send(_encode(StreamRefused(reason)))
    link.close()


class _End(asyncio.StreamReaderProtocol):
    """What a connection is handed over to: a reader that stops the peer when it is full, and a writer."""

    def __init__(self, limit: int) -> None:
        self.reader = asyncio.StreamReader(limit=limit)
        super().__init__(self.reader)
        self.writer: asyncio.StreamWriter | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.writer = asyncio.StreamWriter(
            transport,  # type: ignore[arg-type]  # uvloop's transports are none of asyncio's classes
            self,
            self.reader,
            asyncio.get_running_loop(),
        )


class LogSource:
    """The manager's end. `window` is what the node may send before more credit is given."""

    def __init__(self, link: FrameLink, window: int) -> None:
        """Errors: `Unavailable` where the connection has ended meanwhile."""
        self._window = window
        self._taken = 0
        self._reason = ""
        self._end = _End(max(window, RECORD_BYTES))
        link.send(_encode(StreamOpened()))
        link.hand_over(self._end)

    async def read(self) -> Record | None:
        """Returns the next record; None at the end. Errors: `Unavailable` where it broke off, `Invalid`."""
        try:
            head = await self._end.reader.readexactly(_RECORD.size)
            task, kind, length = _RECORD.unpack(head)
            if length > RECORD_MAX_BYTES or kind not in (LINES, TROUBLE, END):
                raise Invalid(f"not a record of log lines (kind {kind}, {length} bytes)")
            if kind == END:
                return None
            return Record(task, kind, await self._end.reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Unavailable(self._reason or "the connection broke off") from error

    def give(self, size: int) -> None:
        """So many bytes were passed on: as many more may come."""
        self._taken += size
        if self._taken >= self._window // 2 and self._end.writer is not None:
            self._end.writer.write(_CREDIT.pack(self._taken))
            self._taken = 0

    def close(self, reason: str = "") -> None:
        """Ends the connection at once; `reason` is what `read` then says."""
        self._reason = self._reason or reason
        if self._end.writer is not None:
            self._end.writer.transport.abort()


class LogSink:
    """The node's end."""

    def __init__(self, end: _End, window: int) -> None:
        assert end.writer is not None
        self._reader, self._writer = end.reader, end.writer
        self._credit = window
        self._more = asyncio.Event()
        self._more.set()

    async def send(self, task: int, kind: int, content: bytes) -> None:
        """Waits for credit first: a record may go beyond it, the next one waits the longer."""
        await self._more.wait()
        self._credit -= _RECORD.size + len(content)
        if self._credit <= 0:
            self._more.clear()
        self._writer.write(_RECORD.pack(task, kind, len(content)) + content)
        await self._writer.drain()

    async def take_credit(self) -> None:
        """Takes what the manager gives until it ends the connection."""
        try:
            while True:
                (more,) = _CREDIT.unpack(await self._reader.readexactly(_CREDIT.size))
                self._credit += more
                if self._credit > 0:
                    self._more.set()
        except (asyncio.IncompleteReadError, OSError):
            return

    async def finish(self) -> None:
        """Says that nothing follows."""
        self._writer.write(_RECORD.pack(0, END, 0))
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


async def open_sink(connect: Connect, address: str, request_id: str, window: int) -> LogSink:
    """Errors: `Unavailable`; `Denied` where the manager does not want them (any more)."""
    end = _End(RECORD_BYTES)
    answer = StreamAnswer(end)
    link = await connect(address, answer)
    try:
        if not isinstance(link, FrameLink):
            raise Unavailable("this connection carries no streams")
        answer.comes_over(link)
        link.send(_encode(PublishLogs(request_id)))
        await asyncio.wait_for(answer.opened, OPEN_S)
        return LogSink(end, window)
    except TimeoutError as error:
        link.close()
        raise Unavailable(f"{address} did not answer within {OPEN_S:g} s") from error
    except (SkepError, asyncio.CancelledError):
        link.close()
        raise
