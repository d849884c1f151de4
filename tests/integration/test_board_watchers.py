"""Watchers of a large board that do not read: dropped, each with a line in the log, and at a bounded cost."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc

import pytest
from aiohttp import ClientResponse

from skep.runtime import audience
from skep.runtime.sse import SentEvents
from tests.api_process import Api, running_api
from tests.unit.builders import add_node

NODES, STUCK = 5_000, 60
WAITS_MAX_BYTES = 130 << 10  # for each: what one write is, and what a transport takes beside it
KEPT_MAX_BYTES = 14 << 20  # of the board itself, and what this test makes
REQUEST = b"GET /skep/v1/board/stream HTTP/1.1\r\nHost: skep\r\nAccept-Encoding: identity\r\n\r\n"


def stuck_watcher(path: str) -> socket.socket:
    watcher = socket.socket(socket.AF_UNIX)
    watcher.connect(path)
    watcher.sendall(REQUEST)
    return watcher


def fill(api: Api, availability: str) -> None:
    """Each of the nodes is other than before: 200 kB of change."""
    for number in range(NODES):
        add_node(api.leader.view, f"node-with-a-longer-id-{number}", availability=availability)
        api.leader.board.node_changed(f"node-with-a-longer-id-{number}")


async def next_ids(reading: ClientResponse, events: SentEvents) -> list[str]:
    while True:
        piece = await reading.content.readany()
        assert piece, "who reads is told on"
        if found := [each.id for each in events.feed(piece) if each.id]:
            return found


async def test_those_that_do_not_read_are_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audience, "STUCK_S", 3.0)  # of 30: the test's time
    events, dropped = SentEvents(8 << 20), 0
    async with running_api() as api:
        fill(api, "active")
        reading = await api.session.get("http://skep/skep/v1/board/stream")
        told = await next_ids(reading, events)
        tracemalloc.start()
        stuck = [await asyncio.to_thread(stuck_watcher, api.socket) for _ in range(STUCK)]
        async with asyncio.timeout(60):
            while dropped < STUCK:
                fill(api, ("active", "drain")[len(told) % 2])
                told += await next_ids(reading, events)
                dropped += capsys.readouterr().out.count("listener.dropped")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        for each in stuck:
            each.close()
        reading.close()
    assert [int(each.rpartition(":")[2]) for each in told] == list(range(len(told))), "who reads is told all"
    assert dropped == STUCK, "once each"
    assert peak < STUCK * WAITS_MAX_BYTES + KEPT_MAX_BYTES, f"{len(told)} changes"
