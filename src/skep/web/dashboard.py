"""The dashboard's process: a web server at this machine's own address, for whoever has opened its link."""

from __future__ import annotations

import asyncio
import resource
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web
from msgspec import Struct

from skep.client.api import ApiError
from skep.runtime.bounded_listener import BACKLOG, BoundedListener
from skep.runtime.errors import Invalid, SkepError
from skep.runtime.supervise import cancel_and_wait, run_forever
from skep.web.board_pages import board_stream, whole_board
from skep.web.entry_page import NO_PAGE, OPENED, WHAT_TO_DO
from skep.web.followed_board import FollowedBoard
from skep.web.passing import BODY_MAX_BYTES, PREFIX, Passing, refused
from skep.web.rules import ACTIONS, is_own_host, is_own_page
from skep.web.swarm_api import SwarmApi
from skep.web.visitors import Visitor, Visitors

ADDRESS = "127.0.0.1"
STATIC = Path(__file__).parent / "static"
# Browsers of one user have some pages, with six connections each; anybody on this machine may come, too.
CONNECTIONS_MAX = 512
CLOSE_S = 1.0  # for requests under way when the process ends
MAY_S = 5.0  # until the swarm has said whether it takes orders here; then the page offers none
OPEN = "/open"
_VISITOR = web.RequestKey("visitor", Visitor)
# No address but ours, and no script in the page itself.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SessionJson(Struct, frozen=True, rename="camel"):
    """What a page is told of itself: `may` are the orders that it offers, `host` who is asked."""

    csrf: str
    read_only: bool
    host: str
    may: list[str]


class Dashboard:
    """Serves a swarm's page; `listen`, then `close`. `opened` hears of each link that was used."""

    def __init__(self, swarm: SwarmApi, read_only: bool, opened: Callable[[], None]) -> None:
        self._swarm = swarm
        self._read_only = read_only
        self._opened = opened
        self._visitors = Visitors(lambda: secrets.token_urlsafe(32))
        self._passing = Passing(swarm, read_only)
        self._board = FollowedBoard(swarm)
        self._following: asyncio.Task[None] | None = None
        app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[self._around])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get(OPEN, self._open)
        app.router.add_get("/", self._page)
        if STATIC.is_dir():
            app.router.add_static("/static", STATIC)
        app.router.add_get("/session", self._session)
        app.router.add_get("/board", self._whole_board)
        app.router.add_get("/board/stream", self._board_stream)
        app.router.add_route("*", PREFIX + "/{path:.*}", self._pass)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=CLOSE_S
        )
        self._listener: BoundedListener | None = None
        self._port = 0

    async def listen(self, port: int) -> None:
        """Errors: `Invalid` when that port cannot be had."""
        await self._runner.setup()
        try:
            bound = socket.create_server((ADDRESS, port), backlog=BACKLOG)
        except OSError as error:
            await self._runner.cleanup()
            raise Invalid(
                f"cannot listen on {ADDRESS}:{port}: {error.strerror or error} (another --port; 0: any)"
            ) from error
        assert self._runner.server is not None
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(CONNECTIONS_MAX, files // 2) if files != resource.RLIM_INFINITY else CONNECTIONS_MAX
        self._listener = BoundedListener([bound], self._runner.server, most)
        self._port = self._listener.port
        self._following = asyncio.ensure_future(run_forever("board", self._board.run))

    async def close(self) -> None:
        self._board.close()
        await cancel_and_wait(self._following)
        if self._listener is not None:
            await self._listener.close()
        await self._runner.cleanup()

    @property
    def link(self) -> str:
        """Returns the link that opens one more browser, once."""
        return f"http://{ADDRESS}:{self._port}{OPEN}?token={self._visitors.token}"

    @property
    def _cookie(self) -> str:
        """Browsers keep one box of cookies for all ports of an address."""
        return f"skep-dashboard-{self._port}"

    # Who may ask

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await self._checked(request, handler)
        except web.HTTPException as error:  # no such page, too large an order
            return refused(error.status, error.reason)
        except ApiError as error:
            return refused(error.status or 502, str(error))
        except SkepError as error:  # the swarm is away
            return refused(503, str(error))

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        headers, host = request.headers, request.headers.get("Host", "")
        if not is_own_host(host):
            return refused(403, f"this page is at {ADDRESS} or localhost, and not at '{host[:100]}'")
        if request.path == OPEN:
            return await handler(request)  # by a click on a page of another site, too
        if not is_own_page(host, headers.get("Origin"), headers.get("Sec-Fetch-Site")):
            return refused(403, "a page of another site asks: only this one's own requests are answered")
        visitor = self._visitors.of(request.cookies.get(self._cookie, ""))
        if visitor is None:
            return web.Response(status=403, text=WHAT_TO_DO + "\n")
        request[_VISITOR] = visitor
        return await handler(request)

    async def _open(self, request: web.Request) -> web.StreamResponse:
        visitor = self._visitors.admit(request.query.get("token", ""))
        if visitor is None and self._visitors.of(request.cookies.get(self._cookie, "")) is None:
            return web.Response(status=403, text=WHAT_TO_DO + "\n")
        answer = web.Response(text=OPENED, content_type="text/html")
        if visitor is not None:
            answer.set_cookie(self._cookie, visitor.cookie, httponly=True, samesite="Strict", path="/")
            self._opened()
        return answer

    # What is answered

    async def _page(self, request: web.Request) -> web.StreamResponse:
        page = STATIC / "index.html"
        if not page.is_file():
            return web.Response(text=NO_PAGE, content_type="text/html")
        return web.FileResponse(page)

    async def _session(self, request: web.Request) -> web.StreamResponse:
        visitor = request[_VISITOR]
        may = [] if self._read_only else await self._may()
        said = SessionJson(visitor.csrf, self._read_only, self._swarm.url, may)
        return web.Response(body=msgspec.json.encode(said), content_type="application/json")

    async def _may(self) -> list[str]:
        """Returns what the swarm takes of who asks it there: of a worker, nothing."""
        try:
            async with asyncio.timeout(MAY_S):
                said = await self._swarm.json("/info")
                return list(ACTIONS) if said["Swarm"]["ControlAvailable"] else []
        except (SkepError, KeyError, TypeError, TimeoutError):
            return []

    async def _whole_board(self, request: web.Request) -> web.StreamResponse:
        return await whole_board(request, self._board)

    async def _board_stream(self, request: web.Request) -> web.StreamResponse:
        return await board_stream(request, self._board)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        return await self._passing.answer(request, request[_VISITOR])


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
