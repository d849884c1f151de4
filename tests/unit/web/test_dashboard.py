"""The dashboard's process before a real API: who gets in, what passes, what does not."""

from __future__ import annotations

import asyncio
import io
import json
import os

import pytest

from skep.runtime.errors import Invalid, Unavailable
from skep.web import dashboard
from skep.web.passing import BODY_MAX_BYTES, STREAMS_MAX
from skep.web.swarm_api import SwarmApi
from tests.unit.web.browsers import Shown, browser, shown_swarm

pytestmark = pytest.mark.real_time


async def test_nothing_is_said_to_who_has_not_opened_the_link() -> None:
    async with shown_swarm() as (_, shown), browser(shown, opens=False) as stranger:
        for path in ("/", "/session", "/api/nodes", "/static/app.js", "/board", "/nothing"):
            answer = await stranger.ask("GET", path)
            assert answer.status == 403, path
            assert "Open the link" in answer.message
        assert (await stranger.open(shown.dashboard.link + "x")).status == 403
        assert shown.opened == 0


async def test_a_link_opens_one_browser_once() -> None:
    async with (
        shown_swarm() as (_, shown),
        browser(shown, opens=False) as one,
        browser(shown, False) as other,
    ):
        link = shown.dashboard.link
        answer = await one.open(link)
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert one.origin.rpartition(":")[2] in cookie.partition("=")[0], "named by its port"
        assert (await other.open(link)).status == 403
        assert (await other.ask("GET", "/")).status == 403
        assert (await one.open(link)).status == 200, "who is in may click it again"
        assert (await one.ask("GET", "/")).status == 200
        assert shown.opened == 1
        assert (await other.open(shown.dashboard.link)).status == 200, "the next link"


async def test_every_answer_keeps_other_sites_out() -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        for path in ("/", "/session", "/api/nodes", "/nothing"):
            headers = (await one.ask("GET", path)).headers
            assert headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in headers


async def test_another_name_that_leads_here_gets_nothing() -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        answer = await one.ask("GET", "/api/nodes", Host="evil.example")
        assert (answer.status, "evil.example" in answer.message) == (403, True)
        assert (await one.ask("GET", "/api/nodes", Host="localhost:9999")).status == 200, (
            "a port that was forwarded"
        )


@pytest.mark.parametrize("header", [b"Host: \xff\xfe", b"Host: localhost\r\nCookie: skep-dashboard-%d=\xff"])
async def test_headers_that_are_no_text_are_refused_as_others(header: bytes) -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        port = int(one.origin.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        given = header % port if b"%" in header else header
        writer.write(b"GET /session HTTP/1.1\r\n" + given + b"\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 403 "), answer


async def test_a_page_of_another_site_gets_nothing() -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "same-site"}):
            assert (await one.ask("GET", "/api/nodes", **headers)).status == 403
            assert (
                await one.ask("POST", "/api/services/web/update?version=1", b"{}", **headers)
            ).status == 403


async def test_an_order_passes_with_its_token_only() -> None:
    async with shown_swarm() as (api, shown), browser(shown) as one:
        node_id = api.leader.node_id
        node = (await one.ask("GET", f"/api/nodes/{node_id}")).json
        spec = json.dumps({**node["Spec"], "Availability": "drain"}).encode()
        path = f"/api/nodes/{node_id}/update?version={node['Version']['Index']}"
        refused = await one.ask("POST", path, spec, X_Skep_CSRF="")
        assert (refused.status, "X-Skep-CSRF" in refused.message) == (403, True)
        assert api.leader.view.nodes[node_id].spec.availability == "active"
        assert (await one.ask("POST", path, spec)).status == 200
        assert api.leader.view.nodes[node_id].spec.availability == "drain"
        again = await one.ask("POST", path, spec)
        assert again.message.endswith("update out of sequence"), "what the swarm says, passed on"
        assert again.status == 500


