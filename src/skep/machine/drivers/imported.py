"""A machine that somebody else has made and exported: it is used, and not changed."""

from __future__ import annotations

from skep.machine.drivers import Driver, HostMaking, PowerChange, Say, Values
from skep.machine.record import Machine
from skep.runtime.errors import Invalid, Unsupported


class Imported(Driver):
    name = "imported"
    summary = "a colleague's machine"
    options = ()

    def wanted(self, machine: Machine, values: Values) -> Machine:
        raise Invalid("machines are imported by skep machine import FILE")

    async def check(self, machine: Machine, say: Say) -> None:
        raise Invalid("machines are imported by skep machine import FILE")

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        raise Unsupported(_theirs(machine, "provisioned, and given certificates,"))

    async def remove(self, machine: Machine, say: Say) -> str:
        return "it goes on for whoever has made it"

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        raise Unsupported(_theirs(machine, "switched on and off"))

    async def state(self, machine: Machine) -> str:
        return ""


def _theirs(machine: Machine, what: str) -> str:
    return (
        f'machine "{machine.name}" was imported: it is {what} by whoever has made it, whose CA signs for it'
    )
