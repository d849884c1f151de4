"""What a server may answer whom we ask: no more than is asked for, and nothing of other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from skep.client.api import ApiClient, ApiError
from skep.runtime.errors import Unavailable

pytestmark = pytest.mark.real_time
MOST = 1000
# What is no JSON, no UTF-8, and lists in lists without end.
NONSENSE = [b"<html>", b'{"message":"\xff"}', b"[" * 100_000]


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[str]:
    async def long(request: web.Request) -> web.Response:
        return web.Response(body=b" " * int(request.query["size"]) + b"{}")

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/long?size=1")

    async def nonsense(request: web.Request) -> web.Response:
        return web.Response(status=int(request.query["status"]), body=NONSENSE[int(request.query["which"])])

    app = web.Application()
    app.router.add_get("/nonsense", nonsense)
    app.router.add_get("/long", long)
    app.router.add_get("/elsewhere", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "socket")).start()
    yield f"unix://{tmp_path / 'socket'}"
    await runner.cleanup()


async def test_no_more_than_so_much_is_read(asked: str) -> None:
    client = ApiClient(asked, answer_max_bytes=MOST)
    assert await client.json("GET", f"/long?size={MOST - 2}") == {}
    with pytest.raises(Unavailable, match=f"sends more than {MOST} bytes"):
        await client.json("GET", f"/long?size={MOST - 1}")
    await client.close()
    client = ApiClient(asked)  # a daemon of the user's own
    assert await client.json("GET", f"/long?size={100 * MOST}") == {}
    await client.close()


async def test_who_says_that_he_has_moved_is_not_followed(asked: str) -> None:
    client = ApiClient(asked)
    with pytest.raises(ApiError, match="307"):
        await client.json("GET", "/elsewhere")
    await client.close()


@pytest.mark.parametrize("which", range(len(NONSENSE)))
async def test_what_is_no_json_is_said(asked: str, which: int) -> None:
    client = ApiClient(asked)
    with pytest.raises(ApiError, match=r"says no JSON to /nonsense.*: is it a Docker Engine or skepd\?"):
        await client.json("GET", f"/nonsense?status=200&which={which}")
    with pytest.raises(ApiError) as refused:
        await client.json("GET", f"/nonsense?status=500&which={which}")
    assert str(refused.value) == NONSENSE[which].decode(errors="replace"), "as it came"
    await client.close()
