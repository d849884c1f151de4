"""How a machine is: asked of its engine, and of its driver where the engine does not answer. A host that is
off sends nothing back, and would take the whole time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from skep.machine.drivers.known import driver_of
from skep.machine.engine import CALL_S, RUNNING, STOPPED, TIMEOUT, Condition, condition_of
from skep.machine.record import Machine
from skep.runtime.errors import SkepError

# An engine that runs answers sooner; the driver is asked of the others only, for a cloud counts its calls.
ENGINE_ALONE_S = 0.5
# Connections that are begun: each takes 2.4 ms of a processor here, and so none waits for that longer than
# it may take, on a slow computer either. Who is silent for as long as that, and so takes nothing, lets
# another begin: the time-outs of hosts that are off pass beside each other.
BEGUN_MAX, BEGINS_S = 256, 0.5
OPEN_MAX = 512  # with those that are silent; a user's processes may have 1,024 files

Asked = TypeVar("Asked")
Found = TypeVar("Found")


async def look_at_all(asked: Sequence[Asked], one: Callable[[Asked], Awaitable[Found]]) -> list[Found]:
    """Returns what `one` finds of each, in their order. So many are asked at the same time that those which
    do not answer are waited for once, not one after the other."""
    may_begin, may_be_open = asyncio.Semaphore(BEGUN_MAX), asyncio.Semaphore(OPEN_MAX)

    async def in_turn(each: Asked) -> Found:
        async with may_be_open:
            async with may_begin:
                asking = asyncio.ensure_future(one(each))
                await asyncio.wait({asking}, timeout=BEGINS_S)
            return await asking

    return await asyncio.gather(*map(in_turn, asked))


async def look(machine: Machine, directory: Path, timeout_s: float = CALL_S) -> Condition:
    """Returns how it is now: what keeps it from answering is part of that, no error. A host that its driver
    knows to be off is not waited for."""
    asked = asyncio.create_task(condition_of(machine, directory, timeout_s))
    try:
        await asyncio.wait({asked}, timeout=min(ENGINE_ALONE_S, timeout_s))
        # What answers with others' certificates may be another host, which has its address by now.
        if (
            asked.done()
            and asked.result().state not in (STOPPED, TIMEOUT)
            and not _is_stranger(asked.result())
        ):
            return asked.result()
        known, why = await _known(machine, timeout_s)
        if known and known != RUNNING:
            return Condition(known)
        # That the host runs is no news of an engine which does not answer.
        found = await asked
        return replace(found, error=f"{found.error}; {why}") if why and found.error else found
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


def _is_stranger(condition: Condition) -> bool:
    return condition.state == RUNNING and bool(condition.error)


async def _known(machine: Machine, timeout_s: float) -> tuple[str, str]:
    """Returns the state that the driver knows, empty where it does not or cannot say, and why not."""
    try:
        async with asyncio.timeout(timeout_s):
            return await driver_of(machine).state(machine), ""
    except TimeoutError:
        return "", f"the driver {machine.driver} says nothing within {timeout_s:g} s"
    except SkepError as error:
        return "", str(error)
