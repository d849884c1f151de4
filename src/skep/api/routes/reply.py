"""Answers: JSON of our structs, whole or streamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from skep.api.objects import encode

SLICE_S = 0.01  # of looking and encoding before the loop goes round
LOOKED_AT = 16  # values between two looks at the clock: one costs a quarter of what a task does
PART_MAX_BYTES = 256 << 10  # written at once


def reply(value: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, content_type="application/json")


async def reply_list(request: web.Request, values: Iterable[Any]) -> web.StreamResponse:
    """Streams a JSON list, so that a hundred thousand objects neither stall the loop nor fill memory. `None`
    is nothing: an object that a filter left out, after which the loop may have its turn."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    await response.prepare(request)
    part: list[bytes] = []
    size, is_first = 0, True
    began = time.thread_time()
    for number, value in enumerate(values):
        if value is not None:
            part.append(encode(value))
            size += len(part[-1])
        is_time = number % LOOKED_AT == 0 and time.thread_time() - began > SLICE_S
        if size > PART_MAX_BYTES or is_time:
            if part:
                await response.write((b"[" if is_first else b",") + b",".join(part))
                is_first = False
            part, size = [], 0
            await asyncio.sleep(0)
            began = time.thread_time()
    head = b"[" if is_first else (b"," if part else b"")
    await response.write(head + b",".join(part) + b"]\n")
    await response.write_eof()
    return response
