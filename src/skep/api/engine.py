"""The local engine as the API sees it: streamed requests, small questions, raw connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, UnixConnector
from yarl import URL

from skep.api.versions import MAX_VERSION, parse_version
from skep.model.since import ApiVersion
from skep.runtime.errors import Conflict, Denied, Invalid, NotFound, SkepError, Unavailable, cause_of

CONNECT_S = 5.0
ASK_S = 10.0  # /info of a busy engine takes a second
CALL_S = 60.0  # a busy engine takes seconds to change a network
ANSWER_S = 0.9  # with what skepd adds a client has its answer within a second, whatever the engine does
VERSION_S = ANSWER_S  # answers that are not the engine's own wait no longer for its version
# Until an engine counts as one that hangs: it pings in a millisecond, without a lock, but on a machine that
# has no time at all. One that did not answer the last time is not waited for as long again.
PING_S, PING_AGAIN_S = 2.0, 0.4
ASK_QUIETLY_S = 0.5  # what is answered by then needs no ping beside it
LATE_MAX = 4  # of one question, which nobody waits for any more: they end after `ASK_S` each
API = "/v1.41"  # Engine 20.10, the oldest supported
_KINDS: dict[int, type[SkepError]] = {400: Invalid, 403: Denied, 404: NotFound, 409: Conflict}

_TIME = "%Y-%m-%d %H:%M:%S UTC"

Json = dict[str, Any]


class LocalEngine:
    """`socket_path` is the engine's unix socket; None: there is no engine (a simulated node)."""

    def __init__(self, socket_path: str | None) -> None:
        self.socket_path = socket_path
        self._session: ClientSession | None = None
        self._version: ApiVersion | None = None
        self._asking: asyncio.Task[None] | None = None  # for its version; one at a time
        self._asked_at = 0.0
        self._pings = True  # as far as it was asked
        self._said: dict[str, tuple[Json, float]] = {}  # path -> its last answer, and when it came
        self._late: dict[str, set[asyncio.Task[Json]]] = {}  # path -> questions that were not waited for

    @property
    def session(self) -> ClientSession:
        if self._session is None:
            if self.socket_path is None:
                raise Unavailable("this node has no Docker Engine (--engine simulated)")
            self._session = ClientSession(
                connector=UnixConnector(self.socket_path, limit=0),
                timeout=ClientTimeout(total=None, sock_connect=CONNECT_S),
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        works: list[asyncio.Task[Any]] = [work for late in self._late.values() for work in late]
        if self._asking is not None:
            works.append(self._asking)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def max_version(self, patience_s: float = VERSION_S) -> ApiVersion:
        """Returns the highest API version to speak: the engine's, or ours where that is lower or unknown.

        An engine that hangs is asked once in ten seconds, and waited for until it was asked for `patience_s`:
        most answers do not wait at all.
        """
        if self._version is None and self.socket_path is not None:
            await self._wait_for_version(patience_s)
        return min(MAX_VERSION, self._version or MAX_VERSION)

    async def _wait_for_version(self, patience_s: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._asking is None or self._asking.done():
            self._asking, self._asked_at = asyncio.ensure_future(self._ask_version()), now
        if (left_s := self._asked_at + patience_s - now) > 0:
            await asyncio.wait([self._asking], timeout=left_s)

    async def _ask_version(self) -> None:
        with contextlib.suppress(SkepError, TimeoutError):
            async with asyncio.timeout(ASK_S), await self.request("GET", "/_ping") as answer:
                text = answer.headers.get("Api-Version", "")
                self._version = parse_version(text) if text else None

    def forget_version(self) -> None:
        """The engine may have been replaced by another."""
        self._version = None

    async def request(self, method: str, raw_path: str, **options: Any) -> ClientResponse:
        """Returns the engine's answer with its body still to be read. Errors: `Unavailable`."""
        try:
            return await self.session.request(
                method, URL("http://engine" + raw_path, encoded=True), **options
            )
        except (ClientError, OSError) as error:
            self.forget_version()
            raise self.unreachable(error) from error

    async def latest(self, path: str) -> tuple[Json, str]:
        """Returns what the engine answers. Where it does not within `ANSWER_S`: its last answer, empty where
        there was none, and a sentence that says so. Errors: none.

        A late answer is the last one for those who ask then.
        """
        late = self._late.setdefault(path, set())
        own = asyncio.ensure_future(self.get_json(path)) if len(late) < LATE_MAX else None
        works = late if own is None else {own}
        try:
            done, _ = await asyncio.wait(
                works, timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if own is not None and not own.done():
                late.add(own)
                own.add_done_callback(late.discard)
                own.add_done_callback(_heard)
        answered = next((work for work in done if work.exception() is None), None)
        if answered is not None:
            return dict(answered.result()), ""
        error = next((work.exception() for work in done), None) or self.unreachable(TimeoutError())
        return self._last(path, str(error))

    def _patience_s(self) -> float:
        """Who has waited for its version already does not wait as long again."""
        if self._asking is None or self._asking.done():
            return ANSWER_S
        return max(0.0, self._asked_at + ANSWER_S - asyncio.get_running_loop().time())

    def _last(self, path: str, error: str) -> tuple[Json, str]:
        answer, at = self._said.get(path, ({}, 0.0))
        if not answer:
            return {}, f"{error} Nothing is known of it."
        return dict(answer), f"{error} What is shown of it is as of {time.strftime(_TIME, time.gmtime(at))}."

    async def ask(self, path: str, query: dict[str, str] | None = None) -> Any:
        """Returns the answer to a question that a route of the swarm's has. A busy engine is waited for, one
        that does not even answer a ping is not. Errors: as `call`."""
        asked = asyncio.ensure_future(self.call("GET", path, query, wait_s=ASK_S))
        try:
            await asyncio.wait([asked], timeout=ASK_QUIETLY_S)
            if not asked.done():
                await self.check()
            return await asked
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def check(self) -> None:
        """Errors: `Unavailable` where the engine does not answer a ping in time."""
        wait_s = PING_S if self._pings else PING_AGAIN_S
        try:
            async with asyncio.timeout(wait_s), await self.request("GET", "/_ping") as answer:
                await answer.read()
        except (TimeoutError, ClientError) as error:
            self._pings = False
            raise self.unreachable(error) from error
        self._pings = True

    async def get_json(self, path: str) -> Json:
        """Errors: `Unavailable`."""
        try:
            async with asyncio.timeout(ASK_S), await self.request("GET", path) as answer:
                found = msgspec.json.decode(await answer.read())
        except (msgspec.DecodeError, TimeoutError, ClientError) as error:
            raise self.unreachable(error) from error
        if answer.status != 200 or not isinstance(found, dict):
            raise Unavailable(f"The Docker Engine at unix://{self.socket_path} answers {answer.status}.")
        self._said[path] = found, time.time()
        return found

    async def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        wait_s: float = CALL_S,
    ) -> Any:
        """Returns the JSON of an answer. Errors: what the engine says, `Unavailable`."""
        url = path + ("?" + urlencode(query) if query else "")
        options: dict[str, Any] = {}
        if body is not None:
            options = {"data": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}
        try:
            async with asyncio.timeout(wait_s), await self.request(method, API + url, **options) as answer:
                content = await answer.read()
                found = msgspec.json.decode(content) if content.strip() else {}
        except (msgspec.DecodeError, TimeoutError, ClientError) as error:
            raise self.unreachable(error) from error
        if answer.status >= 400:
            message = found.get("message", "") if isinstance(found, dict) else ""
            raise _KINDS.get(answer.status, Unavailable)(message or f"the engine answers {answer.status}")
        return found

    async def open_raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Returns a connection for a stream that is no HTTP any more. Errors: `Unavailable`."""
        if self.socket_path is None:
            raise Unavailable("this node has no Docker Engine (--engine simulated)")
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_unix_connection(self.socket_path)
        except (OSError, TimeoutError) as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: BaseException) -> Unavailable:
        if isinstance(error, TimeoutError):
            return Unavailable(
                f"The Docker Engine at unix://{self.socket_path} does not answer. The swarm's own commands"
                " work without it."
            )
        return Unavailable(
            f"Cannot connect to the Docker Engine at unix://{self.socket_path}:"
            f" {cause_of(error)}. Is it running? The swarm's own commands work without it."
        )


def _heard(work: asyncio.Task[Json]) -> None:
    """Nobody waits for it any more: its error is nobody's then."""
    if not work.cancelled():
        work.exception()
