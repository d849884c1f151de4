"""Another size for a machine's host, by the drivers that can."""

from __future__ import annotations

from skep.machine.drivers import PowerChange, Resizable
from skep.machine.drivers.known import driver_of
from skep.machine.engine import STOPPED
from skep.machine.making import Maker
from skep.machine.record import Machine
from skep.runtime.errors import SkepError, Unsupported


async def resize(maker: Maker, name: str, size: str, *, power_cycle: bool) -> Machine:
    """Returns the machine, saved. `power_cycle`: it is switched off before, and on after, whatever comes of
    it; one that is off stays off. Errors: `Unsupported`, `Conflict` where it is on, or another command is at
    work on it, as of the driver."""
    with maker.store.at_work(name) as machine:
        return await _resize(maker, machine, size, power_cycle=power_cycle)


async def _resize(maker: Maker, machine: Machine, size: str, *, power_cycle: bool) -> Machine:
    driver = driver_of(machine)
    if not isinstance(driver, Resizable):
        raise Unsupported(f"the driver {machine.driver} cannot give hosts another size")
    making = maker.host_making(machine.name)
    if not power_cycle or await driver.state(machine) == STOPPED:
        machine = await driver.resize(machine, size, making)
        maker.store.save(machine)
        return machine
    machine = await maker.switch(machine, PowerChange.STOP)
    try:
        maker.say(f"Resizing to {size}...")
        machine = await driver.resize(machine, size, making)
        maker.store.save(machine)
    except SkepError as error:
        maker.say(f"It stays as it was: {error}")
        await maker.switch(machine, PowerChange.START)
        raise
    return await maker.switch(machine, PowerChange.START)
