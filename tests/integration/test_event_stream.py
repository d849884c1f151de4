"""`GET /events`: two histories as one, until when it runs, and what becomes of who does not read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skep.api.routes import events as routes
from tests.api_process import Api, running_api

pytestmark = pytest.mark.timeout(30)


class Engine:
    """An engine that only has events: as Docker's, it gives those of the time asked for and then waits."""

    def __init__(self) -> None:
        self.past: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def add(self, name: str, at_ns: int) -> None:
        event = {"Type": "container", "Action": "start", "Actor": {"ID": name}, "timeNano": at_ns}
        self.past.append(event)

    async def ping(self, request: web.Request) -> web.Response:
        return web.Response(headers={"Api-Version": "1.41"})

    async def events(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        since, until = _ns(request.query["since"]), _ns(request.query.get("until", "99999999999"))
        response = web.StreamResponse()
        await response.prepare(request)
        for event in self.past:
            if since <= event["timeNano"] <= until:
                await response.write(json.dumps(event).encode() + b"\n")
        if "until" not in request.query:
            await asyncio.sleep(20)
        return response


def _ns(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0") or 0)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def api(engine: Engine, short_dir: Path) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_get("/_ping", engine.ping)
    app.router.add_get("/{version}/events", engine.events)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(short_dir / "engine.sock")).start()
    async with running_api(str(short_dir / "engine.sock")) as made:
        yield made
    await runner.cleanup()


def ids(body: bytes) -> list[str]:
    return [json.loads(line)["Actor"]["ID"] for line in body.splitlines()]


async def test_both_histories_come_in_the_order_of_their_times_and_the_past_ends_at_once(
    api: Api, engine: Engine
) -> None:
    begin = time.time_ns()
    for number in range(3):
        api.node.hub.emit("service", "create", f"s{number}", name="x")
        engine.add(f"c{number}", time.time_ns())
        await asyncio.sleep(0.002)
    answer = await api.ask("GET", f"/events?since={begin / 1e9:.9f}&until={time.time():.9f}")
    assert ids(answer.body) == ["s0", "c0", "s1", "c1", "s2", "c2"]
    middle = api.node.hub.history()[-1].at_ns
    text = f"{middle // 10**9}.{middle % 10**9:09d}"
    assert ids((await api.ask("GET", f"/events?since={text}&until={text}")).body) == ["s2"]
    only = f'/events?since=0&until={time.time():.9f}&filters={{"service":["s1"]}}'
    assert "s1" in ids((await api.ask("GET", only)).body)
    assert all("v1.41" in path for path in engine.asked), "what the engine speaks"


async def test_until_a_time_to_come_the_stream_runs_and_then_ends(api: Api, engine: Engine) -> None:
    begin = time.time()
    reading = asyncio.ensure_future(api.ask("GET", f"/events?until={begin + 1:.9f}"))
    await asyncio.sleep(0.5)
    assert not reading.done()
    api.node.hub.emit("service", "create", "late", name="x")
    answer = await reading
    assert "late" in ids(answer.body)
    assert 0.9 < time.time() - begin < 5


async def test_who_reads_slowly_has_all_until_then_in_its_order(api: Api) -> None:
    end = time.time() + 1
    reader, writer = await asyncio.open_unix_connection(api.socket, limit=1 << 16)
    writer.write(f"GET /events?until={end:.9f} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    for number in range(1000):
        api.node.hub.emit("service", "update", f"s{number}", name="x" * 1000)
        if number % 500 == 499:  # what is written at once, and what waits for that
            await asyncio.sleep(0.1)
    await asyncio.sleep(max(0.0, end - time.time()) + 0.3)
    found = ids(await asyncio.wait_for(reader.read(-1), 10))
    writer.close()
    assert [each for each in found if each.startswith("s")] == [f"s{number}" for number in range(1000)]


async def test_bad_times_are_refused_in_gos_words(api: Api) -> None:
    answer = await api.ask("GET", "/events?since=20&until=10")
    assert (answer.status, answer.message) == (
        400,
        "`since` time (20) cannot be after `until` time (10)",
    )
    answer = await api.ask("GET", "/events?since=2020-01-01T00:00:00Z")
    assert answer.status == 500
    assert answer.message == 'strconv.ParseInt: parsing "2020-01-01T00:00:00Z": invalid syntax'


async def test_who_does_not_read_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "WAITING_MAX_BYTES", 300_000)
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.connect(api.socket)
        client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline = time.monotonic() + 10
        while not api.node.hub._feeds:
            await asyncio.sleep(0.01)
        while api.node.hub._feeds and time.monotonic() < deadline:
            for _ in range(100):
                api.node.hub.emit("service", "update", "s", name="x" * 500)
            await asyncio.sleep(0.001)
        assert not api.node.hub._feeds, "nothing is kept for it any more"
