"""The engine's client against engines of other versions than the one at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skep.agent.executor import images
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.engine import EngineClient
from skep.runtime.errors import Invalid, Unavailable


class Engine:
    """Answers every call with its path; says to be of a version."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.paths: list[str] = []
        self.version = ""
        self.info: dict[str, Any] = {}
        self._runner: web.AppRunner | None = None

    async def start(self, version: str) -> None:
        self.version = version
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self.socket.unlink(missing_ok=True)

    async def _answer(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        if request.path.endswith("/images/create"):
            await asyncio.sleep(60)  # a registry whose packets are lost
        if request.path.endswith("/info"):
            return web.json_response(self.info)
        if "/images/" in request.path:
            return web.json_response({"RepoDigests": ["image@sha256:0"]})
        return web.json_response({}, headers={"Api-Version": self.version} if self.version else {})


@pytest.fixture
async def engine(short_dir: Path) -> AsyncIterator[Engine]:
    made = Engine(short_dir / "e.sock")
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("says", "spoken"), [("1.41", "1.41"), ("1.47", "1.47"), ("1.60", "1.51"), ("1.30", "1.41"), ("", "1.41")]
)
async def test_speaks_the_engines_version_as_far_as_both_know_it(
    engine: Engine, says: str, spoken: str
) -> None:
    await engine.start(says)
    client = EngineClient(str(engine.socket))
    try:
        await client.image("image")
        await client.image("image")
    finally:
        await client.close()
    assert engine.paths == ["/_ping", *[f"/v{spoken}/images/image/json"] * 2]


async def test_asks_anew_when_the_engine_was_away(engine: Engine) -> None:
    """It may have been upgraded meanwhile."""
    await engine.start("1.41")
    client = EngineClient(str(engine.socket))
    try:
        assert await client.api_version() == (1, 41)
        await engine.stop()
        with pytest.raises(Unavailable):
            await client.image("image")
        await engine.start("1.47")
        await client.image("image")
    finally:
        await client.close()
    assert engine.paths[-1] == "/v1.47/images/image/json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"Plugins": None},
        {"MemTotal": None},
        {"NCPU": "many"},
        {"Labels": [1]},
        {"GenericResources": [{"DiscreteResourceSpec": {"Kind": 1}}]},
    ],
)
async def test_an_engine_that_does_not_describe_itself_whole_is_asked_again(
    engine: Engine, wrong: dict[str, Any]
) -> None:
    """Anything else than `Unavailable` ended the agent's work."""
    await engine.start("1.41")
    client = EngineClient(str(engine.socket))
    whole = {
        "Plugins": {"Log": ["local"]},
        "Architecture": "x86_64",
        "OSType": "linux",
        "NCPU": 2,
        "MemTotal": 1 << 30,
        "ServerVersion": "28",
    }
    try:
        for info in ({}, {**whole, **wrong}):
            engine.info = info
            with pytest.raises(Unavailable, match="does not describe its machine"):
                await client.describe("host")
        engine.info = whole
        assert (await client.describe("host")).resources.nano_cpus == 2_000_000_000
    finally:
        await client.close()


async def test_what_cannot_be_written_down_is_not_taken_for_an_engine_that_is_away(engine: Engine) -> None:
    """It would be tried again without an end, and its task would never be rejected."""
    await engine.start("1.41")
    client = EngineClient(str(engine.socket))
    try:
        async with asyncio.timeout(5):
            with pytest.raises(Invalid, match="cannot be written as JSON"):
                await EngineCalls().call(lambda: client.create("name", {"Env": ["A=\ud800"]}))
    finally:
        await client.close()
    assert engine.paths == ["/_ping"]


async def test_a_registry_that_is_silent_is_waited_for_once_and_not_long(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "FIRST_WORD_S", 0.2)
    await engine.start("1.41")
    client = EngineClient(str(engine.socket))
    made = images.Images(client, EngineCalls())
    try:
        async with asyncio.timeout(5):
            found = await asyncio.gather(*(made.ensure("image", None) for _ in range(20)))
            pinned = await made.ensure("image@sha256:0", None)
    finally:
        await client.close()
    assert set(found) == {"image:latest"}
    assert pinned == "image@sha256:0"
    assert engine.paths.count("/v1.41/images/create") == 1
