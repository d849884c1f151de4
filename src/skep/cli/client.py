"""A small client of the Docker API for our own commands, over the unix socket."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec

from skep.runtime.errors import SkepError, Unavailable


class ApiError(SkepError):
    """The daemon refused; the text is its own."""


class ApiClient:
    """`url` is unix://PATH."""

    def __init__(self, url: str) -> None:
        self._url = url
        connector = aiohttp.UnixConnector(url.removeprefix("unix://"))
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120))

    async def close(self) -> None:
        await self._session.close()

    async def raw(self, method: str, path: str, body: object = None) -> bytes:
        """Returns the whole body. Errors: `ApiError`, `Unavailable`."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(method, "http://skep" + path, data=data) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"no daemon answers at {self._url}: {error}") from error
        if answer.status >= 400:
            try:
                message = msgspec.json.decode(content)["message"]
            except (msgspec.DecodeError, KeyError, TypeError):
                message = content.decode(errors="replace")
            raise ApiError(str(message))
        return content

    async def json(self, method: str, path: str, body: object = None) -> Any:
        content = await self.raw(method, path, body)
        return msgspec.json.decode(content) if content.strip() else None

    async def wait_up(self, timeout_s: float) -> None:
        """Errors: `Unavailable` when no daemon answers in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                await self.raw("GET", "/_ping")
                return
            except Unavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)
