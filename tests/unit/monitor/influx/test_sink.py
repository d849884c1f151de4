"""What databases, and proxies before them, answer that is not as it should be: an answer as any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from skep.monitor.influx.sink import InfluxSink
from skep.monitor.influx.target import v1_target

pytestmark = pytest.mark.real_time
# What is no UTF-8, and lists in lists without end: where words are looked for, and elsewhere.
NONSENSE = [b'{"error":"d\xe9passe"}', b'{"message":' + b"[" * 50_000, b'{"x":' + b"[" * 50_000]


@asynccontextmanager
async def a_database(said: bytes) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503, body=said)

    app = web.Application()
    app.router.add_post("/{path}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("said", NONSENSE)
@pytest.mark.parametrize("creates", [False, True])
async def test_an_answer_that_cannot_be_read_is_one(said: bytes, creates: bool) -> None:
    async with a_database(said) as url:
        sink = InfluxSink(v1_target(url, "swarm"), lambda: "", creates)
        answer = await sink.write(b"")
        await sink.close()
    assert answer.status == 503
    assert said.decode(errors="replace") in answer.text
