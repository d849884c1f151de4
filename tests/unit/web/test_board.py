"""The board, from a leader's view to a page: told as it changes, and taken up again where it was left."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from skep.runtime.sse import SentEvent, SentEvents
from skep.web.swarm_api import SwarmApi
from tests.api_process import Api, running_api
from tests.unit.builders import add_node
from tests.unit.web.browsers import Shown, browser, shown_swarm

pytestmark = pytest.mark.real_time


async def events(answer: ClientResponse) -> AsyncIterator[SentEvent]:
    reader = SentEvents(1 << 20)
    while piece := await answer.content.readany():
        for each in reader.feed(piece):
            yield each


async def until(answer: ClientResponse, name: str) -> SentEvent:
    """Returns the next event of that name. Reads no further, but what came with it is lost."""
    async with asyncio.timeout(10), aclosing(events(answer)) as found:
        async for each in found:
            if each.event == name:
                return each
    raise AssertionError(f"no {name} came")


def change_node(api: Api, node_id: str = "") -> None:
    """Something of the swarm is other now, and the leader's parts are told."""
    name = node_id or f"n{len(api.leader.view.nodes)}"
    add_node(api.leader.view, name)
    api.leader.board.node_changed(name)


async def test_a_manager_tells_the_board() -> None:
    async with running_api() as api:
        whole = await api.ask("GET", "/skep/v1/board")
        assert whole.json["swarm"]["leader"] == api.leader.node_id
        assert [row[0] for row in whole.json["nodes"]] == [api.leader.node_id]
        after = f"{whole.json['epoch']}:{whole.json['seq']}"
        stream = await api.session.get(f"http://skep/skep/v1/board/stream?after={after}")
        change_node(api, "n2")
        event = await until(stream, "change")
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert event.id == f"{whole.json['epoch']}:1"
        assert json.loads(event.data)["nodes"][0][1][0] == "n2"
        stream.close()


async def test_packed_or_plain_it_is_the_same() -> None:
    async with running_api() as api:
        for encoding in ("gzip", "identity"):
            headers = {"Accept-Encoding": encoding}
            answer = await api.ask("GET", "/skep/v1/board", headers=headers)
            assert answer.headers.get("Content-Encoding") == (None if encoding == "identity" else "gzip")
            stream = await api.session.get("http://skep/skep/v1/board/stream", headers=headers)
            event = await until(stream, "snapshot")
            assert json.loads(event.data) == answer.json
            change_node(api)
            assert json.loads((await until(stream, "change")).data)["nodes"]
            stream.close()


async def test_an_unknown_state_gets_a_snapshot_and_nonsense_an_error() -> None:
    async with running_api() as api:
        stream = await api.session.get("http://skep/skep/v1/board/stream?after=another:5")
        assert (await until(stream, "snapshot")).data
        stream.close()
        answer = await api.ask("GET", "/skep/v1/board/stream?after=5%205")
        assert (answer.status, "EPOCH:SEQ" in answer.message) == (400, True)


async def test_a_lead_that_is_lost_ends_the_stream() -> None:
    async with running_api() as api:
        stream = await api.session.get("http://skep/skep/v1/board/stream")
        await until(stream, "snapshot")
        api.leading.cancel()
        async with asyncio.timeout(5):
            while await stream.content.readany():
                pass


async def test_a_page_has_what_the_swarm_has() -> None:
    async with shown_swarm() as (api, shown), browser(shown) as one:
        whole = await one.ask("GET", "/board")
        said = whole.json
        assert [row[0] for row in said["nodes"]] == [api.leader.node_id]
        assert len(said["history"][0]) == 5
        after = f"{said['epoch']}:{said['seq']}"
        stream = await one.stream(f"/board/stream?after={after}")
        assert json.loads((await until(stream, "link")).data) == {"ok": True, "why": ""}
        change_node(api, "n2")
        change = json.loads((await until(stream, "change")).data)
        assert change["nodes"][0][1][0] == "n2"
        later = (await one.ask("GET", "/board")).json
        assert [row[0] for row in later["nodes"]] == [api.leader.node_id, "n2"]
        assert later["seq"] == change["seq"]
        stream.close()


async def test_a_page_goes_on_where_it_was() -> None:
    async with shown_swarm() as (api, shown), browser(shown) as one:
        stream = await one.stream("/board/stream")
        first = await until(stream, "snapshot")
        for node_id in ("n2", "n3"):
            change_node(api, node_id)
            last = await until(stream, "change")
        stream.close()
        headers = {"Last-Event-ID": first.id}
        again = await one.stream(f"/board/stream?after={last.id}", **headers)
        names = []
        async with asyncio.timeout(5), aclosing(events(again)) as found:
            async for each in found:
                assert each.event != "snapshot"
                if each.event == "change":
                    names.append(json.loads(each.data)["nodes"][0][1][0])
                    if len(names) == 2:
                        break
        assert names == ["n2", "n3"], "the browser's own word comes before the page's"
        again.close()


async def test_a_page_hears_that_the_swarm_is_away_and_back() -> None:
    async with running_api() as api:
        swarm = SwarmApi([f"unix://{api.socket}"])
        shown = Shown(swarm, False)
        await shown.dashboard.listen(0)
        async with browser(shown) as one:
            stream = await one.stream("/board/stream")
            await until(stream, "snapshot")
            api.leading.cancel()  # the leader's part ends; its daemon still answers, with an error
            link = json.loads((await until(stream, "link")).data)
            assert link["ok"] is False
            assert link["why"]
            assert (await one.ask("GET", "/board")).status == 200, "what was known last"
            stream.close()
        await shown.dashboard.close()
        await swarm.close()


async def test_where_nobody_answers_the_page_says_so() -> None:
    swarm = SwarmApi(["unix:///nowhere.sock"])
    shown = Shown(swarm, False)
    await shown.dashboard.listen(0)
    async with browser(shown) as one:
        stream = await one.stream("/board/stream")
        link: dict[str, Any] = json.loads((await until(stream, "link")).data)
        if link["why"] == "the swarm was not heard of yet":
            link = json.loads((await until(stream, "link")).data)
        assert (link["ok"], "nowhere.sock" in link["why"]) == (False, True)
        answer = await one.ask("GET", "/board")
        assert (answer.status, "nowhere.sock" in answer.message) == (503, True)
        stream.close()
    await shown.dashboard.close()
    await swarm.close()


async def test_a_page_may_have_it_packed() -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        said = {}
        for encoding in ("gzip", "identity"):
            headers = {"Accept-Encoding": encoding, "Cookie": one.cookie}
            async with (
                ClientSession(auto_decompress=False) as session,
                session.get(one.origin + "/board", headers=headers) as answer,
            ):
                said[encoding] = await answer.read()
        assert gzip.decompress(said["gzip"]) == said["identity"]