async def test_who_may_only_look_orders_nothing() -> None:
    async with shown_swarm(read_only=True) as (api, shown), browser(shown) as one:
        said = (await one.ask("GET", "/session")).json
        assert (said["readOnly"], said["may"]) == (True, [])
        answer = await one.ask("POST", f"/api/nodes/{api.leader.node_id}/update?version=1", b"{}")
        assert (answer.status, "--read-only" in answer.message) == (403, True)


async def test_what_a_page_may_offer() -> None:
    async with shown_swarm() as (api, shown), browser(shown) as one:
        said = (await one.ask("GET", "/session")).json
        assert said["may"] == ["scale", "force", "rollback", "availability", "role"]
        assert said["host"] == f"unix://{api.socket}"


async def test_no_more_than_the_list_passes() -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        assert (await one.ask("GET", "/api/swarm")).status == 403
        assert (await one.ask("POST", "/api/services/create", b"{}")).status == 403
        assert (await one.ask("DELETE", "/api/nodes/x")).status == 403
        assert (await one.ask("GET", "/api/nodes/nobody")).status == 404, "the swarm's own answer"
        too_large = io.BytesIO(b"x" * (BODY_MAX_BYTES + 1))
        async with one.session.post(
            one.origin + "/api/services/x/update", data=too_large, headers={"X-Skep-CSRF": one.csrf}
        ) as answer:
            assert answer.status == 413


async def test_streams_end_with_who_reads_them_and_are_counted() -> None:
    async with shown_swarm() as (api, shown), browser(shown) as one:
        streams = [await one.stream("/api/events") for _ in range(STREAMS_MAX)]
        assert {each.status for each in streams} == {200}
        assert (await one.ask("GET", "/api/events")).status == 429
        async with browser(shown) as other:
            (await other.stream("/api/events")).close()
        api.node.hub.emit("node", "update", "n1", name="w")
        assert json.loads(await streams[0].content.readline())["Actor"]["ID"] == "n1", "as it comes"
        for each in streams:
            each.close()
        async with asyncio.timeout(5):
            while (again := await one.stream("/api/events")).status == 429:
                await asyncio.sleep(0.02)
        again.close()


async def test_a_swarm_that_is_away_is_said_and_another_manager_asked() -> None:
    async with shown_swarm() as (api, _):
        gone = SwarmApi(["unix:///nowhere.sock"])
        with pytest.raises(Unavailable, match="nowhere"):
            await gone.json("/info")
        shown = Shown(gone, False)
        await shown.dashboard.listen(0)
        async with browser(shown) as one:
            answer = await one.ask("GET", "/api/nodes")
            assert (answer.status, "no manager answers" in answer.message) == (503, True)
            assert (await one.ask("GET", "/session")).json["may"] == []
        await shown.dashboard.close()
        await gone.close()
        two = SwarmApi(["unix:///nowhere.sock", f"unix://{api.socket}"])
        assert (await two.json("/info"))["Swarm"]["NodeID"] == api.leader.node_id
        assert two.url == f"unix://{api.socket}"
        await two.close()


async def test_a_port_that_is_taken_is_named() -> None:
    async with shown_swarm() as (_, shown), browser(shown) as one:
        port = int(one.origin.rpartition(":")[2])
        swarm = SwarmApi(["unix:///nowhere.sock"])
        with pytest.raises(Invalid, match=f"127.0.0.1:{port}.*--port"):
            await Shown(swarm, False).dashboard.listen(port)
        await swarm.close()


async def test_many_connections_of_strangers_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody on the machine reaches the port."""
    monkeypatch.setattr(dashboard, "CONNECTIONS_MAX", 8)
    async with shown_swarm() as (_, shown), browser(shown) as one:
        port = int(one.origin.rpartition(":")[2])
        before = len(os.listdir("/proc/self/fd"))
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        assert (await one.ask("GET", "/session")).status == 200
        assert len(os.listdir("/proc/self/fd")) - before - len(silent) <= 8
        for _, writer in silent:
            writer.close()
    assert "Traceback" not in "".join(capsys.readouterr())
