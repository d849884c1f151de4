"""/events: what the engine and the swarm say, as one stream (Engine API 1.51).

History comes first, both histories in the order of their times; then what happens, as it comes, until the
client goes, `until` is reached, or the client reads too slowly and is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientError, StreamReader, web

from skep.api.decode import API_VERSION
from skep.api.engine import ASK_S, LocalEngine
from skep.api.event_filter import parse_time, passes, show_time, wants_tasks
from skep.api.filters import Filters, parse_filters
from skep.api.interfaces import EventFeed, SwarmNode
from skep.api.objects import encode
from skep.api.route import Route
from skep.api.versions import show_version
from skep.model.event import TASK, Event
from skep.runtime.errors import Invalid, Unavailable

WAITING_MAX_BYTES = 4 << 20  # for one client: some ten thousand events; who has more to read is cut off
REPLAY_MAX_BYTES = 8 << 20  # of the engine's history: it keeps 256 events
LINE_MAX_BYTES = 1 << 20  # of one event: it carries its container's labels
SLICE = 100  # events held against a filter before the loop goes round; one takes 0.1 ms with the longest
AGAIN_S = 1.0  # before the engine is asked again after its stream broke
_FILTERS = frozenset(
    {"event", "label", "scope", "type", "service", "node"}
)  # of the swarm's own; engines have more


class EventRoutes:
    def __init__(self, node: SwarmNode, engine: LocalEngine) -> None:
        self._node = node
        self._engine = engine

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/events", self.events, is_endless=True, query=("since", "until"), filters=_FILTERS),
            Route("GET", "/skep/v1/events", self.swarm_events, is_internal=True, is_endless=True),
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        since, until = parse_time(request.query.get("since", "")), parse_time(request.query.get("until", ""))
        if since is not None and until is not None and until < since:
            raise Invalid(
                f"`since` time ({request.query['since']}) cannot be after `until` time"
                f" ({request.query['until']})"
            )
        filters = parse_filters(request, None)
        now = time.time_ns()
        feed = self._node.event_feed(wants_tasks(filters))
        try:
            replay = []
            if since is not None or until is not None:
                replay = await self._history(request, filters, since or 0, min(now, until or now))
            response = web.StreamResponse()
            response.content_type = "application/json"
            await response.prepare(request)
            for line in replay:
                await response.write(line)
            if until is None or until > now:
                end_s = None if until is None else (until - now) / 1e9
                await self._live(request, response, filters, feed, now + 1, end_s)
        finally:
            feed.close()
        await response.write_eof()
        return response

    async def _history(self, request: web.Request, filters: Filters, since: int, until: int) -> list[bytes]:
        """Returns the lines of both histories by time; an engine that does not answer has none."""
        swarms = self._node.event_history(since, until, wants_tasks(filters))
        rows = [(event.at_ns, event_line(event)) async for event in _passing(swarms, filters)]
        size = 0
        with contextlib.suppress(Unavailable, ClientError, TimeoutError):
            async with asyncio.timeout(10):  # it has them in memory
                await self._engine.check()
                async for line in self._engine_lines(request, since, until):
                    size += len(line)
                    if size > REPLAY_MAX_BYTES:
                        break
                    rows.append((_time_of(line), line))
        return [line for _, line in sorted(rows, key=lambda row: row[0])]

    async def _live(
        self,
        request: web.Request,
        response: web.StreamResponse,
        filters: Filters,
        feed: EventFeed,
        since: int,
        end_s: float | None,
    ) -> None:
        outlet = _Outlet(request, response)
        following = [
            asyncio.ensure_future(self._follow_engine(request, since, outlet)),
            asyncio.ensure_future(_follow_swarm(feed, filters, outlet)),
        ]
        writing = asyncio.ensure_future(outlet.run())
        works = [*following, writing]
        try:
            done, _ = await asyncio.wait(works, timeout=end_s, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                work.result()
            if not done:
                for work in following:
                    work.cancel()
                outlet.end()
                await writing
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _follow_engine(self, request: web.Request, since: int, outlet: _Outlet) -> None:
        """Never ends: an engine that was started again is listened to again."""
        if self._engine.socket_path is None:
            await asyncio.Event().wait()
        while True:
            with contextlib.suppress(Unavailable, ClientError):
                async for line in self._engine_lines(request, since, None):
                    since = max(since, _time_of(line) + 1)
                    outlet.put(line)
            await asyncio.sleep(AGAIN_S)

    async def _engine_lines(
        self, request: web.Request, since: int, until: int | None
    ) -> AsyncIterator[bytes]:
        if self._engine.socket_path is None:
            return
        version = min(request[API_VERSION], await self._engine.max_version(ASK_S))
        query = {"since": show_time(since)}
        if until is not None:
            query["until"] = show_time(until)
        if request.query.get("filters"):
            query["filters"] = request.query["filters"]
        path = f"/v{show_version(version)}/events?{urlencode(query)}"
        async with await self._engine.request("GET", path) as upstream:
            if upstream.status == 200:
                async for line in _lines(upstream.content):
                    yield line

    async def swarm_events(self, request: web.Request) -> web.StreamResponse:
        """For other managers: all that is remembered, then what happens, as long as this manager leads."""
        self._node.manager()
        tasks = request.query.get("tasks") == "1"
        since = parse_time(request.query.get("since", "")) or 0
        feed = self._node.event_feed(tasks)
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            for event in self._node.event_history(since, None, tasks):
                await response.write(encode(event) + b"\n")
            async for event in feed:
                await response.write(encode(event) + b"\n")
        finally:
            feed.close()
        return response


async def _passing(events: Iterable[Event], filters: Filters) -> AsyncIterator[Event]:
    """Yields those that pass. There are thousands, and a filter may have as many values: the loop has its
    turn."""
    for number, event in enumerate(events, 1):
        if passes(event, filters):
            yield event
        if number % SLICE == 0:
            await asyncio.sleep(0)


class _Outlet:
    """What waits for one client, and the writing of it."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    def put(self, line: bytes) -> None:
        """Cuts the client off where too much waits for it."""
        self._size += len(line)
        if self._size > WAITING_MAX_BYTES:
            self.cut_off()
            return
        self._waiting.append(line)
        self._wake.set()

    async def has_room(self) -> None:
        """Returns once less than half of what may wait does."""
        while self._size > WAITING_MAX_BYTES // 2:
            self._room.clear()
            await self._room.wait()

    def cut_off(self) -> None:
        self._waiting.clear()
        if self._request.transport is not None:
            self._request.transport.abort()

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_over = True
        self._wake.set()

    async def run(self) -> None:
        """Writes what comes, until the end and what waited then."""
        while self._waiting or not self._is_over:
            await self._wake.wait()
            self._wake.clear()
            lines, self._waiting = self._waiting, []
            for line in lines:
                await self._response.write(line)
                self._size -= len(line)
                self._room.set()


async def _follow_swarm(feed: EventFeed, filters: Filters, outlet: _Outlet) -> None:
    async for event in feed:
        if passes(event, filters):
            if event.type == TASK:
                await (
                    outlet.has_room()
                )  # there may be any number; meanwhile the feed counts what it leaves out
            outlet.put(event_line(event))
    outlet.cut_off()  # the feed only ends by itself where it was read too slowly


async def _lines(content: StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for part in content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            if line.strip():
                yield line + b"\n"
        if len(rest) > LINE_MAX_BYTES:
            raise Unavailable(f"the engine sent an event of more than {LINE_MAX_BYTES} bytes")


class _Time(msgspec.Struct):
    time_nano: int = msgspec.field(default=0, name="timeNano")


def _time_of(line: bytes) -> int:
    try:
        return msgspec.json.decode(line, type=_Time).time_nano
    except msgspec.MsgspecError:
        return 0


def event_line(event: Event) -> bytes:
    """Returns the event in Docker's JSON, as one line."""
    line = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "swarm",
        "time": int(event.at),
        "timeNano": event.at_ns,
    }
    return encode(line) + b"\n"
