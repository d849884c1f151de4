"""Another size for hosts, by the drivers that can."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.machine.drivers import Resizable
from skep.machine.drivers.generic import Generic
from skep.machine.engine import STOPPED
from skep.machine.making import Maker
from skep.machine.record import HALF_MADE
from skep.machine.resizing import resize
from skep.machine.skepd_install import SkepdSource
from skep.machine.store import MachineStore
from skep.runtime.errors import Conflict, Unavailable, Unsupported

from .test_condition import MACHINE, Cloud, with_driver

# Nobody waits for the engine of one that is not whole.
HALF = replace(MACHINE, state=HALF_MADE)


def a_maker(directory: Path, said: list[str]) -> Maker:
    return Maker(MachineStore(directory), "ada.host", lambda: 0.0, said.append, SkepdSource.usual(None))


async def test_another_size_by_a_power_cycle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    maker, cloud = a_maker(tmp_path, said), Cloud()
    assert isinstance(cloud, Resizable)
    with_driver(monkeypatch, cloud)
    maker.store.add(HALF)
    with pytest.raises(Conflict, match="it is on"):
        await resize(maker, HALF.name, "16gb", power_cycle=False)
    assert cloud.told == ["resize 16gb"], "nobody has asked for a stop"
    cloud.told.clear()
    machine = await resize(maker, HALF.name, "16gb", power_cycle=True)
    assert [each for each in cloud.told if each != "state"] == ["stop", "resize 16gb", "start"]
    assert (machine.details["Size"], machine.ssh.address) == ("16gb", "192.0.2.9")
    assert maker.store.load("mg0") == machine
    doings = [line for line in said if line.endswith("...")]
    assert doings == ['Stopping "mg0"...', "Resizing to 16gb...", 'Starting "mg0"...']


async def test_what_cannot_be_resized_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    maker, cloud = a_maker(tmp_path, said), Cloud()
    with_driver(monkeypatch, cloud)
    maker.store.add(HALF)
    with pytest.raises(Unavailable, match="no room"):
        await resize(maker, HALF.name, "huge", power_cycle=True)
    assert cloud.told[-1] == "start"
    assert "It stays as it was: no room" in said
    cloud.now = STOPPED
    cloud.told.clear()
    await resize(maker, HALF.name, "16gb", power_cycle=True)
    assert cloud.told == ["state", "resize 16gb"], "one that was off stays off"


async def test_a_driver_that_cannot_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_driver(monkeypatch, Generic())
    maker = a_maker(tmp_path, [])
    maker.store.add(HALF)
    with pytest.raises(Unsupported, match="the driver cloud cannot give hosts another size"):
        await resize(maker, HALF.name, "16gb", power_cycle=True)
