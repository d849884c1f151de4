"""Where machines come from. A driver makes a host that can be logged in to, switches it on and off, and ends
it; all else is the same for all (docs/drivers.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from skep.machine.names import expand
from skep.machine.record import Machine
from skep.runtime.errors import Invalid

Say = Callable[[str], None]
# What the user said of the driver's options, by their names without the dashes; "" where nothing, and
# several values of one that `repeats` are on lines of their own.
Values = Mapping[str, str]


class DriverOption(Struct, frozen=True, kw_only=True):
    """An option of `create` that one driver has: `--NAME`, or the variable NAME in capitals. Its value is
    text, "true" of a flag. A `secret` one has no option, for command lines are seen by all: the variable
    only. One `per_machine` stands for as many values as there are names: `10.0.0.[5:9]`, or with commas."""

    name: str
    help: str
    default: str = ""
    is_flag: bool = False
    repeats: bool = False
    per_machine: bool = False
    secret: bool = False

    @property
    def variable(self) -> str:
        return self.name.upper().replace("-", "_")


def values_of_each(options: Sequence[DriverOption], values: Values, count: int) -> list[Values]:
    """Returns what was said for each of `count` machines. Errors: `Invalid` where an option that is each
    machine's own has not as many values. Pure."""
    each: list[dict[str, str]] = [dict(values) for _ in range(count)]
    for option in options:
        if not option.per_machine or not values[option.name]:
            continue
        own = [value for text in values[option.name].split(",") for value in expand(text.strip())]
        if len(own) != count:
            raise Invalid(f"--{option.name} {values[option.name]}: values: {len(own)}, machines: {count}")
        if len(set(own)) < count:
            raise Invalid(f"--{option.name} {values[option.name]}: two machines have the same")
        for machine, value in zip(each, own, strict=True):
            machine[option.name] = value
    return list(each)


class PowerChange(StrEnum):
    """What can be done to a host that is there. `KILL`: its plug is pulled."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    KILL = "kill"


class HostMaking(NamedTuple):
    """`directory`: the machine's own, for what belongs to it, as a key. `say` is given lines for the user.
    `save` keeps a machine as it is now: as soon as there is something that would be lost, or paid for and
    not known."""

    directory: Path
    say: Say
    save: Callable[[Machine], None]


class Driver(Protocol):
    """One kind of hosts. What it knows of one is in the machine's `details`, which only it reads."""

    name: str
    summary: str
    options: tuple[DriverOption, ...]

    def wanted(self, machine: Machine, values: Values) -> Machine:
        """Returns the machine with what its user wants of its host: `ssh`, as far as that is known now, and
        `details`. Errors: `Invalid`. Pure."""

    async def check(self, machine: Machine, say: Say) -> None:
        """Looks whether it can be made, and changes nothing. Errors: `Invalid`, `Unavailable`, `Denied`."""

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        """Makes the host, or finds what there is of it and goes on; returns the machine with its `ssh`.
        Nobody else is at work on it meanwhile (`MachineStore.at_work`), nor where its power is changed.
        Is called again where a machine is half-made, and where it is whole and is provisioned: does
        nothing then. Errors: as above."""

    async def remove(self, machine: Machine, say: Say) -> str:
        """Ends the host; returns what users are told of what is left of it, empty where nothing is. One that
        is gone already is no error. Errors: `Unavailable`, `Denied`."""

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        """Does that, waits for the end of it, and returns the machine: its address may be another one. What
        is so already is no error. Errors: `Unsupported`, with what the user can do, `Unavailable`,
        `Denied`."""

    async def state(self, machine: Machine) -> str:
        """Returns a state of docker-machine's (`engine.STOPPED`, …) where the host's owner knows it better
        than its engine, "" else. Errors: `Unavailable`, `Denied`."""


@runtime_checkable
class Resizable(Protocol):
    """What a driver may be besides."""

    async def resize(self, machine: Machine, size: str, making: HostMaking) -> Machine:
        """Gives the host, which is off, another size; returns the machine. What is so already is no error.
        Errors: `Conflict` where it is on, `Invalid` where it cannot have that size, `Unavailable`,
        `Denied`."""
