"""Machines that are switched on and off, and how they are meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from skep.machine.condition import ENGINE_ALONE_S, look
from skep.machine.drivers import Driver, HostMaking, PowerChange
from skep.machine.drivers.generic import Generic
from skep.machine.engine import HALF_MADE, RUNNING, STOPPED, TIMEOUT, Condition
from skep.machine.making import Maker
from skep.machine.record import HALF_MADE as STATE_HALF_MADE
from skep.machine.record import MADE, EngineWish, Machine, SshPlace
from skep.machine.skepd_install import SkepdSource
from skep.machine.store import MachineStore
from skep.runtime.errors import Unsupported


class Switched(Driver):
    """A host with a plug. `address` is what it has once it is on."""

    name = "switched"

    def __init__(self, state: str = STOPPED, address: str = "192.0.2.1") -> None:
        self.known = state
        self.address = address
        self.done: list[PowerChange] = []

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        self.done.append(change)
        making.say("click")
        return replace(machine, ssh=replace(machine.ssh, address=self.address))

    async def state(self, machine: Machine) -> str:
        return self.known


class Switching(NamedTuple):
    maker: Maker
    driver: Switched
    said: list[str]
    waited: list[str]
    provisioned: list[str]


@pytest.fixture
def switching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Switching]:
    """A machine of a `Switched`, whose engine is as it is said; what goes over the network is noted only."""

    def made(engine: str, driver: Switched, state: str = MADE) -> Switching:
        said: list[str] = []
        maker = Maker(MachineStore(tmp_path), "ada.host", lambda: 0.0, said.append, SkepdSource.usual(None))
        place = SshPlace(address="192.0.2.1")
        maker.store.add(Machine(name="mg0", driver="switched", ssh=place, engine=EngineWish(), state=state))
        waited: list[str] = []
        provisioned: list[str] = []

        async def condition_of(machine: Machine, directory: Path, timeout_s: float) -> Condition:
            if engine == TIMEOUT:
                await asyncio.sleep(timeout_s)
            return Condition(engine if machine.is_whole else HALF_MADE)

        async def wait_listening(machine: Machine, directory: Path, wait_s: float) -> str:
            waited.append(machine.ssh.address)
            return "28"

        async def provision(self: Maker, machine: Machine) -> Machine:
            provisioned.append(machine.ssh.address)
            return machine

        monkeypatch.setattr("skep.machine.condition.condition_of", condition_of)
        monkeypatch.setattr("skep.machine.condition.driver_of", lambda machine: driver)
        monkeypatch.setattr("skep.machine.making.driver_of", lambda machine: driver)
        monkeypatch.setattr("skep.machine.making.wait_listening", wait_listening)
        monkeypatch.setattr(Maker, "_provision", provision)
        return Switching(maker, driver, said, waited, provisioned)

    return made


async def test_a_machine_that_starts_is_waited_for(switching: Callable[..., Switching]) -> None:
    it = switching(STOPPED, Switched())
    await it.maker.power("mg0", PowerChange.START)
    assert it.driver.done == [PowerChange.START]
    assert it.said == ['Starting "mg0"...', "(mg0) click", 'Machine "mg0" was started.']
    assert it.waited == ["192.0.2.1"]


async def test_what_is_so_already_is_said_and_left(switching: Callable[..., Switching]) -> None:
    it = switching(RUNNING, Switched(RUNNING))
    await it.maker.power("mg0", PowerChange.START)
    assert it.said.pop() == 'Machine "mg0" is already running.'
    it.driver.known = STOPPED
    await it.maker.power("mg0", PowerChange.STOP)
    assert it.said.pop() == 'Machine "mg0" is already stopped.'
    assert not it.driver.done


async def test_a_host_whose_engine_alone_is_down_is_stopped(switching: Callable[..., Switching]) -> None:
    it = switching(STOPPED, Switched(""))
    await it.maker.power("mg0", PowerChange.STOP)
    assert it.driver.done == [PowerChange.STOP]
    assert it.said[-1] == 'Machine "mg0" was stopped.'
    assert not it.waited


async def test_certificates_are_made_for_an_address_that_came_with_the_start(
    switching: Callable[..., Switching],
) -> None:
    it = switching(TIMEOUT, Switched(address="192.0.2.9"))
    await it.maker.power("mg0", PowerChange.START)
    assert "Its address is 192.0.2.9 now, and was 192.0.2.1" in it.said
    assert it.provisioned == ["192.0.2.9"]
    assert it.maker.store.load("mg0").ssh.address == "192.0.2.9"


async def test_a_half_made_machine_has_no_engine_to_wait_for(switching: Callable[..., Switching]) -> None:
    it = switching(STOPPED, Switched(), STATE_HALF_MADE)
    await it.maker.power("mg0", PowerChange.START)
    assert it.driver.done == [PowerChange.START]
    assert not it.waited


async def test_a_host_that_is_known_to_be_off_costs_no_time_out(switching: Callable[..., Switching]) -> None:
    it = switching(TIMEOUT, Switched(STOPPED))
    machine, directory = it.maker.store.load("mg0"), it.maker.store.directory("mg0")
    before = asyncio.get_running_loop().time()
    assert (await look(machine, directory)).state == STOPPED
    assert asyncio.get_running_loop().time() - before == ENGINE_ALONE_S
    it.driver.known = ""
    before = asyncio.get_running_loop().time()
    assert (await look(machine, directory, 2.0)).state == TIMEOUT
    assert asyncio.get_running_loop().time() - before == 2.0


async def test_nobody_asks_the_driver_of_an_engine_that_answers(switching: Callable[..., Switching]) -> None:
    it = switching(RUNNING, Switched(STOPPED))
    assert (await look(it.maker.store.load("mg0"), it.maker.store.directory("mg0"))).state == RUNNING


async def test_a_generic_host_is_not_switched_on_from_afar(tmp_path: Path) -> None:
    machine = Machine(name="mg0", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())
    making = HostMaking(tmp_path, lambda _: None, lambda _: None)
    for change, said in (
        (PowerChange.START, "do that where its power is"),
        (PowerChange.KILL, "machine stop mg0"),
    ):
        with pytest.raises(Unsupported, match=said):
            await Generic().power(machine, change, making)
