"""How a machine is: asked of its engine, and of its driver where the engine does not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from skep.machine.drivers.known import driver_of
from skep.machine.engine import CALL_S, RUNNING, Condition, condition_of
from skep.machine.record import Machine
from skep.runtime.errors import SkepError

# An engine that runs answers sooner; the driver is asked of the others only, for a cloud counts its calls.
ENGINE_ALONE_S = 0.5


async def look(machine: Machine, directory: Path, timeout_s: float = CALL_S) -> Condition:
    """Returns how it is now. A host that its driver knows to be off is not waited for."""
    asked = asyncio.create_task(condition_of(machine, directory, timeout_s))
    try:
        await asyncio.wait({asked}, timeout=min(ENGINE_ALONE_S, timeout_s))
        if asked.done() and (asked.result().state == RUNNING or not machine.is_whole):
            return asked.result()
        known = await _known(machine, timeout_s)
        if known and known != RUNNING:
            return Condition(known)
        return await asked
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def _known(machine: Machine, timeout_s: float) -> str:
    """Returns the state that the driver knows, empty where it does not or cannot say: the engine's answer
    counts then."""
    try:
        async with asyncio.timeout(timeout_s):
            return await driver_of(machine).state(machine)
    except (SkepError, TimeoutError):
        return ""
