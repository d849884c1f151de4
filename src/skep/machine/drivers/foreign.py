"""Drivers of packages that are installed beside skep: what they do wrong is told in one line, as an error of
theirs, and never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from skep.machine.drivers import Driver, DriverOption, HostMaking, PowerChange, Resizable, Say, Values
from skep.machine.record import Machine
from skep.runtime.errors import SkepError, Unsupported
from skep.runtime.texts import printable

OPTIONS_MAX = 100  # docker-machine's driver with the most has forty
SAID_BYTES_MAX = 600


class ForeignDriver(Driver):
    """`inner` is theirs; `name` is what users choose it by. Errors: `Unsupported`."""

    def __init__(self, name: str, inner: Any) -> None:
        self.name, self._inner = name, inner
        with self._guarded("cannot be asked what it is"):
            self.summary = str(inner.summary)
            self.options = tuple(inner.options)
        self._check_options()

    def wanted(self, machine: Machine, values: Values) -> Machine:
        with self._guarded("failed"):
            return self._machine(self._inner.wanted(machine, values))

    async def check(self, machine: Machine, say: Say) -> None:
        with self._guarded("failed"):
            await self._inner.check(machine, say)

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        with self._guarded("failed"):
            return self._machine(await self._inner.make(machine, making))

    async def remove(self, machine: Machine, say: Say) -> str:
        with self._guarded("failed"):
            return str(await self._inner.remove(machine, say) or "")

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        with self._guarded("failed"):
            return self._machine(await self._inner.power(machine, change, making))

    async def state(self, machine: Machine) -> str:
        with self._guarded("failed"):
            return str(await self._inner.state(machine) or "")

    def _machine(self, made: object) -> Machine:
        if not isinstance(made, Machine):
            raise TypeError(f"it returned {type(made).__name__}, not a Machine")
        return made

    def _check_options(self) -> None:
        for each in self.options:
            if not isinstance(each, DriverOption):
                raise Unsupported(
                    f"the driver {self.name} has an option that is no DriverOption: {each!r:.100}"
                )
            if not each.name.startswith(f"{self.name}-"):
                raise Unsupported(
                    f"the driver {self.name} has an option --{each.name}, which does not begin with its name"
                )
        if len(self.options) > OPTIONS_MAX:
            raise Unsupported(f"the driver {self.name} has more than {OPTIONS_MAX} options")

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except SkepError:
            raise
        except Exception as error:  # somebody else's code
            said = printable(f"{type(error).__name__}: {error}", SAID_BYTES_MAX)
            raise Unsupported(f"the driver {self.name} {what}: {said}") from error


class ForeignResizableDriver(ForeignDriver):
    """One that can give hosts another size."""

    async def resize(self, machine: Machine, size: str, making: HostMaking) -> Machine:
        with self._guarded("failed"):
            return self._machine(await self._inner.resize(machine, size, making))


def foreign_driver(name: str, made: object) -> Driver:
    """Returns it as one of ours. Errors: `Unsupported`."""
    kind = ForeignResizableDriver if isinstance(made, Resizable) else ForeignDriver
    return kind(name, made)
