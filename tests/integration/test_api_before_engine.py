"""The API before an engine: one that hangs, and what of a request reaches it."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from aiohttp import ClientSession, UnixConnector, web

from skep.api.engine import LocalEngine
from skep.api.forward import LeaderForward
from skep.api.route import LeaderRoute, Route
from skep.api.server import ApiServer
from tests.api_process import running_api

pytestmark = pytest.mark.timeout(30)


SWITCHES = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


class Engine:
    """Answers the ping, with what it is told to wait for, and keeps what else it is sent. `refusal` is what
    it answers to who wants a stream; without one, it begins it."""

    def __init__(self) -> None:
        self.refusal = b""
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
                if b"Upgrade: " not in head:
                    self.bodies.append(await body_of(head, reader))
                if b"Upgrade: " not in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                elif self.refusal:
                    writer.write(self.refusal)
                    self.bodies.append(await body_of(head, reader) if b"Content-Length" in head else b"")
                else:
                    writer.write(SWITCHES)
                    self.bodies.append(await reader.read(-1))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def body_of(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """Returns what comes as the head says, chunks put together."""
    if b"Transfer-Encoding: chunked" not in head:
        return await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body


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
    routes = [Route("GET", "/skep/v1/health", well, is_internal=True), LeaderRoute("GET", "/nodes", well)]
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


class Sent:
    """What an engine is sent by somebody who speaks to the API in parts."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        engine.is_well.set()
        self._engine = engine
        self.socket = str(directory / "api.sock")
        self._local = LocalEngine(str(directory / "engine.sock"))

    async def __aenter__(self) -> Sent:
        self._api = ApiServer(self._local, [], "skep", cast("LeaderForward", NoForward()))
        await self._api.start()
        await self._api.listen_unix(Path(self.socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()
        await self._local.close()

    async def answer(self, *parts: bytes) -> bytes:
        """Sends the parts, one a moment after the other, and ends. Returns what comes back."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        writer.write_eof()
        found = await reader.read(-1)
        writer.close()
        return found

    def connections(self) -> int:
        server = self._api._runner.server
        assert server is not None
        return len(server.connections)

    async def to_engine(self, *parts: bytes) -> tuple[bytes, bytes]:
        """Returns head and all that followed it."""
        await self.answer(*parts)
        async with asyncio.timeout(5):
            while not self._engine.bodies:
                await asyncio.sleep(0.01)
        return self._engine.heads.pop(), self._engine.bodies.pop()


class NoForward:
    async def close(self) -> None: ...


@pytest.fixture
async def sent(engine: Engine, short_dir: Path) -> AsyncIterator[Sent]:
    async with Sent(engine, short_dir) as made:
        yield made


UPGRADE = b"POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
CHUNKED, LENGTH = b"Transfer-Encoding: chunked\r\n\r\n", b"Content-Length: 10\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "length", "follows"),
    [
        ([UPGRADE + b"\r\n"], None, b""),
        ([UPGRADE + b"\r\n", b"input"], None, b"input"),
        ([UPGRADE + LENGTH + b"0123456789", b"input"], b"10", b"0123456789input"),
        ([UPGRADE + LENGTH + b"01234", b"56789input"], b"10", b"0123456789input"),
        ([UPGRADE + LENGTH, b"01234", b"56789", b"input"], b"10", b"0123456789input"),
        ([UPGRADE + CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n", b"input"], b"10", b"0123456789input"),
        ([UPGRADE + CHUNKED + b"5\r\n01234\r\n", b"5\r\n56789\r\n0\r", b"\n\r\n"], b"10", b"0123456789"),
        ([UPGRADE + b"Expect: 100-continue\r\n" + CHUNKED + b"0\r\n\r\n"], b"0", b""),
    ],
    ids=["none", "input", "length", "split", "late", "chunks", "split chunks", "expects"],
)
async def test_what_becomes_a_stream_begins_with_its_body(
    sent: Sent, parts: list[bytes], length: bytes | None, follows: bytes
) -> None:
    head, content = await sent.to_engine(*parts)
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    assert content == follows
    assert headers.get(b"Content-Length") == length
    assert headers[b"Upgrade"] == b"tcp"
    assert not {b"Transfer-Encoding", b"Expect"} & set(headers)


CONFLICT = b'{"message":"container x is not running"}\n'
REFUSALS = {
    "length": b"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(CONFLICT)
    + CONFLICT,
    "chunks": b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n"
    + CONFLICT[:9]
    + b"\r\n%x\r\n" % (len(CONFLICT) - 9)
    + CONFLICT[9:]
    + b"\r\n0\r\n\r\n",
    "after a word": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n{}\n",
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "no stream": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{}\n",
    "framed": b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n",
}
NEXT = b"GET /v1.41/swarm HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    "parts",
    [
        [UPGRADE + b"\r\n"],
        [UPGRADE + LENGTH + b"01234", b"56789"],
        [UPGRADE + CHUNKED + b"1\r\nx\r\n0\r\n\r\n"],
    ],
    ids=["none", "late", "chunks"],
)
@pytest.mark.parametrize("is_hasty", [False, True])
async def test_after_a_refused_stream_the_connection_is_http(
    engine: Engine, sent: Sent, refusal: str, parts: list[bytes], is_hasty: bool
) -> None:
    """The swarm's own paths never reach the engine: what follows a refusal is not tunnelled past the router.
    A hasty client sends its next request before it is answered."""
    engine.refusal = REFUSALS[refusal]
    reader, writer = await asyncio.open_unix_connection(sent.socket)
    for part in [*parts, NEXT] if is_hasty else parts:
        writer.write(part)
        await asyncio.sleep(0.02)
    first = await one_answer(reader)
    if not is_hasty:
        writer.write(NEXT)
    assert first[0] in (200, 404, 409)
    assert first[1] in (CONFLICT, b"{}\n", b"")
    assert await one_answer(reader) == (404, b'{"message":"page not found"}\n')
    writer.close()
    assert len(engine.heads) == 1, "the second is not the engine's"


async def one_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), await body_of(head, reader)


async def test_a_stream_without_an_upgrade_is_one_where_it_has_no_end(engine: Engine, sent: Sent) -> None:
    engine.refusal = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\noutput"
    answer = await sent.answer(UPGRADE + b"\r\n", b"input")
    assert answer == engine.refusal


async def test_an_engine_that_ends_without_an_answer_is_said(engine: Engine, sent: Sent) -> None:
    engine.refusal = b"\r\n\r\n"
    reader, writer = await asyncio.open_unix_connection(sent.socket)
    writer.write(UPGRADE + b"\r\n")
    status, body = await one_answer(reader)
    assert (status, b"Cannot connect to the Docker Engine" in body) == (503, True)
    writer.write(NEXT)
    assert (await one_answer(reader))[0] == 404
    writer.close()


async def test_connections_that_were_streams_are_forgotten(engine: Engine, sent: Sent) -> None:
    for _ in range(3):
        await sent.answer(UPGRADE + b"\r\n", b"input")
    await asyncio.sleep(0.05)
    assert sent.connections() == 0


async def test_a_body_in_chunks_before_a_stream_may_not_be_endless(sent: Sent) -> None:
    chunk = b"%x\r\n" % (64 << 10) + b"x" * (64 << 10) + b"\r\n"
    answer = await sent.answer(UPGRADE + CHUNKED + 20 * chunk + b"0\r\n\r\n")
    assert b" 400 " in answer[:15]
    assert b"larger than 1048576 bytes" in answer


LOAD = b"POST /images/load HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\n"


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_is_compressed_reaches_the_engine_as_it_is(sent: Sent, is_chunked: bool) -> None:
    packed = gzip.compress(b"A" * 3000)
    body = b"Content-Length: %d\r\n\r\n" % len(packed) + packed
    if is_chunked:
        body = CHUNKED + b"%x\r\n" % len(packed) + packed + b"\r\n0\r\n\r\n"
    head, content = await sent.to_engine(LOAD + body)
    assert b"Content-Encoding: gzip\r\n" in head
    assert content == packed


async def test_what_is_the_swarms_own_is_not_compressed() -> None:
    async with running_api() as api:
        for path in ("/services/create", "/volumes/create", "/skep/v1/restore", "/skep/v1/reconnect"):
            for body in (gzip.compress(b"{}"), b"rubbish"):
                answer = await api.ask("POST", path, body, headers={"Content-Encoding": "gzip"})
                assert (answer.status, answer.message) == (
                    400,
                    "the request body cannot be read: its Content-Encoding is 'gzip', and must be none",
                )
        plain = await api.ask("POST", "/services/create", b"{}", headers={"Content-Encoding": "identity"})
        assert "mismatched Runtime" in plain.message
        assert (await api.ask("GET", "/services", headers={"Content-Encoding": "gzip"})).json == []
