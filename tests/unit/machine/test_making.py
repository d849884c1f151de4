"""A machine's life: hosts of docker-machine's other drivers, two commands at once, hosts that stay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.machine import making
from skep.machine.drivers import HostMaking, PowerChange, Say
from skep.machine.drivers.generic import Generic
from skep.machine.making import Maker
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.resizing import resize
from skep.machine.skepd_install import SkepdSource
from skep.machine.store import MachineStore
from skep.runtime.errors import Conflict, NotFound, Unavailable, Unsupported


async def test_a_host_of_another_driver_is_not_touched(tmp_path: Path) -> None:
    """It may be of any kind, and is not waited for either."""
    said: list[str] = []
    maker = Maker(MachineStore(tmp_path), "ada.host", lambda: 0.0, said.append, SkepdSource.usual(None))
    place = SshPlace(address="192.0.2.1")
    machine = Machine(name="b2d", driver="virtualbox", ssh=place, engine=EngineWish())
    maker.store.add(machine)
    with pytest.raises(Unsupported, match="driver virtualbox, which skep does not have"):
        await maker.provision("b2d")
    assert maker.store.load("b2d") == machine
    assert not said


class Slow(Generic):
    """Its hosts are made when somebody says so; they cannot be removed."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        self.asked.set()
        await self.go_on.wait()
        raise Unavailable("no host today")

    async def remove(self, machine: Machine, say: Say) -> str:
        raise Unavailable("401: the token is not valid")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    driver = Slow()
    monkeypatch.setattr(making, "driver_of", lambda machine: driver)

    async def no_context(name: str, directory: Path) -> bool:
        return False

    monkeypatch.setattr(making, "remove_context", no_context)
    return driver


def a_maker(path: Path) -> Maker:
    return Maker(MachineStore(path), "ada.host", 0.0, lambda line: None, SkepdSource.usual(None))


async def test_two_commands_do_not_work_on_one_machine(tmp_path: Path, slow: Slow) -> None:
    """One would write its certificate beside the other's key, or remove a host that is being made."""
    maker = a_maker(tmp_path)
    machine = Machine(name="mg0", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())
    first = asyncio.create_task(maker.create(machine))
    await slow.asked.wait()
    at_work = "another command is at work on mg0"
    with pytest.raises(Conflict, match=at_work):
        await maker.provision("mg0")
    with pytest.raises(Conflict, match=at_work):
        await maker.power("mg0", PowerChange.STOP)
    with pytest.raises(Conflict, match=at_work):
        await maker.move("mg0", "192.0.2.2")
    with pytest.raises(Conflict, match=at_work):
        await resize(maker, "mg0", "16gb", power_cycle=False)
    with pytest.raises(Conflict, match=at_work):
        await maker.remove("mg0", force=False)
    slow.go_on.set()
    with pytest.raises(Unavailable, match="no host today"):
        await first
    with pytest.raises(Unavailable, match="no host today"):
        await maker.provision("mg0")
    assert maker.store.load("mg0").why == "no host today"
    with pytest.raises(NotFound):
        await maker.remove("mg1", force=False)


async def test_a_host_that_stays_is_said_also_by_force(tmp_path: Path, slow: Slow) -> None:
    """It goes on, and may cost."""
    maker = a_maker(tmp_path)
    maker.store.add(
        Machine(name="mg0", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())
    )
    with pytest.raises(Unavailable, match="401"):
        await maker.remove("mg0", force=False)
    left = await maker.remove("mg0", force=True)
    assert left == "its host may be there still: 401: the token is not valid"
    assert not maker.store.has("mg0")


async def test_a_command_begins_with_what_the_one_before_has_left(tmp_path: Path, slow: Slow) -> None:
    """A host that was paid for meanwhile would be ordered once more."""
    maker, seen = a_maker(tmp_path), list[object]()
    machine = Machine(name="mg0", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())

    async def make(machine: Machine, making: HostMaking) -> Machine:
        seen.append(machine.details.get("Id"))
        making.save(replace(machine, details={"Id": 7}))
        raise Unavailable("no host today")

    slow.make = make  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await maker.create(machine)
    with pytest.raises(Unavailable):
        await maker.provision("mg0")
    assert seen == [None, 7]
