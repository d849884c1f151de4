"""The address where metrics are served: nothing else is there, and nobody keeps others out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from skep.api import metrics_server
from skep.api.metrics_server import CONNECTIONS_MAX, MetricsServer
from skep.api.route import Route
from skep.runtime.errors import Invalid

pytestmark = pytest.mark.real_time


async def answer(request: web.Request) -> web.Response:
    if request.query:
        raise Invalid("that cannot be asked")
    return web.Response(text="skep_up 1\n")


LARGE = b"skep_up 1\n" * 2_000_000  # more than the kernel takes of it


async def answer_much(request: web.Request) -> web.Response:
    return web.Response(body=LARGE)


@contextlib.asynccontextmanager
async def serving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    server = MetricsServer([Route("GET", "/metrics", answer), Route("GET", "/much", answer_much)])
    try:
        yield await server.listen(host, port)
    finally:
        await server.close()


async def test_metrics_are_there_and_nothing_else() -> None:
    async with serving() as port, ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/metrics") as said:
            assert (said.status, await said.text()) == (200, "skep_up 1\n")
        async with session.get("/metrics?x=1") as said:
            assert (said.status, await said.text()) == (400, '{"message":"that cannot be asked"}\n')
        for method, path in (("GET", "/"), ("GET", "/info"), ("GET", "/v1.41/metrics"), ("POST", "/metrics")):
            async with session.request(method, path) as said:
                assert said.status in (404, 405), path


@pytest.mark.parametrize("host", ["", "::", "localhost", "::1"])
async def test_all_addresses_can_be_served(host: str) -> None:
    async with serving(host) as port, ClientSession() as session:
        at = "[::1]" if host == "::1" else "127.0.0.1"
        async with session.get(f"http://{at}:{port}/metrics") as said:
            assert said.status == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
async def test_an_address_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(Invalid, match=rf"metrics cannot be served on {host}:9323: .*--metrics-addr"):
        async with serving(host, 9323):
            pass


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Invalid, match=rf"metrics cannot be served on 127.0.0.1:{port}: .*in use"):
            async with serving(port=port):
                pass


async def test_connections_that_ask_nothing_keep_nobody_out() -> None:
    async with serving() as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX + 8)]
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as said:
            assert said.status == 200
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await silent[0][0].read() == b"", "the oldest was closed"
        silent[-1][1].write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await silent[-1][0].readline()).startswith(b"HTTP/1.1 200")
        for _, writer in silent:
            writer.close()


async def test_many_at_once_are_as_many_as_may_be() -> None:
    """The kernel hands a hundred over before the loop has gone round once."""
    before = _open_files()
    async with serving() as port:
        came = []
        for _ in range(3 * CONNECTIONS_MAX):
            came.append(socket.socket())
            came[-1].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                came[-1].connect(("127.0.0.1", port))
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as said:
            assert said.status == 200
        ours = _open_files() - before - len(came)
        for each in came:
            each.close()
    assert ours <= CONNECTIONS_MAX + 4, "and the listener, and the client's"


async def test_an_answer_that_is_not_read_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "SEND_S", 0.3)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.6)
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(len(LARGE))
        writer.close()


async def test_a_large_answer_comes_whole() -> None:
    async with serving() as port, ClientSession(f"http://127.0.0.1:{port}") as session:
        for _ in range(2):
            async with session.get("/much") as said:
                assert (said.content_length, await said.read()) == (len(LARGE), LARGE)
            async with session.head("/much") as said:
                assert (said.content_length, await said.read()) == (len(LARGE), b"")


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
