"""Machines of docker-machine's other drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.machine.making import Maker
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.skepd_install import SkepdSource
from skep.machine.store import MachineStore
from skep.runtime.errors import Unsupported


async def test_a_host_of_another_driver_is_not_touched(tmp_path: Path) -> None:
    """It may be of any kind, and is not waited for either."""
    said: list[str] = []
    maker = Maker(MachineStore(tmp_path), "ada.host", lambda: 0.0, said.append, SkepdSource.usual(None))
    place = SshPlace(address="192.0.2.1")
    machine = Machine(name="b2d", driver="virtualbox", ssh=place, engine=EngineWish())
    maker.store.add(machine)
    with pytest.raises(Unsupported, match="driver virtualbox, which skep does not have"):
        await maker.provision(machine)
    assert maker.store.load("b2d") == machine
    assert not said
