"""The API before an engine that has answered, and then does not: stopped by SIGSTOP, or on a disk that hangs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_process import Api, running_api

pytestmark = pytest.mark.timeout(60)

WITHIN_S = 1.8  # a second, and some for a busy machine: ten ask at once
FIRST_S = 2.7  # who finds out that the engine hangs

ANSWERS: dict[str, Any] = {
    "/_ping": "OK",
    "/info": {"ID": "e", "Containers": 7, "Plugins": {}, "Warnings": ["WARNING: No swap limit support"]},
    "/version": {"Version": "27.5.1", "Components": []},
    "/networks": [],
}


class Engine:
    """Answers what `ANSWERS` says, 404 to the rest, and nothing while it is frozen."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()
        self.runs.set()
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode().partition("?")[0]
                self.asked.append(path)
                await self.runs.wait()
                found = ANSWERS.get(path.removeprefix("/v1.41"))
                body = json.dumps({"message": "none"} if found is None else found).encode()
                status = b"404 Not Found" if found is None else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nApi-Version: 1.45\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def engine(short_dir: Path) -> AsyncIterator[Engine]:
    made = Engine()
    server = await asyncio.start_unix_server(made.serve, short_dir / "engine.sock")
    yield made
    made.runs.set()
    server.close()


@pytest.fixture
async def api(engine: Engine, short_dir: Path) -> AsyncIterator[Api]:
    async with running_api(str(short_dir / "engine.sock")) as made:
        yield made


async def timed(
    api: Api, method: str, path: str, body: bytes | None = None, within_s: float = WITHIN_S
) -> Any:
    began = time.monotonic()
    answer = await api.ask(method, path, body)
    assert time.monotonic() - began < within_s, path
    return answer


async def test_what_is_known_is_said_and_what_is_not(api: Api, engine: Engine) -> None:
    assert (await api.ask("GET", "/v1.45/info")).json["Warnings"] == ANSWERS["/info"]["Warnings"]
    assert (await api.ask("GET", "/v1.45/version")).json["Version"] == "27.5.1"
    engine.runs.clear()
    info = (await timed(api, "GET", "/v1.45/info")).json
    assert (info["Containers"], info["Swarm"]["ControlAvailable"]) == (7, True)
    assert info["Warnings"][0] == "WARNING: No swap limit support"
    assert "does not answer" in info["Warnings"][1]
    assert "What is shown of it is as of 20" in info["Warnings"][1]
    assert (await timed(api, "GET", "/v1.45/version")).json["Version"] == "27.5.1"
    assert (await timed(api, "GET", "/_ping")).status == 200
    engine.runs.set()
    assert len((await timed(api, "GET", "/v1.45/info")).json["Warnings"]) == 1


async def test_of_an_engine_that_never_answered_nothing_is_known(api: Api, engine: Engine) -> None:
    engine.runs.clear()
    info = (await timed(api, "GET", "/v1.45/info")).json
    assert info["Warnings"][0].endswith("Nothing is known of it.")
    assert info["Swarm"]["LocalNodeState"] == "active"
    assert (await timed(api, "GET", "/v1.45/version")).json["Platform"]["Name"].startswith("skep")


async def test_an_engine_that_hangs_is_not_asked_for_ever(api: Api, engine: Engine) -> None:
    await api.ask("GET", "/v1.45/info")
    engine.runs.clear()
    engine.asked.clear()
    for _ in range(3):
        await asyncio.gather(*(timed(api, "GET", "/v1.45/info") for _ in range(10)))
    assert engine.asked.count("/info") <= 14, "ten at once, and four that were not waited for"


async def test_no_route_of_the_swarms_waits_for_it(api: Api, engine: Engine) -> None:
    await api.ask("GET", "/v1.45/info")
    engine.runs.clear()
    body = b'{"Name": "front", "Driver": "overlay"}'
    made = await timed(api, "POST", "/networks/create", body, FIRST_S)
    assert made.status == 201
    answer = await timed(api, "GET", "/networks")
    assert "front" in {each["Name"] for each in answer.json}
    assert "its own networks are missing" in answer.headers["Warning"].lower()
    assert (await timed(api, "GET", "/networks/front")).json["Id"] == made.json["Id"]
    unknown = await timed(api, "GET", "/networks/nosuch")
    assert (unknown.status, "does not answer" in unknown.message) == (503, True)
    spec = {"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "x"}, "Networks": [{"Target": "no"}]}}
    refused = await timed(api, "POST", "/services/create", json.dumps(spec).encode())
    assert refused.status == 404, "nobody can say that it is the engine's"
    assert (await timed(api, "GET", "/distribution/busybox/json")).status == 503, "clients pin images with it"
    assert (await timed(api, "GET", "/events?since=1&until=2")).status == 200
    pruned = await timed(api, "POST", "/networks/prune")
    assert pruned.json == {"NetworksDeleted": ["front"]}
    assert (await timed(api, "DELETE", "/networks/nosuch")).status == 503


async def test_a_busy_engine_is_waited_for(api: Api, engine: Engine, monkeypatch: Any) -> None:
    """It answers the ping: nothing is left out of what it says."""
    monkeypatch.setitem(ANSWERS, "/networks/b", {"Id": "b", "Name": "br", "Labels": {}})
    serve = engine.runs.wait

    async def wait() -> bool:
        if engine.asked[-1] != "/_ping":
            await asyncio.sleep(1.2)
        return await serve()

    monkeypatch.setattr(engine.runs, "wait", wait)
    assert (await api.ask("GET", "/networks/b")).json["Id"] == "b"
