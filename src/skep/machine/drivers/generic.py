"""Hosts that are there already, which their user reaches over SSH."""

from __future__ import annotations

from collections.abc import Callable

from skep.machine.names import check_address
from skep.machine.record import Machine, SshPlace
from skep.machine.ssh import check_identity


class Generic:
    """`place`: as its user says it."""

    name = "generic"

    def __init__(self, place: SshPlace) -> None:
        self._place = place

    async def check(self, say: Callable[[str], None]) -> None:
        check_address(self._place.address)
        check_identity(self._place)

    async def make(self, name: str, say: Callable[[str], None]) -> SshPlace:
        if not self._place.key:
            say("No SSH key specified. Assuming an existing key at the default location.")
        return self._place

    async def remove(self, machine: Machine) -> str:
        return f"the host {machine.ssh.address} itself goes on as it is, and so does its engine"
