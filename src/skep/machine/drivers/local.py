"""Machines out of namespaces on this host, with their own init, address and engine (`machine/local`)."""

from __future__ import annotations

import os
import secrets
import uuid
from pathlib import Path

import msgspec
from msgspec.structs import replace

from skep.machine.drivers import Driver, DriverOption, HostMaking, PowerChange, Say, Values
from skep.machine.engine import RUNNING, STOPPED
from skep.machine.local import plan
from skep.machine.local.base import ensure_image, image_is_whole, image_path
from skep.machine.local.hosts import LocalHosts, new_files
from skep.machine.local.network import check_network, ensure_network, remove_network
from skep.machine.local.plan import Details, Image, LocalHost
from skep.machine.local.power import Power
from skep.machine.local.programs import missing, run_program
from skep.machine.record import Machine, SshPlace
from skep.machine.ssh_keys import new_key, public_half
from skep.machine.store import read_file, write_file
from skep.runtime.errors import Corrupt, Denied, Invalid, Unavailable, Unsupported

KEY = "id_ed25519"
_GROUPS = Path("/sys/fs/cgroup/cgroup.controllers")  # there where they are of version 2
_PROGRAMS = ("unshare", "nsenter", "flock", "setsid", "mount", "ip", "iptables")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Local(Driver):
    name = "local"
    summary = "a machine out of namespaces on this host"
    options = (
        DriverOption(
            name="local-release", help=f"Debian's: {', '.join(plan.RELEASES)}. [this host's, or bookworm]"
        ),
        DriverOption(name="local-memory", help="The most that it may use: 512m, 2g. [no limit]"),
        DriverOption(name="local-cpus", help="The most that it may use, of this host's: 1.5. [no limit]"),
        DriverOption(name="local-network", help="All machines': 10.218.0.0/24. [one that is free]"),
        DriverOption(
            name="local-directory", help="Where machines are kept.", default="/var/lib/skep/machines"
        ),
        DriverOption(name="local-base-directory", help="Where images are kept. [base, below the other]"),
        DriverOption(name="local-mirror", help="Where Debian's packages come from. [as for this host]"),
    )

    def wanted(self, machine: Machine, values: Values) -> Machine:
        directory, base = values["local-directory"], values["local-base-directory"]
        base = base or f"{directory}/base"
        for option, path in (("local-directory", directory), ("local-base-directory", base)):
            plan.check_path(option, path)
        if release := values["local-release"]:
            plan.image_of(release, has_groups_v2=True)
        if network := values["local-network"]:
            plan.network_of(network)
        details = Details(
            directory=directory,
            base_directory=base,
            release=release,
            mirror=values["local-mirror"],
            network=network,
            memory=plan.memory_of(values["local-memory"]),
            cpu_millis=plan.cpu_millis_of(values["local-cpus"]),
        )
        return _with(machine, details)

    async def check(self, machine: Machine, say: Say) -> None:
        details = _details(machine)
        _check_root()
        if absent := missing(_PROGRAMS):
            raise Unsupported(plan.missing_packages(absent))
        if not image_is_whole(image_path(Path(details.base_directory), _image(details))):
            if absent := missing(("debootstrap",)):
                raise Unsupported(plan.missing_packages(absent))
            if not _KEYRING.exists():
                raise Unsupported("this host has no Debian's keys: apt-get install debian-archive-keyring")
        for option, value, controller in (
            ("local-memory", details.memory, "memory"),
            ("local-cpus", details.cpu_millis, "cpu"),
        ):
            if value and not _has_controller(controller):
                raise Unsupported(f"--{option}: this host has no control groups of {controller}")
        there = next(
            each for each in (Path(details.directory), *Path(details.directory).parents) if each.exists()
        )
        kind = await run_program(["stat", "-f", "-c", "%T", str(there)], str(there))
        plan.check_filesystem(kind.strip(), details.directory)
        await check_network(Path(details.directory), details.network)

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        details = _details(machine)
        _check_root()
        if machine.is_whole:
            if not _power(details).is_on():
                raise Unavailable(f"Host is not running: skep machine start {machine.name}")
            return machine
        image = _image(details)
        path = await ensure_image(Path(details.base_directory), image, details.mirror, making.say)
        if not details.host:
            # Machines of several users may have one name.
            details = replace(details, host=f"{machine.name}-{secrets.token_hex(3)}")
            machine = _with(machine, details)
            making.save(machine)
        key = making.directory / KEY
        power = _power(details)
        host = power.hosts.load(details.host)
        if host is None:
            wanted = LocalHost(
                name=machine.name,
                image=str(path),
                init=image.init,
                address="",
                memory=details.memory,
                cpu_millis=details.cpu_millis,
            )
            host = await _add(power, wanted, details.network, _public_key(key, machine.name))
        machine = replace(machine, ssh=SshPlace(address=host.address, key=str(key)))
        making.save(machine)
        await power.on()
        return machine

    async def remove(self, machine: Machine, say: Say) -> str:
        details = _details(machine)
        if not details.host:
            return ""
        _check_root()
        power = _power(details)
        hosts = power.hosts
        await power.unplug()
        await power.clear()
        hosts.remove(details.host)
        async with hosts.adding():
            if hosts.names():
                return ""
            await remove_network(hosts)
            hosts.remove_shared()
        return f"base images stay in {details.base_directory}, for the next ones: rm -r removes them"

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        _check_root()
        power = _power(_details(machine))
        if change is PowerChange.START:
            await power.on()
        elif change is PowerChange.STOP:
            await power.off(making.say)
        elif change is PowerChange.RESTART:
            await power.reboot(making.say)
        else:
            await power.unplug()
        return machine

    async def state(self, machine: Machine) -> str:
        details = _details(machine)
        return RUNNING if details.host and _power(details).is_on() else STOPPED


