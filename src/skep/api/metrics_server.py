"""Metrics in plain HTTP, as dockerd's `--metrics-addr`: whoever reaches the address may read them, and
nothing else is there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import structlog
from aiohttp import web

from skep.api.errors import answer_errors
from skep.api.route import Handler, Route
from skep.api.server import http_log
from skep.runtime import attempt
from skep.runtime.errors import Invalid

log = structlog.get_logger()

# Some Prometheus servers keep one or two each, for as long as they run; the oldest goes where more come, so
# that whoever holds many does not keep those out, and takes no files from the manager's port.
CONNECTIONS_MAX = 64
REQUEST_MAX_BYTES = 8 << 10  # of its first line, and of one header
CLOSE_S = 1.0


@web.middleware
async def _around(request: web.Request, handler: Handler) -> web.StreamResponse:
    attempt.begin()
    return await answer_errors(request, handler)


class MetricsServer:
    """`routes` are those that are scraped."""

    def __init__(self, routes: Iterable[Route]) -> None:
        app = web.Application(client_max_size=0, middlewares=[_around])
        for route in routes:
            app.router.add_get(route.path, route.handler)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=http_log(),
            handler_cancellation=True,
            shutdown_timeout=CLOSE_S,
            max_line_size=REQUEST_MAX_BYTES,
            max_field_size=REQUEST_MAX_BYTES,
        )
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listens on a host's addresses, on all where it is empty or `::`. Returns the port. Errors:
        `Invalid` where they cannot be used."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            if host in ("", "::"):
                self._server = await loop.create_server(self._enter, sock=_on_all(port))
            else:
                self._server = await loop.create_server(self._enter, host, port)
        except OSError as error:
            raise Invalid(
                f"metrics cannot be served on {f'[{host}]' if ':' in host else host}:{port}:"
                f" {error.strerror or error}"
                " (choose another with --metrics-addr)"
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _enter(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        known = server.connections
        if len(known) >= CONNECTIONS_MAX and known[0].transport is not None:
            known[0].transport.abort()
        return server()


def _on_all(port: int) -> socket.socket:
    """Returns a socket of all addresses, of both families where there are two. Errors: `OSError`."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", port))
