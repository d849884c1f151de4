"""A board that somebody watches: what changes is told once a second, encoded and packed once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from skep.manager.board import SwarmBoard
from skep.runtime.audience import Audience, AudienceMember, Write
from skep.runtime.packing import closed, packed, packing
from skep.runtime.sse import BEAT, TAIL, block, head_of
from skep.runtime.tape import Piece, Tape

log = structlog.get_logger()

PERIOD_S = 1.0  # of changes: what an eye follows
KEPT_S = 60.0  # without a watcher; a page that is loaded again needs no new board
CHANGES_MAX = 120  # that are kept: two minutes, for who was away; after longer a snapshot is smaller
CHANGES_MAX_BYTES = 4 << 20  # of them: a second in which each of 10,000 nodes changes is 300 kB
WATCHERS_MAX = 256  # a dashboard is one, with all its pages


class BoardFile:
    """A snapshot, encoded once: `data` as JSON, `packed` as a gzip file, `event` as what a stream begins
    with. `position` is that of the first change after it."""

    __slots__ = ("data", "event", "packed", "position")

    def __init__(self, data: bytes, piece: bytes, id: str, position: int) -> None:
        head = head_of("snapshot", id)
        self.data = data
        self.packed = closed(data, piece)
        self.event = Piece(head + data + TAIL, id, packed(head) + piece + packed(TAIL))
        self.position = position


class WatchedBoard:
    """`now` tells seconds since the epoch. `run` keeps it."""

    def __init__(self, board: SwarmBoard, now: Callable[[], float]) -> None:
        self.board = board
        self.is_ready = asyncio.Event()  # all was looked at once, or never will be
        self._now = now
        self._audience = Audience("board", Tape(board.id, CHANGES_MAX, CHANGES_MAX_BYTES), WATCHERS_MAX)
        self._file: asyncio.Task[BoardFile] | None = None  # of the present state, or on its way
        self._wanted_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Returns when nobody has watched for a while. What is wrong with it costs nobody but its
        watchers."""
        loop = asyncio.get_running_loop()
        try:
            await self._look()
            self.board.settle()
            self.is_ready.set()
            while loop.time() - self._wanted_at < KEPT_S or len(self._audience):
                await asyncio.sleep(PERIOD_S)
                await self._look()
                self._tell()
        except Exception:
            log.exception("board.failed")
        finally:
            self.is_ready.set()
            self._audience.close()
            if self._file is not None:
                self._file.cancel()

    async def file(self) -> BoardFile:
        """Returns the snapshot of now, which is made once for all who want the same."""
        self._wanted_at = asyncio.get_running_loop().time()
        if self._file is None or self._file.cancelled():
            self._file = asyncio.ensure_future(self._encode())
        return await asyncio.shield(self._file)

    async def watch(self, after: str, write: Write, cut: Callable[[], None]) -> None:
        """Tells a watcher what follows on the state `after`, or a snapshot and what follows on that, until
        the board is kept no more. Errors: `Unavailable` where there are too many; what `write` raises."""
        self._audience.check_room()
        position, first = self._audience.tape.behind(after), [Piece(BEAT)]  # an answer begins with something
        if position is None:
            file = await self.file()
            position, first = file.position, [file.event]
        await self._audience.tell(AudienceMember(position, write, cut), *first)
        self._wanted_at = asyncio.get_running_loop().time()

    async def _look(self) -> None:
        for _ in self.board.work():
            await asyncio.sleep(0)

    def _tell(self) -> None:
        change = self.board.change(self._now())
        if change is not None:
            self._file = None
            self._audience.put(Piece(block("change", change, self.board.id), self.board.id))
        self._audience.look()

    async def _encode(self) -> BoardFile:
        data, id, position = self.board.snapshot(self._now()), self.board.id, self._audience.tape.end
        parts = []
        for part in packing(data):
            parts.append(part)
            await asyncio.sleep(0)
        return BoardFile(data, b"".join(parts), id, position)
