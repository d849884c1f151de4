"""Whom a gather asks, and how long: managers that hang, say nonsense, or do not know their swarm yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skep.client.api import ApiError
from skep.monitor import settling
from skep.monitor.swarm_reader import NOT_SETTLED, SwarmReader
from skep.runtime.errors import Unavailable

from .answers import METRICS, USED, manager, metric, node, service

pytestmark = pytest.mark.real_time  # its managers answer at sockets


class Manager:
    """Answers as a manager does; `hangs`: takes what it is asked and says nothing."""

    def __init__(self) -> None:
        self.hangs = False
        self.over = asyncio.Event()
        self.content: bytes | None = None  # instead of any answer
        self.unknown = [0]  # nodes that are unknown, look by look; the last one stays
        self.leaders = ["m0"]  # who leads, look by look
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if self.hangs:
            await self.over.wait()
        if self.content is not None:
            return web.Response(body=self.content)
        return web.json_response(self.said(request.path))

    def said(self, path: str) -> Any:
        if path == "/skep/v1/metrics":
            unknown = self.unknown.pop(0) if len(self.unknown) > 1 else self.unknown[0]
            nodes = metric("skep_nodes", ready=10 - unknown, unknown=unknown)
            return {**METRICS, "Metrics": [nodes, *METRICS["Metrics"][1:]]}
        if path == "/nodes":
            leader = self.leaders.pop(0) if len(self.leaders) > 1 else self.leaders[0]
            return [manager(leader, "mg0", True)]
        return {
            "/skep/v1/nodes/usage": {"At": "", "Nodes": [node("a", "w1", USED)]},
            "/services": [service("web", {"Global": {}}, RunningTasks=1, DesiredTasks=1)],
        }[path]


@pytest.fixture
async def managers(tmp_path: Path) -> AsyncIterator[list[Manager]]:
    made, runners = [Manager(), Manager()], []
    for number, each in enumerate(made):
        app = web.Application()
        app.router.add_get("/{path:.*}", each.answer)
        runners.append(web.AppRunner(app, shutdown_timeout=0.1))
        await runners[-1].setup()
        await web.UnixSite(runners[-1], str(tmp_path / str(number))).start()
    yield made
    for each in made:
        each.over.set()
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def reader(tmp_path: Path, managers: list[Manager]) -> AsyncIterator[Callable[..., SwarmReader]]:
    made: list[SwarmReader] = []

    def make(**options: Any) -> SwarmReader:
        urls = [f"unix://{tmp_path}/{number}" for number in range(len(managers))]
        made.append(SwarmReader(urls, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_a_gather(managers: list[Manager], reader: Callable[..., SwarmReader]) -> None:
    gathered = await reader().read()
    assert {point.measurement for point in gathered.points} == {
        "swarm",
        "swarm_task_status",
        "swarm_service",
        "swarm_manager",
        "swarm_node",
        "swarm_node_usage",
    }
    assert gathered.left_out == ""
    assert "/skep/v1/nodes/usage?sample=1" in managers[0].asked
    await reader(with_usage=False).read()
    assert "/skep/v1/nodes/usage?sample=0" in managers[0].asked


async def test_a_manager_that_hangs_costs_one_timeout(
    managers: list[Manager], reader: Callable[..., SwarmReader]
) -> None:
    managers[0].hangs = True
    made = reader(timeout_s=0.5)
    began = time.monotonic()
    assert (await made.read()).points
    assert time.monotonic() - began < 1
    began = time.monotonic()
    assert (await made.read()).points  # it asks the other one first from now on
    assert time.monotonic() - began < 0.4


async def test_nobody_answers(managers: list[Manager], reader: Callable[..., SwarmReader]) -> None:
    for each in managers:
        each.hangs = True
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"took too long|no manager has said"):
        await reader(timeout_s=0.3).read()
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"Leader": "x"}', b""])
async def test_an_answer_that_is_none(
    managers: list[Manager], reader: Callable[..., SwarmReader], content: bytes
) -> None:
    for each in managers:
        each.content = content
    with pytest.raises((Unavailable, ApiError), match=r"/skep/v1/metrics|skep_nodes"):
        await reader(timeout_s=0.3).read()


async def test_a_new_leader_that_will_know_soon_is_waited_for(
    managers: list[Manager], reader: Callable[..., SwarmReader]
) -> None:
    made = reader(timeout_s=5.0)
    managers[0].unknown = [9, 5, 0]
    gathered = await made.read()
    assert gathered.left_out == ""
    assert managers[0].asked.count("/skep/v1/metrics") > 3
    assert len(managers[0].asked) == managers[0].asked.count("/skep/v1/metrics") + 3  # the rest is asked once


async def test_a_gather_is_of_one_leader(managers: list[Manager], reader: Callable[..., SwarmReader]) -> None:
    managers[0].leaders = ["m1", "m0"]  # another one said the last of it
    gathered = await reader().read()
    assert [p.tags["node_id"] for p in gathered.points if p.measurement == "swarm_manager"] == ["m0"]
    assert managers[0].asked.count("/services?status=true") == 2


async def test_what_a_new_leader_does_not_know_in_time_is_left_out(
    managers: list[Manager], reader: Callable[..., SwarmReader]
) -> None:
    managers[0].unknown = [9]
    gathered = await reader(timeout_s=0.6).read()
    assert gathered.left_out == NOT_SETTLED
    assert "swarm_task_status" not in {point.measurement for point in gathered.points}
    assert "swarm_node" in {point.measurement for point in gathered.points}


async def test_a_clock_that_is_set_back_holds_nothing_up(
    managers: list[Manager], reader: Callable[..., SwarmReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    managers[0].unknown = [9]
    real, first = time.time, time.time()
    # Set back again and again, by ten seconds for each that has gone by.
    monkeypatch.setattr(time, "time", lambda: first - 10 * (real() - first))
    monkeypatch.setattr(settling, "STUCK_S", 1.0)
    assert (await reader(timeout_s=5.0).read()).left_out == ""
