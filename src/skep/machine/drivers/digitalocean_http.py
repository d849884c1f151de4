"""Requests to DigitalOcean's API: bounded, paced, repeated where that does no harm. The only module of the
driver that knows aiohttp.

The token goes to the one address that was chosen: no redirect is followed. A POST is repeated where it was
refused for there were too many, or has not been sent; one whose answer is lost may have made something.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from skep.machine.drivers.digitalocean_objects import ApiFault
from skep.machine.drivers.digitalocean_rules import AccountToken, limited_s
from skep.machine.drivers.pace import Pace
from skep.runtime.errors import Denied, Invalid, NotFound, OutcomeUnknown, Unavailable, cause_of
from skep.runtime.texts import printable
from skep.runtime.unreadable import UNREADABLE

CONNECT_S, CALL_S = 10.0, 60.0  # an order of a droplet is answered within a second or three
TRIES = 5  # of what fails by itself: 1, 2, 4 and 8 s between them; the API is restarted within that
# A bound of a minute is waited for twice; one of an hour is for the user, who is told.
LIMITED_S = 150.0
ANSWER_BYTES_MAX = 16 << 20  # 200 droplets have 2 MB, with all sizes of their regions
SAID_BYTES_MAX = 600  # of the API's sentences
KEEP_S = 4.0  # an idle connection: what closes it meanwhile would lose a POST
# Documented are 250 requests a minute and 5,000 an hour; others of the account have some of them.
RATE, BURST = 3.0, 40

Answer = TypeVar("Answer")


class ApiRefusal(Invalid):
    """The API understood, and does not do it; the text is its own."""


class _Got(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


class _NotSent(Exception):
    """The request reached nobody."""


class DigitalOceanHttp:
    """`url` is as `check_api_url` returns it. `pace` is of all that ask with this token. To be entered."""

    def __init__(self, url: str, token: AccountToken, pace: Pace) -> None:
        self._url, self._token, self._pace = url, token, pace
        self._proxy = _proxy_of(url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=KEEP_S),
            timeout=aiohttp.ClientTimeout(total=CALL_S, sock_connect=CONNECT_S),
            headers={"User-Agent": "skep", "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aenter__(self) -> DigitalOceanHttp:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, kind: type[Answer]) -> Answer:
        """Errors: `Denied`, `NotFound`, `ApiRefusal`, `Unavailable`."""
        return self._decoded(await self._call("GET", path), kind)

    async def post(self, path: str, body: dict[str, Any], kind: type[Answer]) -> Answer:
        """Errors: as of `get`; `OutcomeUnknown` where it may have been done."""
        content = await self._call("POST", path, msgspec.json.encode(body))
        try:
            return self._decoded(content, kind)
        except Unavailable as error:
            raise OutcomeUnknown(str(error)) from error

    async def delete(self, path: str) -> None:
        """Errors: as of `get`."""
        await self._call("DELETE", path)

    def _decoded(self, content: bytes, kind: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(content, type=kind)
        except UNREADABLE as error:
            raise Unavailable(f"what answers at {self._url} is not DigitalOcean's API: {error}") from error

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Returns the body of what succeeded."""
        failed, limited, waited_s = 0, 0, 0.0
        while True:
            await self._pace.turn()
            try:
                got = await self._once(method, path, body)
            except (_NotSent, Unavailable) as error:
                failed += 1
                if isinstance(error, Unavailable) and method == "POST":
                    raise OutcomeUnknown(str(error)) from error
                if failed == TRIES:
                    raise Unavailable(str(error)) from error
                await asyncio.sleep(_backed_off(failed))
                continue
            if got.status != 429:
                return got.content
            limited += 1
            wait_s = max(limited_s(got.headers, time.time(), limited), 2.0 ** min(limited - 1, 5))
            waited_s += wait_s
            if waited_s > LIMITED_S:
                raise Unavailable(
                    f"DigitalOcean counts too many requests of this account: {_said(got.content)} (try again"
                    f" in {wait_s:.0f} s)"
                )
            self._pace.hold(wait_s)

    async def _once(self, method: str, path: str, body: bytes | None) -> _Got:
        """Returns what was answered and is no error, or a 429. Errors: `_NotSent`; `Unavailable` for what
        may go another time; others for what will not."""
        headers = {"Authorization": f"Bearer {self._token.text}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
            ) as answer:
                got = _Got(answer.status, answer.headers, await self._content(answer))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _NotSent(f"nothing answers at {self._url} ({_why(error)})") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self._url} does not answer to the end ({_why(error)})") from error
        self._check(got)
        return got

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > ANSWER_BYTES_MAX:
                raise Unavailable(f"{self._url} sends more than {ANSWER_BYTES_MAX} bytes")
        return bytes(content)

    def _check(self, got: _Got) -> None:
        if got.status < 300 or got.status == 429:
            return
        said = _said(got.content)
        if got.status < 400:
            raise ApiRefusal(
                f"{self._url} says that the API is elsewhere (status {got.status}): no token is sent there"
            )
        if got.status == 401:
            raise Denied(f"DigitalOcean does not take the token of {self._token.source}: {said}")
        if got.status == 403:
            raise Denied(
                f"DigitalOcean does not allow this with the token of {self._token.source}: {said} (can it"
                " write?)"
            )
        if got.status == 404:
            raise NotFound(f"DigitalOcean has no such object: {said}")
        if got.status >= 500:
            raise Unavailable(f"DigitalOcean fails (status {got.status}): {said}")
        raise ApiRefusal(f"DigitalOcean refuses: {said}")


def _backed_off(failed: int) -> float:
    """Returns seconds; several that failed at the same time do not come again at the same time."""
    return float(2 ** (failed - 1) * random.uniform(0.75, 1.25))


def _said(content: bytes) -> str:
    try:
        fault = msgspec.json.decode(content, type=ApiFault)
        text = f"{fault.message} (request {fault.request_id})" if fault.request_id else fault.message
    except UNREADABLE:
        text = content[: SAID_BYTES_MAX * 4].decode(errors="replace")
    return printable(text, SAID_BYTES_MAX).strip() or "it does not say why"


def _why(error: BaseException) -> str:
    return (
        "it took too long" if isinstance(error, TimeoutError) else printable(cause_of(error), SAID_BYTES_MAX)
    )


def _proxy_of(url: str) -> str | None:
    """Returns the user's proxy, through which TLS goes as it is. aiohttp's own `trust_env` would also take
    ~/.netrc, and refuse our token for it."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get("https")
