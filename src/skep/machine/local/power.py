"""Switches local machines on and off. A machine is on while its first process is there; `host.sh`, its
supervisor, is there a little longer, and in between while it reboots."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from skep.machine.drivers import Say
from skep.machine.local import plan
from skep.machine.local.base import image_is_whole
from skep.machine.local.hosts import LocalHosts, write_nameservers
from skep.machine.local.network import ensure_network
from skep.machine.local.plan import LocalHost
from skep.machine.local.programs import run_program, script
from skep.machine.remote_shell import last_lines
from skep.machine.store import write_file
from skep.runtime.errors import NotFound, Unavailable

ON_S = 60.0  # from the switch to sshd: a second, and the more the busier this host is
OFF_S = 60.0  # units have 90 s by systemd, an engine's containers 10; who is slower is unplugged
END_S = 30.0  # until processes that were killed have ended, and what was theirs is gone
SPAWN_S = 10.0  # of a shell
LOOK_S = 0.02
_SSH_PORT = 22
# What each init takes for "switch off" and "reboot", as its first process.
_OFF = {plan.SYSTEMD: signal.SIGRTMIN + 4, plan.SYSV: signal.SIGPWR}
_REBOOT = {plan.SYSTEMD: signal.SIGRTMIN + 5, plan.SYSV: signal.SIGINT}


class Power(NamedTuple):
    """One machine's switch."""

    hosts: LocalHosts
    name: str

    @property
    def own(self) -> Path:
        return self.hosts.path(self.name)

    def is_on(self) -> bool:
        return any(_is_there(self.own / each) for each in ("init", "supervisor"))

    def host(self) -> LocalHost:
        """Errors: `NotFound`, `Corrupt`."""
        host = self.hosts.load(self.name)
        if host is None:
            raise NotFound(f"nothing is left of it in {self.own}: skep machine rm takes it from the list")
        return host

    async def on(self) -> None:
        """Its sshd answers then. Errors: `Unavailable`, with what its start said; `NotFound`, `Conflict`."""
        host = self.host()
        if not self.is_on():
            if not image_is_whole(Path(host.image)):
                raise NotFound(
                    f"its base image {host.image} is gone, and with it most of the machine's files"
                )
            async with self.hosts.adding():
                network = await ensure_network(self.hosts, "")
            write_nameservers(self.own)
            await _spawn(self.own, plan.host_environment(self.hosts.directory, self.name, host, network))
        await self._wait_ssh(host)

    async def off(self, say: Say) -> None:
        """As by its button; who does not take its leave is unplugged."""
        if _signal(self.own / "init", _OFF[self.host().init]) and not await _until(self._is_off, OFF_S):
            say(f"It has not switched itself off within {OFF_S:g} s: unplugged")
        await self.unplug()

    async def unplug(self) -> None:
        """All of its processes end at once. Errors: `Unavailable`."""
        if not await _until(self._is_killed, END_S):
            raise Unavailable(f"processes of {self.own} do not end, though they were killed")
        for each in ("init", "supervisor"):
            (self.own / each).unlink(missing_ok=True)

    async def reboot(self, say: Say) -> None:
        """Starts it where it is off. Errors: as of `on`."""
        before = _read(self.own / "init")
        if _signal(self.own / "init", _REBOOT[self.host().init]):
            # Without its supervisor, which somebody has killed, it is off, and does not come by itself.
            if await _until(lambda: _read(self.own / "init") != before or self._is_off(), OFF_S):
                await self.on()
                return
            say(f"It has not rebooted within {OFF_S:g} s: unplugged")
        await self.unplug()
        await self.on()

    async def clear(self) -> None:
        """Nothing of the machine is left but its files; it is off."""
        host, network = self.hosts.load(self.name), self.hosts.network()
        if host is not None and network is not None:
            values = plan.host_environment(self.hosts.directory, self.name, host, network)
            words = ["unshare", "--mount", "--propagation", "private", *script("host.sh"), "clear"]
            await run_program(words, "what is left of the machine cannot be removed", values)

    def _is_off(self) -> bool:
        return not self.is_on()

    def _is_killed(self) -> bool:
        _signal(self.own / "init", signal.SIGKILL)  # again: one that reboots has another first process
        return self._is_off()

    async def _wait_ssh(self, host: LocalHost) -> None:
        deadline = asyncio.get_running_loop().time() + ON_S
        # Before it has its address, questions for it would be repeated a second later.
        while not (_is_there(self.own / "init") and await _greets(host.address)):
            if not self.is_on():
                raise Unavailable(f"the machine does not stay on: {_last_said(self.own / 'log')}")
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"the machine is on, and no sshd answers there: see {self.own / 'log'}")
            await asyncio.sleep(LOOK_S)


async def _spawn(own: Path, values: dict[str, str]) -> None:
    """Its parent is nobody of ours: it outlives the command, its terminal and its session."""
    # It runs as long as the machine, and begins again with each boot: another skep may be here by then.
    write_file(own / "host.sh", Path(script("host.sh")[-1]).read_bytes())
    words = ("unshare", "--mount", "--propagation", "private", "sh", str(own / "host.sh"), "run")
    with (own / "log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("setsid", "--fork", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=values,
            cwd="/",
        )
        await process.wait()
    # Until it says who it is, nobody would take the machine for one that is on.
    await _until(lambda: _is_there(own / "supervisor"), SPAWN_S)


async def _until(holds: Callable[[], bool], wait_s: float) -> bool:
    """Returns whether it did in time."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while not holds():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True


async def _greets(address: str) -> bool:
    """Returns whether sshd answers there now."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(address, _SSH_PORT)
            try:
                return (await reader.read(4)) == b"SSH-"
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def _process(path: Path) -> tuple[int, str] | None:
    """Returns the process that a file names, with when it began; None where that was before this host's
    boot."""
    words = _read(path).split()
    if len(words) != 3 or words[2] != _read(Path("/proc/sys/kernel/random/boot_id")).strip():
        return None
    return int(words[0]), words[1]


def _began(pid: int) -> str:
    """Returns when a process began, in the kernel's ticks; empty where it has ended, also as one that nobody
    has waited for yet."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


def _is_there(path: Path) -> bool:
    found = _process(path)
    return found is not None and _began(found[0]) == found[1]


def _signal(path: Path, number: int) -> bool:
    """Returns whether it could be sent: to that process, and to no other that has its number now."""
    found = _process(path)
    if found is None:
        return False
    try:
        descriptor = os.pidfd_open(found[0])
    except ProcessLookupError:
        return False
    try:
        if _began(found[0]) != found[1]:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _last_said(log: Path) -> str:
    return last_lines(_read(log)) or "it does not say why"
