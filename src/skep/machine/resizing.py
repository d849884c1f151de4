"""Another size for a machine's host, by the drivers that can."""

from __future__ import annotations

from skep.machine.drivers import Driver, Making, PowerChange, Resizable, Say
from skep.machine.drivers.known import driver_of
from skep.machine.engine import STOPPED
from skep.machine.record import Machine
from skep.machine.store import MachineStore
from skep.runtime.errors import SkepError, Unsupported


async def resize(store: MachineStore, machine: Machine, size: str, *, power_cycle: bool, say: Say) -> Machine:
    """Returns the machine, saved. `power_cycle`: it is switched off before, and on after, whatever comes of
    it; one that is off stays off. Errors: `Unsupported`, `Conflict` where it is on, as of the driver."""
    driver = driver_of(machine)
    if not isinstance(driver, Resizable):
        raise Unsupported(f"the driver {machine.driver} cannot give hosts another size")
    making = Making(store.directory(machine.name), say, store.save)
    if not power_cycle or await driver.state(machine) == STOPPED:
        return _saved(store, await driver.resize(machine, size, making))
    say("Stopping...")
    machine = _saved(store, await driver.power(machine, PowerChange.STOP, making))
    try:
        say(f"Resizing to {size}...")
        machine = _saved(store, await driver.resize(machine, size, making))
    except SkepError as error:
        say(f"It stays as it was: {error}")
        await _start(driver, store, machine, making)
        raise
    return await _start(driver, store, machine, making)


async def _start(driver: Driver, store: MachineStore, machine: Machine, making: Making) -> Machine:
    making.say("Starting...")
    return _saved(store, await driver.power(machine, PowerChange.START, making))


def _saved(store: MachineStore, machine: Machine) -> Machine:
    store.save(machine)
    return machine
