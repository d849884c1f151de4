"""What is not the swarm's goes to the local engine, untouched: bodies are streamed both ways."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

from aiohttp import web

from skep.api.engine import ASK_S, LocalEngine
from skep.api.hijack import hijack
from skep.api.relay import end_to_end, relay
from skep.api.versions import show_version, split_path
from skep.runtime.errors import NotFound

CHUNK = 256 << 10
_SWARMS = frozenset({"swarm", "nodes", "services", "tasks", "secrets", "configs"})
_VERSION_PART = re.compile(r"v[0-9.]+")


class Passthrough:
    """The catch-all handler."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    async def handle(
        self, request: web.Request, read: bytes | None = None, raw_path: str | None = None
    ) -> web.StreamResponse:
        """Passes a request on; `read` is its body where somebody has looked at it already, `raw_path` what is
        asked where it is not the request's own path.

        Errors: `NotFound` for a path of the swarm's that is none of ours; `Unavailable`.
        """
        if is_swarms(request.raw_path):
            raise NotFound("page not found")
        if asks_registry(request.raw_path):
            await self._engine.check()
        path = await self.engine_path(request, raw_path)
        if request.headers.get("Upgrade", "").lower() in ("tcp", "h2c"):
            return await hijack(request, self._engine, path)
        headers = end_to_end(request.headers.items())
        body = read if read is not None else request.content if request.body_exists else None
        if "Content-Length" in request.headers and read is None:  # else it is the body's own
            headers.append(("Content-Length", request.headers["Content-Length"]))
        upstream = await self._engine.request(
            request.method,
            path,
            headers=headers,
            data=body,
            skip_auto_headers=["Content-Type", "User-Agent", "Accept", "Accept-Encoding"],
        )
        return await relay(request, upstream)

    async def engine_path(self, request: web.Request, raw_path: str | None = None) -> str:
        """Returns the raw path, or the request's, in a version that the engine speaks."""
        raw_path = request.raw_path if raw_path is None else raw_path
        version, rest = split_path(raw_path)
        if version is None:
            return raw_path
        version = min(version, await self._engine.max_version(ASK_S))  # it is asked anyway
        return f"/v{show_version(version)}{rest}"


def is_swarms(raw_path: str) -> bool:
    """True for what an engine could read as a path of its own swarm, however it is written: it has none, and
    a request that got past our routes must not make one."""
    path = unquote(raw_path.partition("?")[0], errors="replace")
    parts = [part for part in posixpath.normpath("/" + path.replace("\\", "/")).split("/") if part]
    if parts and _VERSION_PART.fullmatch(parts[0]):
        parts = parts[1:]
    return bool(parts) and parts[0].lower() in _SWARMS


def asks_registry(raw_path: str) -> bool:
    """True for what clients ask before they make or update a service, and can do without: an engine that
    hangs must not keep them from it."""
    return split_path(raw_path)[1].startswith("/distribution/")
