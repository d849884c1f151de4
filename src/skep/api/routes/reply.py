"""Answers: JSON of our structs, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from skep.api.objects import encode

SLICE = 1000  # objects encoded before the loop goes round: about 8 ms


def reply(value: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, content_type="application/json")


async def reply_list(request: web.Request, values: Iterable[Any]) -> web.StreamResponse:
    """Streams a JSON list, so that a hundred thousand objects neither stall the loop nor fill memory."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    await response.prepare(request)
    part: list[bytes] = []
    first = True
    for value in values:
        part.append(encode(value))
        if len(part) == SLICE:
            await response.write((b"[" if first else b",") + b",".join(part))
            part, first = [], False
            await asyncio.sleep(0)
    head = b"[" if first else (b"," if part else b"")
    await response.write(head + b",".join(part) + b"]\n")
    await response.write_eof()
    return response
