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
from skep.runtime.bounded_listener import BACKLOG, BoundedListener
from skep.runtime.errors import Invalid

log = structlog.get_logger()

# Some Prometheus servers keep one or two each, for as long as they run; the oldest goes where more come, so
# that whoever holds many does not keep those out, and takes no files from the manager's port.
CONNECTIONS_MAX = 64
REQUEST_MAX_BYTES = 8 << 10  # of its first line, and of one header
# Of an answer, which has 3 MB for 2,300 nodes: what waits for who does not read is this, and not all of it.
WRITE_BYTES = 64 << 10
SEND_S = 10.0  # until all is sent; Prometheus itself gives a scrape no more
CLOSE_S = 1.0


@web.middleware
async def _around(request: web.Request, handler: Handler) -> web.StreamResponse:
    attempt.begin()
    answer = await answer_errors(request, handler)
    try:
        async with asyncio.timeout(SEND_S):
            return await _sent(request, answer)
    except (ConnectionError, TimeoutError):  # nobody reads it
        if request.transport is not None:
            request.transport.abort()
        return answer


async def _sent(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """Sends an answer that is there whole, a part at a time."""
    body = answer.body if isinstance(answer, web.Response) else None
    if not isinstance(body, bytes):
        return answer
    sent = web.StreamResponse(status=answer.status, headers=answer.headers)
    sent.content_length = len(body)
    await sent.prepare(request)
    if request.method != "HEAD":
        for start in range(0, len(body), WRITE_BYTES):
            await sent.write(body[start : start + WRITE_BYTES])
    await sent.write_eof()
    return sent


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
        self._listener: BoundedListener | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listens on a host's addresses, on all where it is empty or `::`. Returns the port. Errors:
        `Invalid` where they cannot be used."""
        await self._runner.setup()
        try:
            sockets = [_on_all(port)] if host in ("", "::") else await _on_each(host, port)
        except OSError as error:
            raise Invalid(
                f"metrics cannot be served on {f'[{host}]' if ':' in host else host}:{port}:"
                f" {error.strerror or error}"
                " (choose another with --metrics-addr)"
            ) from error
        assert self._runner.server is not None
        self._listener = BoundedListener(sockets, self._runner.server, CONNECTIONS_MAX)
        return self._listener.port

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
        await self._runner.cleanup()


def _on_all(port: int) -> socket.socket:
    """Returns a socket of all addresses, of both families where there are two. Errors: `OSError`."""
    if socket.has_dualstack_ipv6():
        made = socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
    else:
        made = socket.create_server(("0.0.0.0", port), backlog=BACKLOG)
    return made


async def _on_each(host: str, port: int) -> list[socket.socket]:
    """Returns a socket for each address of a host, all of one port. Errors: `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    made: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            at = (address[0], port, *address[2:])
            made.append(socket.create_server(at, family=family, backlog=BACKLOG))
    except OSError:
        for each in made:
            each.close()
        raise
    return made
