"""Those who are told one thing, each as fast as it reads: they share what waits for them, and who falls
behind all that is kept is told no more.

Nothing is kept for a listener but its place: a thousand that do not read take what one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from skep.runtime.errors import Unavailable
from skep.runtime.sse import BEAT
from skep.runtime.tape import Piece, Tape

log = structlog.get_logger()

BEAT_S = 15.0  # of silence; a line that is gone is found by writing to it, and proxies end silent ones
STUCK_S = 30.0  # for one piece: who has not taken it by then does not read any more

Write = Callable[[Piece], Awaitable[None]]


class AudienceMember:
    """One of them, at a position of the tape. `write` returns when there is room for more, `cut` ends the
    line at once."""

    def __init__(self, position: int, write: Write, cut: Callable[[], None]) -> None:
        self.position = position
        self.cut = cut
        self._write = write
        self._since: float | None = None

    async def take(self, piece: Piece, steps: int = 0) -> None:
        """Writes a piece, and goes on by so many."""
        self._since = asyncio.get_running_loop().time()
        await self._write(piece)
        self._since = None
        self.position += steps

    def is_late(self, begin: int, now: float) -> bool:
        """True where it has not taken what it was written, while all else has gone on, or for long."""
        if self._since is None:
            return False
        return self.position < begin or now - self._since > STUCK_S


class Audience:
    """`what` names what is told in the log; there are `most` listeners at once."""

    def __init__(self, what: str, tape: Tape, most: int) -> None:
        self.tape = tape
        self._what = what
        self._most = most
        self._listeners: set[AudienceMember] = set()
        self._news = asyncio.Event()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._listeners)

    def check_room(self) -> None:
        """Errors: `Unavailable` where there are too many already."""
        if len(self._listeners) >= self._most:
            raise Unavailable(f"{self._most} follow this already, and no more can: close some")

    def put(self, piece: Piece) -> None:
        """Has all be told."""
        self.tape.put(piece)
        self._wake()

    def look(self) -> None:
        """Drops those that do not read; called now and then."""
        now = asyncio.get_running_loop().time()
        for each in [each for each in self._listeners if each.is_late(self.tape.begin, now)]:
            self._drop(each)

    def close(self) -> None:
        """Nothing is told any more: all that listen come to their end."""
        self._is_over = True
        self._wake()

    async def tell(self, listener: AudienceMember, *first: Piece) -> None:
        """Tells a listener these, and then what is on the tape from its position on, until nothing is told
        any more, or it is dropped. What `write` raises goes through. Errors: `Unavailable` as of
        `check_room`: others may have come since that was asked."""
        self.check_room()
        self._listeners.add(listener)
        try:
            for piece in first:
                await listener.take(piece)
            while not self._is_over and listener in self._listeners:
                if listener.position < self.tape.begin:
                    self._drop(listener)
                    return
                news = self.tape.at(listener.position)
                if news is not None:
                    await listener.take(news, 1)
                elif not await self._is_news():
                    await listener.take(Piece(BEAT))
        finally:
            self._listeners.discard(listener)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _is_news(self) -> bool:
        """Returns False where there was none for long."""
        news = self._news
        try:
            async with asyncio.timeout(BEAT_S):
                await news.wait()
        except TimeoutError:
            return False
        return True

    def _drop(self, listener: AudienceMember) -> None:
        self._listeners.discard(listener)
        log.warning("listener.dropped", of=self._what, reason="it does not read what it is told")
        listener.cut()
