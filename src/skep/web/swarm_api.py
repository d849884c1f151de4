"""The swarm's API for the dashboard: of several managers, the one that answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientTimeout
from yarl import URL

from skep.client.api import ApiClient, refusal
from skep.runtime.errors import Unavailable, cause_of
from skep.runtime.unreadable import UNREADABLE

CONNECT_S = 5.0  # a manager that is away must not hold up the next one's turn
ANSWER_S = 30.0  # until an answer begins: a manager waits 15 s for a leader itself
ASK_MAX_BYTES = 8 << 20  # of what is read whole: a swarm's /info, whatever answers there


class SwarmApi:
    """`urls` are tried in turn; the one that answered last is asked first. `tls` as of `ApiClient`.
    Errors: `Invalid`."""

    def __init__(self, urls: Sequence[str], tls: ssl.SSLContext | None = None) -> None:
        self._clients = [ApiClient(url, None, tls=tls, answer_max_bytes=ASK_MAX_BYTES) for url in urls]

    @property
    def url(self) -> str:
        """Returns who is asked first."""
        return self._clients[0].url

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    def give_way(self) -> None:
        """Who is asked first cannot tell at the moment: the others come before it."""
        self._clients.append(self._clients.pop(0))

    async def open(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Returns an answer of which the head has come, whatever its status; `path` is as it is to be sent.
        It is the caller's to close. An order goes to another manager only where it was not sent.
        Errors: `Unavailable`."""
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=None)
        failures = []
        for client in list(self._clients):
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await client.session.request(
                        method,
                        URL(client.at(path), encoded=True),
                        data=body,
                        headers=headers,
                        timeout=timeout,
                        allow_redirects=False,
                    )
            except (ClientError, OSError, TimeoutError) as error:
                failures.append(f"{client.url}: {cause_of(error)}")
                if method != "GET" and not isinstance(error, ClientConnectorError):
                    break
                continue
            self._clients.remove(client)
            self._clients.insert(0, client)
            return answer
        raise Unavailable("no manager answers: " + "; ".join(failures))

    async def json(self, path: str) -> Any:
        """Returns what is said to a GET. Errors: `ApiError`, `Unavailable`."""
        async with await self.open("GET", path) as answer:
            content = bytearray()
            try:
                async with asyncio.timeout(ANSWER_S):
                    async for part in answer.content.iter_any():
                        content += part
                        if len(content) > ASK_MAX_BYTES:
                            raise Unavailable(f"{self.url} answers with more than {ASK_MAX_BYTES} bytes")
            except (ClientError, OSError, TimeoutError) as error:
                raise Unavailable(f"{self.url} broke off its answer: {cause_of(error)}") from error
            if answer.status >= 300:
                raise refusal(answer.status, bytes(content))
        try:
            return msgspec.json.decode(content)
        except UNREADABLE as error:
            raise Unavailable(f"what answers at {self.url} says no JSON to {path}: {error}") from error
