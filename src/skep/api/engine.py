"""The local engine as the API sees it: streamed requests, small questions, raw connections."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, UnixConnector
from yarl import URL

from skep.api.versions import MAX_VERSION, Version, parse_version
from skep.runtime.errors import Conflict, Denied, Invalid, NotFound, SkepError, Unavailable

CONNECT_S = 5.0
ASK_S = 10.0  # /info of a busy engine takes a second
VERSION_S = 1.0  # answers that are not the engine's own wait no longer for its version; it takes milliseconds
CALL_S = 60.0  # a busy engine takes seconds to change a network
API = "/v1.41"  # Engine 20.10, the oldest supported
_KINDS: dict[int, type[SkepError]] = {400: Invalid, 403: Denied, 404: NotFound, 409: Conflict}


class LocalEngine:
    """`socket_path` is the engine's unix socket; None: there is no engine (a simulated node)."""

    def __init__(self, socket_path: str | None) -> None:
        self.socket_path = socket_path
        self._session: ClientSession | None = None
        self._version: Version | None = None
        self._asking: asyncio.Task[None] | None = None  # for its version; one at a time
        self._asked_at = 0.0

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
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def max_version(self, patience_s: float = VERSION_S) -> Version:
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

    async def get_json(self, path: str) -> dict[str, Any]:
        """Errors: `Unavailable`."""
        try:
            async with asyncio.timeout(ASK_S), await self.request("GET", path) as answer:
                found = msgspec.json.decode(await answer.read())
        except (msgspec.DecodeError, TimeoutError, ClientError) as error:
            raise self.unreachable(error) from error
        return found if isinstance(found, dict) else {}

    async def call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: object = None
    ) -> Any:
        """Returns the JSON of an answer. Errors: what the engine says, `Unavailable`."""
        url = path + ("?" + urlencode(query) if query else "")
        options: dict[str, Any] = {}
        if body is not None:
            options = {"data": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}
        try:
            async with asyncio.timeout(CALL_S), await self.request(method, API + url, **options) as answer:
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
        return Unavailable(
            f"Cannot connect to the Docker Engine at unix://{self.socket_path}:"
            f" {str(error) or type(error).__name__}. Is it running? The swarm's own commands work without it."
        )
