"""How machines are, by whoever knows: the engine, and where that does not answer, the host's owner. A host
that is off sends nothing back, and would take the whole time-out."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from msgspec.structs import replace

from skep.machine.drivers.known import driver_of
from skep.machine.engine import CALL_S, RUNNING, STOPPED, TIMEOUT, Condition, condition_of
from skep.machine.record import Machine
from skep.runtime.errors import SkepError

PATIENCE_S = 1.5  # within that an engine answers; owners count what they are asked


async def known_condition(machine: Machine, directory: Path, timeout_s: float = CALL_S) -> Condition:
    """Returns how the machine is now: what keeps it from answering is part of that, no error."""
    asking = asyncio.create_task(condition_of(machine, directory, timeout_s))
    try:
        await asyncio.wait({asking}, timeout=min(PATIENCE_S, timeout_s))
        if asking.done() and asking.result().state not in (STOPPED, TIMEOUT):
            return asking.result()
        state, error = await _by_owner(machine, timeout_s)
        if state not in ("", RUNNING):
            return Condition(state)
        found = await asking
        # That the host runs is no news of an engine which does not answer.
        return replace(found, error=f"{found.error}; {error}") if error and found.error else found
    finally:
        if not asking.done():
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking


async def _by_owner(machine: Machine, timeout_s: float) -> tuple[str, str]:
    """Returns the state, empty where nobody knows it, and why not."""
    try:
        async with asyncio.timeout(timeout_s):
            return await driver_of(machine).state(machine), ""
    except TimeoutError:
        return "", f"and the driver {machine.driver} says nothing within {timeout_s:g} s"
    except SkepError as error:
        return "", str(error)
