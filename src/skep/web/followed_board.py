"""The swarm's board for all pages of a dashboard: followed by one stream, kept as a copy, told to each
page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import msgspec
from msgspec import Struct

from skep.model.board import BoardChange, BoardSnapshot
from skep.runtime.audience import Audience, AudienceMember, Write
from skep.runtime.errors import Invalid, SkepError, Unavailable
from skep.runtime.packing import closed, packed
from skep.runtime.sse import SentEvent, block
from skep.runtime.tape import Piece, Tape
from skep.runtime.unreadable import UNREADABLE
from skep.web.board_source import board_events
from skep.web.board_state import HISTORY_S, BoardHistory, BoardState, page_snapshot
from skep.web.swarm_api import SwarmApi

AGAIN_MIN_S, AGAIN_MAX_S = 0.5, 5.0  # before it is tried again: a change of leader takes three seconds
FIRST_S = 5.0  # that a page waits until the swarm is heard of for the first time, or not
PIECES_MAX = 300  # that are kept for a page that was away: four minutes
PIECES_MAX_BYTES = 16 << 20  # of them: a change of leader puts a whole snapshot among them
PAGES_MAX = 256
CONNECTING = "the swarm was not heard of yet"


class LinkJson(Struct, frozen=True):
    """Whether the swarm is heard of; if not, why."""

    ok: bool
    why: str


class FollowedBoard:
    """`run` keeps it until it is cancelled."""

    def __init__(self, swarm: SwarmApi, now: Callable[[], float] = time.time) -> None:
        self._swarm = swarm
        self._now = now
        self._state: BoardState | None = None
        self._history = BoardHistory()
        self._link = LinkJson(False, CONNECTING)
        self._audience = Audience("page", Tape("", PIECES_MAX, PIECES_MAX_BYTES), PAGES_MAX)
        self._first = asyncio.Event()
        self._json = b""  # what pages begin with; empty: to be made
        self._packed = b""

    async def run(self) -> None:
        """Follows the swarm, through whatever breaks."""
        pacing = asyncio.ensure_future(self._keep_time())
        try:
            await self._follow_for_ever()
        finally:
            pacing.cancel()

    def close(self) -> None:
        """Ends all pages' streams."""
        self._audience.close()

    async def file(self) -> tuple[bytes, bytes]:
        """Returns the board with its history as JSON, and as a gzip file of that, both made once for all who
        ask before it changes. Errors: `Unavailable` where the swarm was not heard of yet."""
        await self._wait_first()
        if self._state is None:
            raise Unavailable(self._link.why)
        data = self._snapshot_json(self._state)
        if not self._packed:
            self._packed = closed(data, packed(data))
        return data, self._packed

    async def watch(self, after: str, write: Write, cut: Callable[[], None]) -> None:
        """Tells a page how the link is, and then what follows on the state `after`; from a snapshot on, where
        that is not known. Errors: `Unavailable` where there are too many pages; what `write` raises."""
        self._audience.check_room()
        first = [Piece(_event("link", self._link))]
        tape = self._audience.tape
        position = tape.behind(after) if after else None
        if position is None:
            position = tape.end
            if self._state is not None:
                first.append(self._snapshot_piece(self._state))
        await self._audience.tell(AudienceMember(position, write, cut), *first)

    # The swarm

    async def _follow_for_ever(self) -> None:
        again_s = AGAIN_MIN_S
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._follow()
                why = "the manager ended it: it leads no more"
            except SkepError as error:
                why = str(error)
            except UNREADABLE as error:
                self._state, why = None, f"what the manager says of the board makes no sense: {error}"
            self._set_link(LinkJson(False, why))
            if asyncio.get_running_loop().time() - began > AGAIN_MAX_S:
                again_s = AGAIN_MIN_S
            await asyncio.sleep(again_s)
            again_s = min(again_s * 2, AGAIN_MAX_S)

    async def _follow(self) -> None:
        """Errors: `Unavailable`, `Invalid`, `UNREADABLE`."""
        after = self._state.id if self._state is not None else ""
        async with aclosing(board_events(self._swarm, after)) as events:
            async for event in events:
                self._take(event)
                self._set_link(LinkJson(True, ""))

    def _take(self, event: SentEvent) -> None:
        if event.event == "snapshot":
            self._state = BoardState(msgspec.json.decode(event.data, type=BoardSnapshot))
            self._json = self._packed = b""
            self._audience.put(self._snapshot_piece(self._state))
            if not self._history.rows:
                self._add_history(self._state)
        elif event.event == "change" and self._state is not None:
            try:
                self._state.apply(msgspec.json.decode(event.data, type=BoardChange))
            except Invalid:
                self._state = None  # a snapshot is to come next time
                raise
            self._json = self._packed = b""
            self._audience.put(Piece(block("change", event.data, event.id), event.id))

    def _set_link(self, link: LinkJson) -> None:
        if link != self._link:
            self._link = link
            self._first.set()
            self._audience.put(Piece(_event("link", link)))

    # Pages

    async def _wait_first(self) -> None:
        try:
            async with asyncio.timeout(FIRST_S):
                await self._first.wait()
        except TimeoutError:
            pass

    async def _keep_time(self) -> None:
        """Adds to the history while the swarm is heard of, and drops pages that do not read."""
        loop = asyncio.get_running_loop()
        due = loop.time() + HISTORY_S
        while True:
            await asyncio.sleep(1)
            self._audience.look()
            if loop.time() >= due:
                due += HISTORY_S
                if self._link.ok and self._state is not None:
                    self._add_history(self._state)

    def _add_history(self, state: BoardState) -> None:
        row = state.row(self._now())
        self._history.add(row)
        self._json = self._packed = b""
        self._audience.put(Piece(_event("history", row)))

    def _snapshot_json(self, state: BoardState) -> bytes:
        if not self._json:
            self._json = msgspec.json.encode(page_snapshot(state, self._history))
        return self._json

    def _snapshot_piece(self, state: BoardState) -> Piece:
        return Piece(block("snapshot", self._snapshot_json(state), state.id), state.id)


def _event(name: str, said: Struct) -> bytes:
    return block(name, msgspec.json.encode(said))
