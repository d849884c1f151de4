"""Calls to an engine that may be busy, away, or about to be told something else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import structlog

from skep.agent.executor.refusals import EngineError, may_pass
from skep.runtime.errors import Unavailable

log = structlog.get_logger()

# Engine calls of a kind at once: two cores are full with four, more only queue inside the engine. Questions
# have their own: what ended must be seen while containers are made on a disk that is full.
CHANGES_MAX = LOOKS_MAX = 8
STOPS_MAX = 64  # stops mostly wait for the container's grace: were they changes, ten seconds would hold eight
# A call that takes longer is stuck, in a volume or a container that hangs, and costs the engine nothing: the
# next one has its slot. A quarter of a change's deadline (`engine.CALL_S`): should all be slow, an engine has
# 32 at once, and not so many that none is done in time.
SLOW_S = 30.0
SLOW_LOOK_S = 10.0
SLOW_STOP_S = 60.0  # longer than most containers' grace
RETRY_MIN_S, RETRY_MAX_S = 0.2, 5.0  # an engine that restarts is back in seconds
STOP_TRIES = 3  # the engine gives up a kill after ten seconds on a busy machine; then it is broken

T = TypeVar("T")


class Slots:
    """So many calls at once; one that takes longer than `slow_s` goes on without its slot."""

    def __init__(self, most: int, slow_s: float) -> None:
        self._free = asyncio.Semaphore(most)
        self._slow_s = slow_s

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits for a slot, and has it for the block."""
        await self._free.acquire()
        is_held = True

        def hand_on() -> None:
            nonlocal is_held
            is_held = False
            self._free.release()

        timer = asyncio.get_running_loop().call_later(self._slow_s, hand_on)
        try:
            yield
        finally:
            timer.cancel()
            if is_held:
                self._free.release()


class EngineCalls:
    """Bounded calls, by kind: `changes`, `looks`, which change nothing, and `stops`, which wait for a
    container to end."""

    def __init__(self) -> None:
        self.changes = Slots(CHANGES_MAX, SLOW_S)
        self.looks = Slots(LOOKS_MAX, SLOW_LOOK_S)
        self.stops = Slots(STOPS_MAX, SLOW_STOP_S)
        self._is_away = False

    async def look(self, call: Callable[[], Awaitable[T]]) -> T:
        """Makes a call that changes nothing, until it is answered. Errors: `EngineError`."""
        return await self.call(call, self.looks)

    async def call(
        self,
        call: Callable[[], Awaitable[T]],
        slots: Slots | None = None,
        patience_s: float | None = None,
    ) -> T:
        """Makes one engine call, a change where nothing else is said: again and again while the engine cannot
        be reached, for `patience_s` where there is somebody to be told. Errors: `Unavailable` only then,
        `EngineError`."""
        retry_s = RETRY_MIN_S
        began = asyncio.get_running_loop().time()
        while True:
            try:
                async with (slots or self.changes).one():
                    result = await call()
                self._is_away = False
                return result
            except Unavailable as error:
                if not self._is_away:  # said once, not by each of a hundred tasks
                    log.warning("engine.unreachable", error=str(error))
                self._is_away = True
                if patience_s is not None and asyncio.get_running_loop().time() - began > patience_s:
                    raise
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def insist(self, call: Callable[[], Awaitable[None]], slots: Slots) -> None:
        """Makes a call that has to succeed for a container to go. Errors: the last `EngineError`."""
        for tries_left in reversed(range(STOP_TRIES)):
            try:
                return await self.call(call, slots)
            except EngineError as error:
                if not may_pass(error) or not tries_left:
                    raise
            await asyncio.sleep(RETRY_MIN_S)
        return None

    async def to_the_end(self, call: Callable[[], Awaitable[T]]) -> T:
        """Cancelled, it first waits for an answer: the engine goes on anyway, and STOP must come after it."""

        async def answered() -> T:
            inner = asyncio.ensure_future(call())
            try:
                return await asyncio.shield(inner)
            except asyncio.CancelledError:
                try:
                    await asyncio.wait([inner])
                finally:
                    inner.cancel()
                if not inner.cancelled():
                    inner.exception()  # looked at: nobody wants to know any more
                raise

        return await self.call(answered)
