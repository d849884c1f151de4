"""One daemon's API, asked as the docker client asks it."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from skep.client.host_url import TCP, UNIX, check_host_url
from skep.runtime.errors import Invalid, SkepError, Unavailable, cause_of
from skep.runtime.settings import DEFAULT_HOST
from skep.runtime.tls_files import client_context
from skep.runtime.unreadable import UNREADABLE

CALL_S = 120.0  # a list of a million tasks takes some seconds
BAD_GATEWAY = 502  # HTTP's word for an answer that cannot be read
OWN_PATHS = "/skep/"  # what no Docker Engine has


class ApiError(SkepError):
    """The daemon refused; the text is its own, `status` HTTP's."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UnreadableAnswer(ApiError):
    """What came is no JSON. Not `Unavailable`: it may have been done, and is not to be asked of another
    daemon again."""


def default_host(environment: Mapping[str, str] = os.environ) -> str:
    """Returns where a daemon is asked when nobody says: as the docker client has it, or skepd's own."""
    return environment.get("DOCKER_HOST") or DEFAULT_HOST


class ApiClient:
    """`url` is unix://PATH or tcp://HOST:PORT; the latter with DOCKER_CERT_PATH's certificates where
    DOCKER_TLS_VERIFY is set, as the docker client has it, or by `tls`. A call takes `timeout_s` at most;
    `connect_s` bounds what of it a connection takes, with its TLS, `silent_s` how long nothing may come,
    `answer_max_bytes` how much does where others are asked than a daemon of the user's own. Errors:
    `Invalid`."""

    def __init__(
        self,
        url: str,
        timeout_s: float | None = CALL_S,
        silent_s: float | None = None,
        tls: ssl.SSLContext | None = None,
        answer_max_bytes: int | None = None,
        connect_s: float | None = None,
    ) -> None:
        self.url = url
        self._answer_max_bytes = answer_max_bytes
        self._base = "http://skep"
        check_host_url(url)
        if url.startswith(UNIX):
            self._connector: aiohttp.BaseConnector = aiohttp.UnixConnector(url.removeprefix(UNIX))
        else:
            context = tls or _tls_of(os.environ)
            host = url.removeprefix(TCP).rstrip("/")
            if ":" not in host.rpartition("]")[2]:
                host += ":2376" if context else ":2375"  # as the docker client has it
            self._base = ("https://" if context else "http://") + host
            self._connector = aiohttp.TCPConnector(ssl=context or True)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=connect_s, sock_read=silent_s)

    @cached_property
    def session(self) -> aiohttp.ClientSession:
        """Made when it is first needed: one that nobody used, since what was made beside it was refused, has
        nothing that somebody must close."""
        return aiohttp.ClientSession(connector=self._connector, timeout=self._timeout)

    async def close(self) -> None:
        await self.session.close()

    def at(self, path: str) -> str:
        """Returns the URL of a path of the API, for `session`."""
        return self._base + path

    async def raw(self, method: str, path: str, body: object = None) -> bytes:
        """Returns the whole body. Errors: `ApiError`, `Unavailable`."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            # Nobody whom we ask has moved: who says so is not whom we mean.
            async with self.session.request(
                method, self.at(path), data=data, allow_redirects=False
            ) as answer:
                content = await self._content(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"no daemon answers at {self.url} {_why_not(error)}") from error
        if answer.status >= 300:
            refused = refusal(answer.status, content)
            if path.startswith(OWN_PATHS) and str(refused) == "page not found":
                raise Unavailable(
                    f"what answers at {self.url} does not know {path}: is it a Docker Engine, or an earlier"
                    " skepd? Name skepd's socket (--host, DOCKER_HOST)"
                )
            raise refused
        return content

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        most = self._answer_max_bytes
        if most is None:
            return await answer.read()
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > most:
                raise Unavailable(f"what answers at {self.url} sends more than {most} bytes")
        return bytes(content)

    async def json(self, method: str, path: str, body: object = None) -> Any:
        """Returns what is said; None for nothing. Errors: `ApiError`, also for what cannot be read;
        `Unavailable`."""
        content = await self.raw(method, path, body)
        try:
            return msgspec.json.decode(content) if content.strip() else None
        except UNREADABLE as error:
            raise UnreadableAnswer(
                f"what answers at {self.url} says no JSON to {path}: is it a Docker Engine or skepd?"
                f" ({error})",
                BAD_GATEWAY,
            ) from error

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


def _why_not(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "(it took too long): is skepd running there?"
    hint = "is skepd running there?"
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
        hint = "its socket is for root, and for the group that the socket is of"
    return f"({cause_of(error)}): {hint}"


def check_manager(said: Any, url: str) -> None:
    """`said`: what is answered to /info at `url`. Errors: `Unavailable` where that is no manager."""
    known = said.get("Swarm", {}) if isinstance(said, dict) else {}
    if not known.get("ControlAvailable"):
        raise Unavailable(
            f"{url} is no manager of a swarm (its state: {known.get('LocalNodeState') or 'none'}): name one"
            " (--host, DOCKER_HOST)"
        )


def refusal(status: int, content: bytes) -> ApiError:
    """Returns what an answer with an error's status says."""
    try:
        message = msgspec.json.decode(content)["message"]
    except (*UNREADABLE, KeyError, TypeError):
        message = content.decode(errors="replace")
    return ApiError(str(message), status)


def _tls_of(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    if not environment.get("DOCKER_TLS_VERIFY"):
        return None
    directory = Path(environment.get("DOCKER_CERT_PATH") or "~/.docker").expanduser()
    try:
        return client_context(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    except Invalid as error:
        raise Invalid(
            f"the certificates in {directory} (DOCKER_CERT_PATH) cannot be used: {error}"
        ) from error
