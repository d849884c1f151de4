"""Which drivers there are: skep's own, and those of packages that are installed beside it."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import entry_points

from skep.machine.drivers import Driver
from skep.machine.drivers.foreign import foreign_driver
from skep.machine.record import Machine
from skep.runtime.errors import NotFound, Unsupported

OWN = {
    "generic": "skep.machine.drivers.generic:Generic",
    "local": "skep.machine.drivers.local:Local",
    "digitalocean": "skep.machine.drivers.digitalocean:DigitalOcean",
}
# Of machines that somebody else has made: none to choose.
_IMPORTED = {"imported": "skep.machine.drivers.imported:Imported"}
GROUP = "skep.machine.drivers"  # of entry points: docs/drivers.md


def driver_names() -> list[str]:
    """Returns the names of all that can be chosen, ours first."""
    return [*OWN, *sorted({each.name for each in entry_points(group=GROUP)} - OWN.keys())]


@functools.cache
def driver_named(name: str) -> Driver:
    """Returns the one that all machines of a command share.

    Errors: `NotFound`, with the names that there are; `Unsupported` for a package whose driver cannot be
    loaded.
    """
    own = {**OWN, **_IMPORTED}
    if name in own:
        module, _, attribute = own[name].partition(":")
        made: Driver = getattr(importlib.import_module(module), attribute)()
        return made
    for each in entry_points(group=GROUP, name=name):
        try:
            made = each.load()()
        except Exception as error:  # somebody else's code
            raise Unsupported(f"the driver {name} ({each.value}) cannot be loaded: {error!r}") from error
        return foreign_driver(name, made)
    raise NotFound(f"there is no driver {name}: {', '.join(driver_names())}")


def driver_of(machine: Machine) -> Driver:
    """Errors: `Unsupported` for a driver of docker-machine's that skep does not have."""
    try:
        return driver_named(machine.driver)
    except NotFound as error:
        raise Unsupported(
            f'machine "{machine.name}" was made by the driver {machine.driver}, which skep does not have: its'
            " host stays as it is (skep machine rm --force only forgets it)"
        ) from error
