"""The listeners of the Docker API: unix sockets and TCP; one application behind all of them."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from skep.api.decode import API_VERSION
from skep.api.engine import LocalEngine
from skep.api.errors import answer_errors
from skep.api.forward import LeaderForward
from skep.api.passthrough import Passthrough
from skep.api.route import Handler, Route
from skep.api.tls import HalfCloseTls
from skep.api.versions import MAX_VERSION, PREFIX, TooOld, check_version, parse_version, show_version
from skep.model.since import ApiVersion
from skep.runtime import attempt
from skep.runtime.errors import Invalid

log = structlog.get_logger()

SOCKET_PATH_MAX = 107  # unix(7)
CLOSE_S = 5.0  # for requests under way when the daemon ends; streams are ended at once


class ApiServer:
    """`server_header` names us in every answer; `routes` are the swarm's, the rest is the engine's.

    With `forward` it is everybody's API. Without, it is the one for other managers: it answers what a leader
    can while this manager leads, and nothing of the engine's.
    """

    def __init__(
        self,
        engine: LocalEngine,
        routes: Iterable[Route],
        server_header: str,
        forward: LeaderForward | None,
    ) -> None:
        self._engine = engine
        self._forward = forward
        self._server_header = server_header
        self._app = web.Application(client_max_size=0, middlewares=[self._around])
        self._works: set[asyncio.Future[web.StreamResponse]] = set()
        self._endless: set[asyncio.Task[Any]] = set()
        for route in routes:
            if forward is None and not (route.is_leaders or route.is_internal):
                continue
            if forward is not None and route.is_internal:
                continue
            handler = self._leaders(forward, route.handler) if route.is_leaders else route.handler
            if route.method != "GET":
                handler = self._to_its_end(handler)
            elif route.is_endless:
                handler = self._until_closed(handler)
            for prefix in ("", PREFIX):
                self._app.router.add_route(route.method, prefix + route.path, handler)
        if forward is not None:
            self._app.router.add_route("*", "/{path:.*}", Passthrough(engine).handle)
        self._app.on_response_prepare.append(self._add_headers)
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            handler_cancellation=True,
            logger=http_log(),
            auto_decompress=False,  # the engine gets bodies as they are: their headers are of what was sent
        )
        self._servers: list[asyncio.Server] = []
        self._sockets: list[Path] = []

    async def start(self) -> None:
        await self._runner.setup()

    async def listen_unix(self, path: Path) -> None:
        """Errors: `Invalid` when the socket cannot be made, or another daemon answers on it."""
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            raise Invalid(f"the path of the socket is too long ({SOCKET_PATH_MAX} bytes at most): {path}")
        if path.exists() and _answers(path):
            raise Invalid(f"another daemon listens on unix://{path}: stop it, or choose another --host")
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True)
                path.parent.chmod(0o755)  # the umask is skepd's own; the socket's mode says who may use it
            path.unlink(missing_ok=True)
            await web.UnixSite(self._runner, str(path)).start()
            share(path)
        except OSError as error:
            raise Invalid(
                f"cannot listen on unix://{path}: {error.strerror or error} (choose another with --host)"
            ) from error
        self._sockets.append(path)

    async def listen_bound(self, bound: socket.socket) -> None:
        """Serves a socket that was bound already."""
        await web.SockSite(self._runner, bound).start()

    async def listen_tcp(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        """Returns the port. Errors: `Invalid` when the address cannot be used."""

        def factory() -> asyncio.Protocol:
            assert self._runner.server is not None
            inner = self._runner.server()
            return HalfCloseTls(inner, context) if context is not None else inner

        try:
            server = await asyncio.get_running_loop().create_server(factory, host, port)
        except OSError as error:
            raise Invalid(f"cannot listen on tcp://{host}:{port}: {error.strerror or error}") from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for stream in self._endless:
            stream.cancel()
        if self._forward is not None:
            await self._forward.close()
        await self._runner.cleanup()
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def _until_closed(self, handler: Handler) -> Handler:
        """A stream that somebody listens to (the other managers always do) keeps no daemon from ending."""

        async def answer(request: web.Request) -> web.StreamResponse:
            stream = asyncio.current_task()
            assert stream is not None
            self._endless.add(stream)
            try:
                return await handler(request)
            finally:
                self._endless.discard(stream)

        return answer

    def _to_its_end(self, handler: Handler) -> Handler:
        """A client that goes away stops no order halfway: what etcd has done, the leader must know of."""

        async def answer(request: web.Request) -> web.StreamResponse:
            work = asyncio.ensure_future(handler(request))
            self._works.add(work)
            work.add_done_callback(self._ended)
            return await asyncio.shield(work)

        return answer

    def _ended(self, work: asyncio.Future[web.StreamResponse]) -> None:
        self._works.discard(work)
        if not work.cancelled() and work.exception() is not None:
            log.debug("api.order_failed", error=str(work.exception()))  # the client was told, if it is there

    def _leaders(self, forward: LeaderForward | None, handler: Handler) -> Handler:
        if forward is None:
            return handler

        async def answer(request: web.Request) -> web.StreamResponse:
            return await forward.answer(request, handler)

        return answer

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        attempt.begin()
        return await answer_errors(request, lambda r: self._versioned(r, handler))

    async def _versioned(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[API_VERSION] = MAX_VERSION
        given = request.match_info.get("version")
        if given is not None:
            version = parse_version(given)
            try:
                check_version(version, await self._max_version())
            except TooOld as error:
                return web.Response(status=400, text=f"{error}\n")
            request[API_VERSION] = version
        return await handler(request)

    async def _max_version(self) -> ApiVersion:
        """Managers among themselves ask no engine: one that hangs must not make its manager unreachable."""
        return MAX_VERSION if self._forward is None else await self._engine.max_version()

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Api-Version"] = show_version(await self._max_version())
        headers["Docker-Experimental"] = "false"
        headers["Ostype"] = "linux"
        headers["Server"] = self._server_header


class _OwnFaults(logging.Filter):
    """What was no HTTP at all is the client's fault: it is answered, and fills no log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def http_log() -> logging.Logger:
    """Returns where aiohttp's servers say what went wrong."""
    found = logging.getLogger("skep.api.http")
    if not found.filters:
        found.addFilter(_OwnFaults())
    return found


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def share(path: Path) -> None:
    """Docker's own convention: members of the group `docker` may use the socket. Errors: `OSError`."""
    path.chmod(0o660)
    try:
        os.chown(path, -1, grp.getgrnam("docker").gr_gid)
    except (KeyError, PermissionError):
        log.debug("api.no_docker_group", path=str(path))
