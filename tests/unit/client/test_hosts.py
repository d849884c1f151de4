"""Several daemons of one swarm: what one cannot answer another does, and nobody's change is written over."""

from __future__ import annotations

import errno
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skep.client.api import ApiClient, ApiError, check_manager, default_host
from skep.client.hosts import Hosts
from skep.runtime.errors import Invalid, Unavailable

pytestmark = pytest.mark.real_time  # its daemons answer at sockets


class Daemon:
    """Answers with 503 while `leads` is False."""

    def __init__(self) -> None:
        self.leads = True
        self.asked = 0
        self.node: dict[str, Any] = {"Version": {"Index": 1}, "Spec": {"Role": "worker", "Labels": None}}
        self.others_write = 0  # so many changes come first
        self.written: list[dict[str, Any]] = []

    async def look(self, request: web.Request) -> web.Response:
        self.asked += 1
        if not self.leads:
            return web.json_response({"message": "nobody leads"}, status=503)
        return web.json_response(self.node)

    async def change(self, request: web.Request) -> web.Response:
        if self.others_write:
            self.others_write -= 1
            self.node = {"Version": {"Index": 2}, "Spec": {"Role": "worker", "Labels": {"theirs": "1"}}}
        if int(request.query["version"]) != self.node["Version"]["Index"]:
            return web.json_response({"message": "rpc error: update out of sequence"}, status=500)
        self.written.append(await request.json())
        return web.Response()


@pytest.fixture
async def daemons(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    made, runners = [Daemon(), Daemon()], []
    for number, each in enumerate(made):
        app = web.Application()
        app.router.add_get("/nodes/a", each.look)
        app.router.add_post("/nodes/a/update", each.change)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        await web.UnixSite(runners[-1], str(tmp_path / str(number))).start()
    yield made
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def hosts(daemons: list[Daemon], tmp_path: Path) -> AsyncIterator[Hosts]:
    made = Hosts([f"unix://{tmp_path}/0", f"unix://{tmp_path}/1"], patience_s=0.5)
    yield made
    await made.close()


async def test_another_answers_and_is_asked_first_from_then_on(daemons: list[Daemon], hosts: Hosts) -> None:
    daemons[0].leads = False
    for _ in range(3):
        assert (await hosts.call("GET", "/nodes/a"))["Version"] == {"Index": 1}
    assert [each.asked for each in daemons] == [1, 3]


async def test_who_waited_for_long_enough_hears_what_each_said(daemons: list[Daemon], hosts: Hosts) -> None:
    for each in daemons:
        each.leads = False
    with pytest.raises(Unavailable, match=r"/0: nobody leads; .*/1: nobody leads"):
        await hosts.call("GET", "/nodes/a")
    assert daemons[0].asked > 1


async def test_a_refusal_is_no_reason_to_ask_another(daemons: list[Daemon], hosts: Hosts) -> None:
    with pytest.raises(ApiError) as refused:
        await hosts.call("GET", "/nodes/none")
    assert refused.value.status == 404


async def test_a_change_is_made_of_what_others_wrote_meanwhile(daemons: list[Daemon], hosts: Hosts) -> None:
    daemons[0].others_write = 1

    def label(spec: dict[str, Any]) -> dict[str, Any]:
        return {**spec, "Labels": {**spec["Labels"], "ours": "2"}}

    await hosts.change_node("a", label)
    assert [each["Labels"] for each in daemons[0].written] == [{"theirs": "1", "ours": "2"}]
    await hosts.change_node("a", lambda spec: spec)  # nothing to write
    assert len(daemons[0].written) == 1


async def test_it_says_where_nobody_answers_and_what_no_address_is(tmp_path: Path) -> None:
    client = ApiClient(f"unix://{tmp_path}/none")
    with pytest.raises(Unavailable, match="is skepd running there"):
        await client.raw("GET", "/_ping")
    await client.close()
    hosts = Hosts([f"unix://{tmp_path}/none"], patience_s=0)
    with pytest.raises(Unavailable) as raised:
        await hosts.nodes()
    assert str(raised.value).count(f"unix://{tmp_path}/none") == 1
    await hosts.close()
    with pytest.raises(Invalid, match="must be unix://PATH or tcp://HOST:PORT"):
        ApiClient("http://somewhere")
    assert default_host({"DOCKER_HOST": "tcp://a:1"}) == "tcp://a:1"
    assert default_host({}) == "unix:///run/skep/skep.sock"


async def test_who_may_not_ask_is_told_who_may(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ApiClient("unix:///run/skep/skep.sock")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")  # root, who tests, is refused nothing

    monkeypatch.setattr(client.session, "request", refuse)
    with pytest.raises(
        Unavailable, match=r"\(Permission denied\): its socket is for root, and for the group"
    ):
        await client.raw("GET", "/_ping")
    await client.close()


@pytest.mark.filterwarnings("error")
async def test_what_is_refused_leaves_nothing_open() -> None:
    with pytest.raises(Invalid):
        Hosts(["unix:///run/skep/skep.sock", "nowhere"])
    gc.collect()  # a session that nobody closed says so when it goes


@pytest.mark.parametrize("said", [None, [], {}, {"Swarm": {"LocalNodeState": "active"}}])
def test_who_is_no_manager_is_refused(said: object) -> None:
    with pytest.raises(Unavailable, match=r"tcp://a:1 is no manager of a swarm \(its state: (none|active)\)"):
        check_manager(said, "tcp://a:1")
    check_manager({"Swarm": {"ControlAvailable": True}}, "tcp://a:1")
