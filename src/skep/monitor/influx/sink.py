"""Writes to a database over HTTP, and says what it answered."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec

from skep.monitor.influx.target import Target
from skep.monitor.influx.verdict import WriteAnswer
from skep.runtime.errors import Invalid, SkepError, cause_of
from skep.runtime.unreadable import UNREADABLE

WRITE_S = 10.0  # a write takes milliseconds; Telegraf gives it 5 s
ANSWER_MAX_BYTES = 64 << 10  # an error names a hundred lines at most


class InfluxSink:
    """`secret` is asked before each write: a token may have changed. `creates`: the database is made
    before the first write, and when it is said to be missing. `ca`: an authority's certificate for https."""

    def __init__(
        self, target: Target, secret: Callable[[], str], creates: bool = False, ca: Path | None = None
    ) -> None:
        self._target = target
        self._secret = secret
        self._must_create = self._creates = creates
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_trusting(ca) if ca else True),
            timeout=aiohttp.ClientTimeout(total=WRITE_S),
            headers={"User-Agent": "skep"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def write(self, body: bytes) -> WriteAnswer:
        """`body`: gzip of lines."""
        if self._must_create and (refused := await self._create()):
            return refused
        answer = await self._write(body)
        if answer.status != 404 or not self._creates:
            return answer
        self._must_create = True  # somebody has removed it
        return await self._create() or await self._write(body)

    async def _write(self, body: bytes) -> WriteAnswer:
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"}
        return await self._post(self._target.write_url, body, headers)

    async def _create(self) -> WriteAnswer | None:
        """Returns what came of it where it cannot be made."""
        form = aiohttp.FormData({"q": self._target.create_query})
        answer = await self._post(self._target.create_url, form, {})
        try:
            found = msgspec.json.decode(answer.text, type=_Results)
        except UNREADABLE:
            found = _Results()
        why = next((each.error for each in found.results if each.error), "")
        if 200 <= answer.status < 300 and not why:
            self._must_create = False
            return None
        text = f"{self._target.name} cannot be created: {why or answer.text}"
        # A statement that fails is answered with 200; the same one would fail again.
        return WriteAnswer(400 if why else answer.status, text, answer.retry_after)

    async def _post(self, url: str, data: bytes | aiohttp.FormData, headers: dict[str, str]) -> WriteAnswer:
        try:
            own = self._target.headers(self._secret())
            # A secret goes to whom it was given for, and nowhere else.
            async with self._session.post(
                url, data=data, headers={**headers, **own}, allow_redirects=False
            ) as answer:
                text = await answer.content.read(ANSWER_MAX_BYTES)
                after = answer.headers.get("Retry-After", "")
                if 300 <= answer.status < 400:
                    where = answer.headers.get("Location", "")
                    return WriteAnswer(answer.status, f"it sends us to {where}: is the --url right?")
                return WriteAnswer(answer.status, _words(text), after)
        except TimeoutError:
            return WriteAnswer(0, f"no answer within {WRITE_S:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return WriteAnswer(0, f"it cannot be reached: {cause_of(error)}")
        except SkepError as error:
            return WriteAnswer(0, str(error))


class _Result(msgspec.Struct, frozen=True):
    error: str = ""


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result] = []


class _Refusal(msgspec.Struct, frozen=True):
    """How InfluxDB says what is wrong: `error` (1 and 3), `message` (2), and lines (3)."""

    error: str = ""
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


def _words(content: bytes) -> str:
    try:
        found = msgspec.json.decode(content, type=_Refusal)
    except UNREADABLE:
        return content.decode(errors="replace")
    details = bytes(found.data).decode(errors="replace") if bytes(found.data) not in (b"", b"null") else ""
    return " ".join(filter(None, (found.error, found.message, details))) or content.decode(errors="replace")


def _trusting(ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the CA certificate {ca} cannot be used: {error}") from error
    return context
