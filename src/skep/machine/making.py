"""A machine's life: made, made whole again, removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from skep.machine import provision, services
from skep.machine.condition import look
from skep.machine.contexts import make_context, remove_context
from skep.machine.drivers import Driver, HostMaking, PowerChange, Say
from skep.machine.drivers.known import driver_of
from skep.machine.engine import LISTEN_S, RUNNING, STOPPED, wait_listening
from skep.machine.names import check_address, check_name
from skep.machine.plan import check_wish
from skep.machine.record import HALF_MADE, MADE, Machine
from skep.machine.skepd_install import SkepdSource
from skep.machine.ssh import connected
from skep.machine.store import MachineStore
from skep.machine.upgrading import PackageChange, upgrade_engine
from skep.runtime.entry import reason_of
from skep.runtime.errors import Conflict, NotFound, SkepError, Unavailable

LOOKS = 20  # whether the engine runs at all, while its answer is waited for
REASON_CHARS_MAX = 1000  # kept with a half-made machine


# docker-machine's.
_TEXTS = {
    PowerChange.START: ("Starting", "started"),
    PowerChange.STOP: ("Stopping", "stopped"),
    PowerChange.RESTART: ("Restarting", "restarted"),
    PowerChange.KILL: ("Killing", "killed"),
}


class Maker(NamedTuple):
    """`organization` says in certificates whose machines they are; `clock` gives seconds since the epoch;
    `say` is given each line of what goes on; `source`: what skepd comes from."""

    store: MachineStore
    organization: str
    clock: Callable[[], float]
    say: Say
    source: SkepdSource

    async def check(self, driver: Driver, machine: Machine) -> None:
        """Looks before anything is made. Errors: `Invalid`, `Conflict` where the name is taken."""
        check_name(machine.name)
        check_wish(machine.engine)
        if self.store.has(machine.name):
            raise Conflict(f'Docker machine "{machine.name}" already exists')
        await driver.check(machine, self.say)

    async def create(self, machine: Machine) -> Machine:
        """Returns the machine, whole. What fails leaves one that is half made, and says so."""
        machine = replace(machine, state=HALF_MADE, why="its creation did not come to its end")
        self.store.add(machine)
        with self.store.at_work(machine.name) as now:
            self.say("Creating machine...")
            return await self._provision(now)

    async def provision(self, name: str, *, skepd: bool = False) -> Machine:
        """Does all that makes a host a machine, again where it is one; returns it whole. Errors:
        `Unsupported` where it is a driver's that skep does not have: its hosts may be of any kind; `Conflict`
        where another command is at work on it. `skepd`: it is to run there, also where it did not."""
        with self.store.at_work(name) as machine:
            return await self._provision(replace(machine, skepd=machine.skepd or skepd))

    async def _provision(self, machine: Machine) -> Machine:
        driver = driver_of(machine)
        try:
            machine = await driver.make(machine, self.host_making(machine.name))
            self.store.save(machine)
            await provision.provision(
                self.store, machine, self.organization, self.clock, self.source, self.say
            )
            self.say("Checking connection to Docker...")
            await self._wait_listening(machine)
        except SkepError as error:
            self._keep_reason(machine.name, error)
            raise
        whole = replace(machine, state=MADE, why="")
        self.store.save(whole)
        await self.make_context(whole)
        return whole

    async def power(self, name: str, change: PowerChange) -> Machine:
        """Switches its host on or off, and waits for its engine where that is to run; returns the machine.
        Where its address became another one, its certificates are made for that. Errors: `Unsupported` where
        its driver cannot, with what the user can do; `Conflict` where another command is at work on it."""
        with self.store.at_work(name) as machine:
            return await self.switch(machine, change)

    async def switch(self, machine: Machine, change: PowerChange) -> Machine:
        """The same by whoever is at work on the machine already."""
        name, (doing, done) = machine.name, _TEXTS[change]
        if state := await self._state_already(machine, change):
            self.say(f'Machine "{name}" is already {state.lower()}.')
            return machine
        self.say(f'{doing} "{name}"...')
        before = machine.ssh
        machine = await driver_of(machine).power(machine, change, self.host_making(name))
        self.store.save(machine)
        if change in (PowerChange.START, PowerChange.RESTART) and machine.is_whole:
            if machine.ssh.address != before.address:
                self.say(f"Its address is {machine.ssh.address} now, and was {before.address}")
                machine = await self._provision(machine)
            else:
                await self._wait_listening(machine, boots=True)
        self.say(f'Machine "{name}" was {done}.')
        return machine

    async def move(self, name: str, address: str) -> Machine:
        """Has the machine be at another address, and its certificates for that. Its host is known by its key.
        Errors: `Denied` where another host is there; as of `provision`."""
        check_address(address)
        with self.store.at_work(name) as machine:
            moved = replace(machine, ssh=replace(machine.ssh, address=address))
            async with connected(moved.ssh, self.store.host_key(name)):
                self.store.save(moved)
            return await self._provision(moved)

    async def upgrade(self, name: str) -> list[PackageChange]:
        """Upgrades its engine by its host's packages; returns which are newer. Errors: `Unsupported` where it
        is of no package."""
        with self.store.at_work(name) as machine:
            async with connected(machine.ssh, self.store.host_key(name)) as host:
                changes = await upgrade_engine(host, self.say)
            if changes:
                await self._wait_listening(machine, boots=True)
            return changes

    async def _state_already(self, machine: Machine, change: PowerChange) -> str:
        """Returns the state that the change leads to where it is so already, empty where it is not."""
        if change is PowerChange.START:
            state = (await look(machine, self.store.directory(machine.name))).state
            return state if state == RUNNING else ""
        if change is PowerChange.STOP:  # an engine that does not answer may be on a host that runs
            state = await driver_of(machine).state(machine)
            return state if state == STOPPED else ""
        return ""

    async def remove(self, name: str, *, force: bool) -> str:
        """Returns what users are told of what is left. `force`: what is known here goes, also where the host
        or the docker client does not take part, and while another command is at work on it."""
        if force:
            return await self._remove(name, force=True)
        with self.store.at_work(name):
            return await self._remove(name, force=False)

    async def _remove(self, name: str, *, force: bool) -> str:
        left = ""
        try:
            machine = self.store.load(name)
            left = await driver_of(machine).remove(machine, self.say)
        except SkepError as error:
            if not force:
                raise
            left = f"its host may be there still: {reason_of(error)}"
        try:
            await remove_context(name, self.store.directory(name))
        except NotFound:
            pass  # who has no docker client has no contexts
        except SkepError:
            if not force:
                raise
        self.store.remove(name)
        return left

    def host_making(self, name: str) -> HostMaking:
        return HostMaking(
            self.store.directory(name), lambda line: self.say(f"({name}) {line}"), self.store.save
        )

    async def _wait_listening(self, machine: Machine, *, boots: bool = False) -> None:
        """Waits as long as an engine may take, and as it runs; where its host `boots`, until it runs. Errors:
        `Unavailable`, `Denied`."""
        directory = self.store.directory(machine.name)
        for left in reversed(range(LOOKS)):
            try:
                await wait_listening(machine, directory, LISTEN_S / LOOKS)
                return
            except Unavailable as error:
                async with connected(machine.ssh, self.store.host_key(machine.name)) as host:
                    is_running = await services.runs(host, machine)
                    if left and (is_running or boots):
                        continue
                    why = await services.why_failing(host, machine)
                what = services.what_answers(machine)
                if not is_running:
                    raise Unavailable(
                        f"the {what} does not stay up: {why or 'it does not say why'}"
                    ) from error
                why = f"it says: {why}" if why else "is a firewall in between?"
                raise Unavailable(f"{error}; its {what} runs there: {why}") from error

    async def make_context(self, machine: Machine) -> None:
        """A machine without one is whole: what keeps it from having one is said."""
        try:
            await make_context(machine, self.store.directory(machine.name))
        except SkepError as error:
            self.say(f"No docker context was made: {error}")

    def _keep_reason(self, name: str, error: SkepError) -> None:
        machine = self.store.load(name)  # as its driver has saved it
        # One that was whole stays so: it may be the way to it that fails.
        if not machine.is_whole:
            self.store.save(replace(machine, why=str(error)[:REASON_CHARS_MAX]))
