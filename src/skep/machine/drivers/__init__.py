"""Where machines come from. A driver makes a host that can be logged in to; all else is the same for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skep.machine.record import Machine, SshPlace


class Driver(Protocol):
    """One kind of hosts, with what its user said of the one to make."""

    name: str

    async def check(self, say: Callable[[str], None]) -> None:
        """Looks whether a machine can be made, and changes nothing. Errors: `Invalid`, `Unavailable`,
        `Denied`."""

    async def make(self, name: str, say: Callable[[str], None]) -> SshPlace:
        """Makes the host, or finds it where it was made before; returns how to log in. Errors: as above."""

    async def remove(self, machine: Machine) -> str:
        """Ends the host; returns what users are told of what is left of it, empty where nothing is."""
