"""Work that goes on beside what began it: nobody waits for it, so nobody would hear of its failure."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import structlog

from skep.runtime.errors import SkepError

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

AGAIN_S = 1.0  # before work that failed is begun again: what failed at once does not take all the time


async def run_forever(name: str, work: Callable[[], Awaitable[None]], again_s: float = AGAIN_S) -> None:
    """Does `work` to its end, again where it fails: a daemon must not go on without.

    What failed it is logged, once where it is always the same; what nobody thought of, with its trace.
    """
    said = ""
    while True:
        try:
            await work()
            return
        except SkepError as error:
            if str(error) != said:
                log.warning("work.again", work=name, error=str(error))
            said = str(error)
        except Exception:
            log.exception("work.failed", work=name)
        await asyncio.sleep(again_s)


def told_to_end() -> asyncio.Event:
    """Returns what is set by SIGTERM and SIGINT, which end nothing from now on."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


async def in_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Does in a thread what waits for a disk, and returns what it returns. It is done to its end also where
    who waits is cancelled: nothing of it happens behind the back of whoever comes next."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def cancel_and_wait(work: asyncio.Future[None] | None) -> None:
    """Cancels work and waits for its end. What it failed of is logged: its end is not held up by it."""
    if work is None:
        return
    work.cancel()
    await asyncio.wait([work])
    if not work.cancelled() and (error := work.exception()) is not None:
        log.warning("work.had_failed", error=repr(error))
