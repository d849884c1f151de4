"""A manager that loses the lead, or is not sure of it, between a request's write and its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession, UnixConnector, web

from skep.api.engine import LocalEngine
from skep.api.errors import NO_LEADER
from skep.api.forward import LOST, LeaderForward
from skep.api.route import LeaderRoute
from skep.api.server import ApiServer
from skep.manager.confirmed_commit import commit_confirmed
from skep.manager.leader import Leader
from skep.runtime.errors import Deposed, NoLeader
from skep.store.interfaces import Delete, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from tests.api_process import Api, LoneManager, running_api

pytestmark = pytest.mark.timeout(30)

SPEC: dict[str, Any] = {
    "Name": "web",
    "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}},
    "Mode": {"Replicated": {"Replicas": 2}},
}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as made:
        yield made


def lead_is_unsure_after_the_next_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only until it was asked for once."""
    commit = MemoryStore.commit

    def unsure(node: LoneManager) -> Leader:
        monkeypatch.undo()
        raise NoLeader("no beat for too long")

    async def commit_slowly(store: MemoryStore, txn: Txn) -> int:
        revision = await commit(store, txn)
        if any(isinstance(op, Put) and "service" in op.key for op in txn.ops):
            monkeypatch.setattr(LoneManager, "manager", unsure)
        return revision

    monkeypatch.setattr(MemoryStore, "commit", commit_slowly)


async def test_an_update_that_was_written_is_answered_as_done(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await api.ask("POST", "/v1.51/services/create", SPEC)).status == 201
    version = await api.version_of("/v1.51/services/web")
    lead_is_unsure_after_the_next_write(monkeypatch)
    changed = SPEC | {"Mode": {"Replicated": {"Replicas": 4}}}
    answer = await api.ask("POST", f"/v1.51/services/web/update?version={version}", changed)
    assert answer.status == 200, answer.message


async def test_a_service_that_was_written_is_answered_as_made(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_is_unsure_after_the_next_write(monkeypatch)
    answer = await api.ask("POST", "/v1.51/services/create", SPEC)
    assert answer.status == 201, answer.message


@pytest.mark.parametrize("forwards", [True, False], ids=["everybody's", "among managers"])
async def test_what_was_written_is_not_begun_again(short_dir: Path, forwards: bool) -> None:
    store, begun = MemoryStore(MemoryState()), []

    async def write(request: web.Request) -> web.StreamResponse:
        begun.append(request.path)
        await commit_confirmed(store, Txn((Put("k", b"v"),)))
        raise NoLeader("lost")

    class Node:
        def leader_socket(self) -> None: ...

        def manager(self) -> None: ...

    engine = LocalEngine(None)
    forward = LeaderForward(cast("Any", Node())) if forwards else None
    server = ApiServer(engine, [LeaderRoute("POST", "/write", write)], "skep", forward)
    await server.start()
    await server.listen_unix(short_dir / "api.sock")
    try:
        connector = UnixConnector(str(short_dir / "api.sock"))
        async with ClientSession(connector=connector) as session, session.post("http://skep/write") as answer:
            assert answer.status == 503
            assert NO_LEADER not in answer.headers, "nobody else may do it again"
            assert forward is None or (await answer.json())["message"] == LOST
        assert begun == ["/write"]
    finally:
        await server.close()
        await engine.close()


async def test_a_prune_that_has_removed_something_is_not_begun_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second answer would not name what the first has removed."""
    for name in ("a", "b"):
        network = {"Name": name, "Driver": "overlay"}
        assert (await api.ask("POST", "/v1.51/networks/create", network)).status == 201
    commit, removals = MemoryStore.commit, []

    async def commit_once(store: MemoryStore, txn: Txn) -> int:
        if any(isinstance(op, Delete) and "/networks/" in op.key for op in txn.ops):
            removals.append(txn)
            if len(removals) == 2:
                raise Deposed()
        return await commit(store, txn)

    monkeypatch.setattr(MemoryStore, "commit", commit_once)
    answer = await api.ask("POST", "/v1.51/networks/prune")
    assert (answer.status, answer.message) == (503, LOST)
    assert len(removals) == 2
