"""Hosts that are there already, which their user reaches over SSH."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from skep.machine.drivers import Driver, DriverOption, HostMaking, PowerChange, Say, Values
from skep.machine.names import check_address, check_user
from skep.machine.power import power_off, reboot
from skep.machine.record import ENGINE_PORT, SSH_PORT, Machine, SshPlace
from skep.machine.ssh_config import CONFIG, configured
from skep.machine.ssh_keys import check_identity
from skep.machine.store import pinned_key
from skep.runtime.errors import Invalid, Unsupported


class Generic(Driver):
    name = "generic"
    summary = "a host that is there"
    options = (
        DriverOption(
            name="generic-ip-address",
            help="The host's address, or its name; of several 10.0.0.[5:9], or with commas.",
            per_machine=True,
        ),
        DriverOption(name="generic-ssh-user", help="Who logs in there. [as ~/.ssh/config says, or root]"),
        DriverOption(name="generic-ssh-key", help="A file. [your own keys, and ssh-agent's]"),
        DriverOption(
            name="generic-ssh-port", help=f"Where sshd listens. [as ~/.ssh/config says, or {SSH_PORT}]"
        ),
        DriverOption(
            name="generic-engine-port", help="Where Docker's API is to be.", default=str(ENGINE_PORT)
        ),
    )

    def wanted(self, machine: Machine, values: Values) -> Machine:
        if not values["generic-ip-address"]:
            raise Invalid("generic driver requires the --generic-ip-address option")
        key = values["generic-ssh-key"]
        address = check_address(values["generic-ip-address"])
        said = configured(address)
        if said.host_name not in ("", address):
            raise Invalid(
                f"{CONFIG} says that {address} is {said.host_name}, and docker clients do not read that: name"
                f" {said.host_name}, and have it on the line of {address} (Host {address} {said.host_name})"
            )
        place = SshPlace(
            address=address,
            user=check_user(values["generic-ssh-user"] or said.user or "root"),
            port=port_of(values, "generic-ssh-port") if values["generic-ssh-port"] else said.port or SSH_PORT,
            key=str(Path(key).expanduser().absolute()) if key else "",
        )
        engine = replace(machine.engine, port=port_of(values, "generic-engine-port"))
        return replace(machine, ssh=place, engine=engine)

    async def check(self, machine: Machine, say: Say) -> None:
        check_identity(machine.ssh)

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        if not machine.is_whole and not machine.ssh.key:
            making.say("No SSH key specified. Assuming an existing key at the default location.")
        return machine

    async def remove(self, machine: Machine, say: Say) -> str:
        return f"the host {machine.ssh.address} itself goes on as it is, and so does its engine"

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        pinned = pinned_key(making.directory)
        if change is PowerChange.STOP:
            await power_off(machine.ssh, pinned, making.say)
        elif change is PowerChange.RESTART:
            await reboot(machine.ssh, pinned, making.say)
        elif change is PowerChange.START:
            raise Unsupported(
                f"nothing on {machine.ssh.address} can be asked to switch it on: do that where its power is"
                " (a console, its provider); its engine comes with it"
            )
        else:
            raise Unsupported(
                f"the plug of {machine.ssh.address} is not within reach: pull it where its power is, or have"
                f" it shut down (skep machine stop {machine.name})"
            )
        return machine

    async def state(self, machine: Machine) -> str:
        return ""


def port_of(values: Values, name: str) -> int:
    """Returns the port that the option says. Errors: `Invalid`."""
    text = values[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536):
        raise Invalid(f"--{name} {text}: it is a port, from 1 to 65535")
    return int(text)
