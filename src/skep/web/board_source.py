"""The board as a manager tells it: one stream, from whichever manager answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import quote

from aiohttp import ClientError, ClientResponse

from skep.client.api import refusal
from skep.runtime.errors import Unavailable, cause_of
from skep.runtime.sse import SentEvent, SentEvents
from skep.web.swarm_api import SwarmApi

STREAM = "/skep/v1/board/stream"
SILENT_S = 40.0  # a manager says something every 15 s, if only that it is there
EVENT_MAX_BYTES = 64 << 20  # the snapshot of a million tasks has 10
REFUSED_MAX_BYTES = 64 << 10  # an error is a sentence


async def board_events(swarm: SwarmApi, after: str) -> AsyncGenerator[SentEvent, None]:
    """Yields what follows on the state `after`, or a snapshot and what follows on that, until the manager
    ends it. Another manager is asked next time where this one cannot tell. Errors: `Unavailable`,
    `Invalid`."""
    async with await swarm.open("GET", f"{STREAM}?after={quote(after)}") as answer:
        if answer.status != 200:
            swarm.give_way()
            raise await _refused(answer)
        events = SentEvents(EVENT_MAX_BYTES)
        try:
            while piece := await _read(answer):
                for event in events.feed(piece):
                    yield event
        except (ClientError, OSError) as error:
            swarm.give_way()
            raise Unavailable(f"{answer.url.host} broke off: {cause_of(error)}") from error


async def _read(answer: ClientResponse) -> bytes:
    """Errors: `Unavailable` where nothing comes for long."""
    try:
        async with asyncio.timeout(SILENT_S):
            return await answer.content.readany()
    except TimeoutError as error:
        raise Unavailable(f"nothing was heard of the swarm for {SILENT_S:g} s") from error


async def _refused(answer: ClientResponse) -> Unavailable:
    try:
        async with asyncio.timeout(SILENT_S):
            content = await answer.content.read(REFUSED_MAX_BYTES)
    except (ClientError, OSError, TimeoutError) as error:
        return Unavailable(f"it broke off its answer: {cause_of(error)}")
    said = str(refusal(answer.status, content))
    if said == "page not found":
        return Unavailable("who answers does not know the board: it is a Docker Engine, or an earlier skepd")
    return Unavailable(said)
