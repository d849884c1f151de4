"""Calls to an engine that may be busy, away, or about to be told something else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from skep.agent.executor.refusals import EngineError, may_pass
from skep.runtime.errors import Unavailable

log = structlog.get_logger()

CALLS_MAX = 8  # engine calls at once: two cores are full with four, more only queue inside the engine
STOPS_MAX = 64  # stops mostly wait for the container's grace: were they calls, ten seconds would hold eight
RETRY_MIN_S, RETRY_MAX_S = 0.2, 5.0  # an engine that restarts is back in seconds
STOP_TRIES = 3  # the engine gives up a kill after ten seconds on a busy machine; then it is broken

T = TypeVar("T")


class EngineCalls:
    """Bounded calls: `gate` for short ones, `stop_gate` for those that wait for a container to end."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(CALLS_MAX)
        self.stop_gate = asyncio.Semaphore(STOPS_MAX)
        self._is_away = False

    async def call(
        self,
        call: Callable[[], Awaitable[T]],
        gate: asyncio.Semaphore | None = None,
        patience_s: float | None = None,
    ) -> T:
        """Makes one engine call, again and again while the engine cannot be reached: for `patience_s`, where
        there is somebody to be told. Errors: `Unavailable` only then, `EngineError`."""
        retry_s = RETRY_MIN_S
        began = asyncio.get_running_loop().time()
        while True:
            try:
                async with gate or self.gate:
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

    async def insist(self, call: Callable[[], Awaitable[None]], gate: asyncio.Semaphore) -> None:
        """Makes a call that has to succeed for a container to go. Errors: the last `EngineError`."""
        for tries_left in reversed(range(STOP_TRIES)):
            try:
                return await self.call(call, gate)
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
