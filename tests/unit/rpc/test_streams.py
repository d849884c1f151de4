"""Streams that are not opened."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest

from skep.rpc.interfaces import Handler, Identity
from skep.rpc.link import FrameLink
from skep.rpc.streams import RAFT, OpenStream, Pipe, open_stream
from skep.runtime.errors import Denied


class Link:
    """A connection to another node than was meant; its end is told to its handler."""

    identity = Identity("another", "manager", "c")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def close(self) -> None:
        self._handler.closed("the peer closed the connection")


async def test_an_address_at_which_another_node_answers_leaves_no_error_that_nobody_hears() -> None:
    """asyncio wrote one into the log for each try, ten times a second."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

    async def dial(handler: Handler) -> FrameLink:
        return cast("FrameLink", Link(handler))

    with pytest.raises(Denied, match="is node another"):
        await open_stream(dial, "a:1", "meant", OpenStream(RAFT, "b:1"), Pipe())
    gc.collect()
    await asyncio.sleep(0)
    assert said == []
