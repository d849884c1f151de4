"""How machines are where their engine does not answer: their host's owner may know, and may give them a size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.machine import condition as module
from skep.machine import making, resizing
from skep.machine.condition import OPEN_MAX, look, look_at_all
from skep.machine.drivers import Driver, HostMaking, PowerChange, Say, Values
from skep.machine.engine import RUNNING, STARTING, STOPPED, TIMEOUT, Condition
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.runtime.errors import Conflict, SkepError, Unavailable

MACHINE = Machine(name="mg0", driver="cloud", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())


class Cloud(Driver):
    """A driver that remembers what it was told."""

    name, summary, options = "cloud", "", ()

    def __init__(self, state: str = RUNNING, takes_s: float = 0.0, fails: SkepError | None = None) -> None:
        self.now, self._takes_s, self._fails = state, takes_s, fails
        self.told: list[str] = []

    def wanted(self, machine: Machine, values: Values) -> Machine:
        return machine

    async def check(self, machine: Machine, say: Say) -> None: ...

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        return machine

    async def remove(self, machine: Machine, say: Say) -> str:
        return ""

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        self.told.append(change)
        self.now = STOPPED if change is PowerChange.STOP else RUNNING
        address = "192.0.2.9" if change is PowerChange.START else machine.ssh.address
        return replace(machine, ssh=replace(machine.ssh, address=address))

    async def state(self, machine: Machine) -> str:
        self.told.append("state")
        await asyncio.sleep(self._takes_s)
        if self._fails:
            raise self._fails
        return self.now

    async def resize(self, machine: Machine, size: str, making: HostMaking) -> Machine:
        self.told.append(f"resize {size}")
        if self.now != STOPPED:
            raise Conflict("it is on")
        if size == "huge":
            raise Unavailable("no room")
        return replace(machine, details={**machine.details, "Size": size})


def engine_says(monkeypatch: pytest.MonkeyPatch, condition: Condition, takes_s: float) -> None:
    async def condition_of(machine: Machine, directory: Path, timeout_s: float) -> Condition:
        await asyncio.sleep(takes_s)
        return condition

    monkeypatch.setattr(module, "condition_of", condition_of)


def with_driver(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    for each in (module, making, resizing):
        monkeypatch.setattr(each, "driver_of", lambda machine: driver)


async def asked(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> tuple[Condition, float]:
    with_driver(monkeypatch, cloud)
    began = asyncio.get_running_loop().time()
    found = await look(MACHINE, Path("/nowhere"), 10.0)
    return found, asyncio.get_running_loop().time() - began


async def test_an_engine_that_answers_is_believed_and_nobody_else_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine_says(monkeypatch, Condition(RUNNING, "v28"), 0.25)
    cloud = Cloud(STOPPED)
    assert await asked(monkeypatch, cloud) == (Condition(RUNNING, "v28"), 0.25)
    assert not cloud.told


@pytest.mark.parametrize("state", [STOPPED, STARTING])
async def test_a_host_that_is_off_shows_so_at_once(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engine would be waited for until the time-out."""
    engine_says(monkeypatch, Condition(TIMEOUT, error="nothing within 10 s"), 10.0)
    found, took_s = await asked(monkeypatch, Cloud(state))
    assert found == Condition(state)
    assert took_s < 2


async def test_a_host_that_runs_is_no_news_of_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine_says(monkeypatch, Condition(TIMEOUT, error="nothing within 10 s"), 10.0)
    assert await asked(monkeypatch, Cloud(RUNNING)) == (Condition(TIMEOUT, error="nothing within 10 s"), 10.0)
    engine_says(monkeypatch, Condition(RUNNING, "v28"), 3.0)
    assert await asked(monkeypatch, Cloud("")) == (Condition(RUNNING, "v28"), 3.0)


async def test_an_owner_that_does_not_answer_costs_one_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine_says(monkeypatch, Condition(TIMEOUT, error="nothing within 10 s"), 10.0)
    found, took_s = await asked(monkeypatch, Cloud(takes_s=1000.0))
    assert found.state == TIMEOUT
    assert "the driver cloud says nothing within 10 s" in found.error
    assert took_s < 12
    found, _ = await asked(monkeypatch, Cloud(fails=Unavailable("no droplet 7 any more")))
    assert found.error == "nothing within 10 s; no droplet 7 any more"


async def test_another_host_at_the_address_of_one_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Condition(RUNNING, error="There was an error validating certificates")
    engine_says(monkeypatch, stranger, 0.1)
    assert (await asked(monkeypatch, Cloud(STOPPED)))[0] == Condition(STOPPED)
    assert (await asked(monkeypatch, Cloud(RUNNING)))[0] == stranger
    assert (await asked(monkeypatch, Cloud("")))[0] == stranger


async def test_those_that_do_not_answer_are_waited_for_once() -> None:
    """One of twenty is silent, and the last of all, too: their time-outs pass beside each other."""
    at_once: list[int] = []
    asked: set[int] = set()

    async def one(number: int) -> int:
        asked.add(number)
        at_once.append(len(asked))
        await asyncio.sleep(3.0 if number % 20 == 19 else 0.1)
        asked.remove(number)
        return -number

    began = asyncio.get_running_loop().time()
    assert await look_at_all(range(2300), one) == [-number for number in range(2300)]
    assert asyncio.get_running_loop().time() - began < 0.1 * 2300 / 200 + 3.0
    assert 200 < max(at_once) <= OPEN_MAX


async def test_where_nobody_answers_no_more_are_asked_than_files_may_be_open() -> None:
    asked: set[int] = set()

    async def one(number: int) -> None:
        asked.add(number)
        assert len(asked) <= OPEN_MAX
        await asyncio.sleep(3.0)
        asked.remove(number)

    began = asyncio.get_running_loop().time()
    await look_at_all(range(4 * OPEN_MAX), one)
    assert asyncio.get_running_loop().time() - began < 4 * 3.0 + 1.0


async def test_what_one_machine_cannot_be_asked_fails_the_whole() -> None:
    async def one(number: int) -> int:
        if number == 7:
            raise Unavailable("a file that cannot be read")
        return number

    with pytest.raises(Unavailable, match="a file"):
        await look_at_all(range(10), one)
