"""A dashboard before what is no skepd, or has something between: said, and never a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from skep.web.swarm_api import SwarmApi
from tests.unit.web.browsers import Browser, Shown, browser

pytestmark = pytest.mark.real_time
NODES = b'[{"ID":"x"}]' * 1000
# No JSON, no UTF-8, and lists in lists without end.
NONSENSE = [b"<html>", b'"\xff"', b"[" * 100_000]


@asynccontextmanager
async def odd_swarm(directory: Path, told: bytes = b"") -> AsyncIterator[Browser]:
    """A browser of a dashboard whose manager is told of here; `told` is what it says as the board."""

    async def packed(request: web.Request) -> web.StreamResponse:
        answer = web.Response(body=NODES, content_type="application/json")
        answer.enable_compression(force=web.ContentCoding.gzip)
        return answer

    async def stream(request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=b"event: snapshot\ndata: " + told + b"\n\n", content_type="text/event-stream"
        )

    app = web.Application()
    app.router.add_get("/nodes", packed)
    app.router.add_get("/skep/v1/board/stream", stream)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(directory / "api")).start()
    swarm = SwarmApi([f"unix://{directory / 'api'}"])
    shown = Shown(swarm, read_only=False)
    await shown.dashboard.listen(0)
    try:
        async with browser(shown) as one:
            yield one
    finally:
        await shown.dashboard.close()
        await swarm.close()
        await runner.cleanup()


async def test_what_was_compressed_on_its_way_comes_as_it_is(tmp_path: Path) -> None:
    async with odd_swarm(tmp_path) as one:
        answer = await one.ask("GET", "/api/nodes")
        assert (answer.status, answer.body) == (200, NODES)
        assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("told", NONSENSE)
async def test_a_board_that_makes_no_sense_is_said(
    tmp_path: Path, told: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async with odd_swarm(tmp_path, told) as one:
        answer = await one.ask("GET", "/board")
        assert (answer.status, "makes no sense" in answer.message) == (503, True)
    assert "Traceback" not in "".join(capsys.readouterr())