async def _add(power: Power, wanted: LocalHost, network: str, user_key: bytes) -> LocalHost:
    """Returns the host that is kept now, with an address. Errors: as of `ensure_network`."""
    host_key = new_key(f"root@{wanted.name}")
    async with power.hosts.adding():
        shared = await ensure_network(power.hosts, network)
        host = replace(wanted, address=plan.choose_address(shared, power.hosts.taken()))
        power.hosts.add(power.name, host, new_files(wanted.name, uuid.uuid4().hex, host_key, user_key))
    return host


def _public_key(path: Path, comment: str) -> bytes:
    """Returns the public half of the user's key for this machine, which is made where there is none. Errors:
    `Invalid`."""
    try:
        return public_half(read_file(path))
    except FileNotFoundError:
        private, public = new_key(comment)
        write_file(path, private)
        return public


def _power(details: Details) -> Power:
    return Power(LocalHosts(Path(details.directory)), details.host)


def _image(details: Details) -> Image:
    release = details.release or plan.default_release(_os_release())
    return plan.image_of(release, has_groups_v2=_GROUPS.exists())


def _os_release() -> str:
    try:
        return Path("/etc/os-release").read_text(errors="replace")
    except OSError:
        return ""


def _has_controller(name: str) -> bool:
    if _GROUPS.exists():
        return name in _GROUPS.read_text().split()
    return any(
        line.split()[0] == name and line.split()[3] == "1"
        for line in Path("/proc/cgroups").read_text().splitlines()[1:]
    )


def _check_root() -> None:
    if os.geteuid() != 0:
        raise Denied(
            "local machines are namespaces of this host, which only root can make: sudo skep machine …"
        )


def _details(machine: Machine) -> Details:
    """Errors: `Corrupt`."""
    try:
        return plan.check_details(msgspec.convert(machine.details, Details))
    except (msgspec.ValidationError, Invalid) as error:
        raise Corrupt(f"the config.json of machine {machine.name} says of its host: {error}") from error


def _with(machine: Machine, details: Details) -> Machine:
    return replace(machine, details=msgspec.to_builtins(details))
