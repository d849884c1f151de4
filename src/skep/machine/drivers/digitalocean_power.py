"""What is done to a droplet that is there: switched on and off, given another size. Each is waited for, by
the action and by what has become of the droplet: of some the API only says that they were begun."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from skep.machine.drivers import PowerChange
from skep.machine.drivers.digitalocean_account import DigitalOceanAccount
from skep.machine.drivers.digitalocean_api import DigitalOceanApi
from skep.machine.drivers.digitalocean_http import ApiRefusal
from skep.machine.drivers.digitalocean_making import wait_active
from skep.machine.drivers.digitalocean_objects import (
    ARCHIVE,
    COMPLETED,
    ERRORED,
    NEW,
    OFF,
    Droplet,
    DropletAction,
)
from skep.machine.drivers.digitalocean_rules import address_of
from skep.machine.record import Machine
from skep.runtime.errors import Conflict, OutcomeUnknown, Unavailable

ACTION_S = 300.0  # most take some seconds
RESIZE_S = 3600.0  # another host may have to take the disk: a minute for each GB, says the documentation
OFF_S = 120.0  # systemd gives units 90 s to stop
PENDING_S = 180.0  # another action at the droplet, which has one at a time
_LOOK_S, _LOOK_MAX_S = 1.0, 10.0
_TYPES = {
    PowerChange.START: "power_on",
    PowerChange.STOP: "shutdown",
    PowerChange.RESTART: "reboot",
    PowerChange.KILL: "power_off",
}


async def change_power(
    account: DigitalOceanAccount, machine: Machine, number: int, change: PowerChange
) -> Machine:
    """Errors: `Unavailable`, `Conflict`; as of the API."""
    droplet = await _settled(account, number)
    if change is PowerChange.RESTART and droplet.status == OFF:
        change = PowerChange.START
    if change in (PowerChange.STOP, PowerChange.KILL):
        if droplet.status != OFF:
            await _switch_off(account, machine, number, change)
        return machine
    if change is PowerChange.RESTART or droplet.status == OFF:
        await _act(account, number, {"type": _TYPES[change]}, ACTION_S)
    return with_address(machine, await wait_active(account, number))


def with_address(machine: Machine, droplet: Droplet) -> Machine:
    """Returns the machine where the droplet is now."""
    return replace(machine, ssh=replace(machine.ssh, address=address_of(droplet)))


async def change_size(account: DigitalOceanAccount, machine: Machine, number: int, size: str) -> bool:
    """Returns whether it was of another size. Its disk stays as it is, so that it can become smaller again.
    Errors: `Conflict` where it is on; as of the API."""
    droplet = await _settled(account, number)
    if droplet.size_slug == size:
        return False
    if droplet.status != OFF:
        raise Conflict(
            f'machine "{machine.name}" is on, and gets another size while it is off: skep machine stop'
            f" {machine.name} first, or --power-cycle"
        )
    await _act(account, number, {"type": "resize", "size": size, "disk": False}, RESIZE_S)
    return True


async def _settled(account: DigitalOceanAccount, number: int) -> Droplet:
    """Returns the droplet once it is no longer new. Errors: `Conflict` where it is archived."""
    droplet = await account.droplet(number)
    if droplet.status == NEW:
        droplet = await wait_active(account, number)
    if droplet.status == ARCHIVE:
        raise Conflict(f"droplet {number} is archived: DigitalOcean's support has it back")
    return droplet


async def _switch_off(
    account: DigitalOceanAccount, machine: Machine, number: int, change: PowerChange
) -> None:
    hint = f"; skep machine kill {machine.name} pulls its plug" if change is PowerChange.STOP else ""
    try:
        await _act(account, number, {"type": _TYPES[change]}, ACTION_S)
    except Unavailable as error:
        raise Unavailable(f"{error}{hint}") from error
    # A shutdown that is completed was sent to the droplet: whether it heeds it is its own matter.
    deadline = asyncio.get_running_loop().time() + OFF_S
    while (await account.droplet(number)).status != OFF:
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"droplet {number} did not shut down within {OFF_S:g} s{hint}")
        await account.poll()


async def _act(account: DigitalOceanAccount, number: int, action: dict[str, Any], wait_s: float) -> None:
    """Has it done, and waits for its end. Errors: `Unavailable` where it fails or takes longer."""
    loop = asyncio.get_running_loop()
    what = f"{action['type']} of droplet {number}"
    async with account.api() as api:
        begun = await _begin(api, number, action)
        deadline, look_s = loop.time() + wait_s, _LOOK_S
        while begun.status != COMPLETED:
            if begun.status == ERRORED:
                raise Unavailable(f"{what} failed at DigitalOcean (action {begun.id} errored)")
            if loop.time() > deadline:
                raise Unavailable(f"{what} is {begun.status} after {wait_s:g} s (action {begun.id})")
            await asyncio.sleep(look_s)
            look_s = min(look_s * 1.5, _LOOK_MAX_S)
            begun = await api.action(number, begun.id)


async def _begin(api: DigitalOceanApi, number: int, action: dict[str, Any]) -> DropletAction:
    """A droplet has one action at a time; what comes meanwhile is refused, and not queued."""
    deadline = asyncio.get_running_loop().time() + PENDING_S
    while True:
        try:
            return await api.begin(number, action)
        except ApiRefusal as error:
            if "pending event" not in str(error) or asyncio.get_running_loop().time() > deadline:
                raise
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"{error}: whether {action['type']} was begun is not known; the same command again does no"
                " harm"
            ) from error
        await asyncio.sleep(_LOOK_MAX_S / 2)
