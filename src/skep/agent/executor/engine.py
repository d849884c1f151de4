"""The Docker Engine's API as the agent uses it: a thin typed client over a unix socket.

aiohttp's errors become ours here: `Unavailable` when the engine cannot be reached, `EngineError` for what it
answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from skep.runtime.errors import SkepError, Unavailable

CALL_S = 120.0  # creating a container on a busy engine with a hundred others takes seconds
STOP_GRACE_MAX_S = 3600.0
API = "/v1.41"  # Engine 20.10, the oldest supported

Json = dict[str, Any]


class EngineError(SkepError):
    """The engine refused: its status and its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineClient:
    """One engine, by its socket."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def info(self) -> Json:
        return await self._call("GET", "/info")

    async def has_image(self, reference: str) -> bool:
        try:
            await self._call("GET", f"/images/{reference}/json")
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def pull(self, reference: str) -> None:
        """Errors: `EngineError`, also for a failure that comes in the middle of the stream."""
        parameters = {"fromImage": reference}
        if "@" not in reference and ":" not in reference.rsplit("/", 1)[-1]:
            parameters["tag"] = "latest"
        async with await self._request("POST", "/images/create", parameters, None) as answer:
            async for line in answer.content:
                said = _decode(line)
                if "error" in said:
                    raise EngineError(500, str(said["error"]))

    async def create(self, name: str, body: Json) -> str:
        """Returns the container's id."""
        found = await self._call("POST", "/containers/create", {"name": name}, body)
        return str(found["Id"])

    async def start(self, container: str) -> None:
        await self._call("POST", f"/containers/{container}/start")

    async def stop(self, container: str, grace_s: float) -> None:
        """Returns once it is stopped; nothing happens where it does not exist."""
        seconds = min(grace_s, STOP_GRACE_MAX_S)
        try:
            await self._call(
                "POST", f"/containers/{container}/stop", {"t": str(int(seconds))}, wait_s=seconds + CALL_S
            )
        except EngineError as error:
            if error.status != 404:
                raise

    async def remove(self, container: str) -> None:
        """Deletes the container and its anonymous volumes; nothing happens where it is going already."""
        try:
            await self._call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})
        except EngineError as error:
            if error.status not in (404, 409):
                raise

    async def inspect(self, container: str) -> Json:
        return await self._call("GET", f"/containers/{container}/json")

    async def containers(self, label: str) -> list[Json]:
        """Returns all containers with the label, running or not."""
        filters = msgspec.json.encode({"label": [label]}).decode()
        async with await self._request(
            "GET", "/containers/json", {"all": "1", "filters": filters}, None
        ) as answer:
            return list(msgspec.json.decode(await answer.read()))

    async def events(self, label: str, kinds: list[str]) -> AsyncIterator[Json]:
        """Yields container events until the engine ends the stream. Errors: `Unavailable`.

        The first item is an empty mapping: from then on nothing is missed.
        """
        filters = msgspec.json.encode({"type": ["container"], "label": [label], "event": kinds}).decode()
        answer = await self._request("GET", "/events", {"filters": filters}, None, wait_s=None)
        async with answer:
            yield {}
            try:
                async for line in answer.content:
                    yield _decode(line)
            except aiohttp.ClientError as error:
                raise self._unreachable(error) from error

    async def _call(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        body: Json | None = None,
        wait_s: float | None = CALL_S,
    ) -> Json:
        async with await self._request(method, path, parameters, body, wait_s) as answer:
            try:
                return _decode(await answer.read())
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._unreachable(error) from error

    async def _request(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None,
        body: Json | None,
        wait_s: float | None = CALL_S,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self._socket_path, limit=0), auto_decompress=False
            )
        try:
            answer = await self._session.request(
                method,
                f"http://engine{API}{path}",
                params=parameters,
                data=None if body is None else msgspec.json.encode(body),
                headers={} if body is None else {"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=wait_s, sock_connect=5),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        if answer.status >= 400:
            async with answer:
                raw = await answer.read()
            message = _decode(raw).get("message") or raw.decode(errors="replace")[:500]
            raise EngineError(answer.status, str(message))
        return answer

    def _unreachable(self, error: BaseException) -> Unavailable:
        cause = str(error) or type(error).__name__
        return Unavailable(
            f"the Docker Engine at unix://{self._socket_path} cannot be reached: {cause}. Is it running?"
        )


def _decode(raw: bytes) -> Json:
    try:
        found = msgspec.json.decode(raw) if raw.strip() else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
