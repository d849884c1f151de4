"""The driver of a machine that there is."""

from __future__ import annotations

from skep.machine.drivers import Driver
from skep.machine.drivers.generic import Generic
from skep.machine.record import Machine
from skep.runtime.errors import Unsupported


def driver_of(machine: Machine) -> Driver:
    """Errors: `Unsupported` for a driver of docker-machine's that skep does not have."""
    if machine.driver != Generic.name:
        raise Unsupported(
            f'machine "{machine.name}" was made by the driver {machine.driver}, which skep does not have: its'
            " host stays as it is (skep machine rm --force only forgets it)"
        )
    return Generic(machine.ssh)
