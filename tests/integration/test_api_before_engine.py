"""The API before an engine: one that hangs, and what of a request reaches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector, web

from skep.api.engine import LocalEngine
from skep.api.server import ApiServer, Route, leaders
from tests.api_process import running_api

pytestmark = pytest.mark.timeout(30)


class Engine:
    """Answers the ping, with what it is told to wait for, and keeps what else it is sent."""

    def __init__(self) -> None:
        self.is_well = asyncio.Event()
        self.pings = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"/_ping " in head:
                    self.pings += 1
                    await self.is_well.wait()
                    writer.write(b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 2\r\n\r\nOK")
                    continue
                self.heads.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                self.bodies.append(await reader.read(-1))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def engine(short_dir: Path) -> AsyncIterator[Engine]:
    made = Engine()
    server = await asyncio.start_unix_server(made.serve, short_dir / "engine.sock")
    yield made
    made.is_well.set()
    server.close()


async def test_an_engine_that_hangs_holds_up_no_answer_for_long(engine: Engine, short_dir: Path) -> None:
    async with running_api(str(short_dir / "engine.sock")) as api:
        began = time.monotonic()
        answers = await asyncio.gather(*(api.ask("GET", "/v1.51/nodes") for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert (await api.ask("GET", "/v1.51/nodes")).status == 200
        assert time.monotonic() - began < 4, "a second, for the first only"
        assert engine.pings == 1
        engine.is_well.set()
        deadline = time.monotonic() + 5
        while (await api.ask("GET", "/v1.51/nodes")).status == 200:
            assert time.monotonic() < deadline, "its version is used once it is known"
            await asyncio.sleep(0.01)
        assert engine.pings == 1


async def test_managers_among_themselves_ask_no_engine(engine: Engine, short_dir: Path) -> None:
    async def well(request: web.Request) -> web.StreamResponse:
        return web.Response(text="OK")

    local = LocalEngine(str(short_dir / "engine.sock"))
    routes = [Route("GET", "/skep/v1/health", well, is_internal=True), leaders("GET", "/nodes", well)]
    api = ApiServer(local, routes, "skep", None)
    await api.start()
    await api.listen_unix(short_dir / "api.sock")
    try:
        async with ClientSession(connector=UnixConnector(str(short_dir / "api.sock"))) as session:
            for path in ("/skep/v1/health", "/v1.51/nodes"):
                async with asyncio.timeout(5), session.get(f"http://skep{path}") as answer:
                    assert (answer.status, answer.headers["Api-Version"]) == (200, "1.51")
        assert engine.pings == 0
    finally:
        await api.close()
        await local.close()
