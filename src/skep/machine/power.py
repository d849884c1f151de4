"""A host that is switched off or restarted from within, over SSH, and that this came to its end."""

from __future__ import annotations

import asyncio

from skep.machine.drivers import Say
from skep.machine.record import SshPlace
from skep.machine.ssh import SshHost, connected
from skep.runtime.errors import SkepError, Unavailable

OFF_S = 180.0  # systemd gives units 90 s to stop, and some another 90
BOOT_S = 300.0  # that, and servers whose firmware looks at all of their memory
RETRY_S = 1.0
REFUSALS = 2  # one may be of an sshd that has many at its door
# A kernel has an id for each boot; hosts that are containers share it, and have a first process of their own.
_BOOT = "cat /proc/sys/kernel/random/boot_id && sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20"
# It answers before sshd ends: who asked would take a lost connection for a failure.
_END = """
export PATH="$PATH:/usr/sbin:/sbin"
if [ -d /run/systemd/system ]; then systemctl --no-block {verb}
elif command -v shutdown >/dev/null; then shutdown {flag} now </dev/null
else {verb}; fi
"""


async def power_off(place: SshPlace, pinned: str | None, say: Say) -> None:
    """Shuts the host down; returns when it lets nobody in any more, which is all that can be seen of it.

    Errors: `Denied` where it does not let us in now, `Unavailable`, also where it is not off in time.
    """
    async with connected(place, pinned) as host:
        await _end(host, "poweroff", "-h")
    say("Waiting for the host to go off...")
    deadline = asyncio.get_running_loop().time() + OFF_S
    refusals = 0
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(RETRY_S)
        try:
            async with connected(place, pinned):
                refusals = 0
        except SkepError:  # not let in, too: a host that goes down takes no users any more
            refusals += 1
            if refusals == REFUSALS:
                return
    raise Unavailable(f"the host lets us in still, {OFF_S:g} s after it was told to power off")


async def reboot(place: SshPlace, pinned: str | None, say: Say) -> None:
    """Restarts the host; returns when it lets us in after it. Errors: as above."""
    async with connected(place, pinned) as host:
        before = await _boot(host)
        await _end(host, "reboot", "-r")
    say("Waiting for the host to boot...")
    deadline = asyncio.get_running_loop().time() + BOOT_S
    reason = "it has not gone off"
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(RETRY_S)
        try:
            async with connected(place, pinned) as host:
                if await _boot(host) != before:
                    return
        except SkepError as error:  # not let in, too: until it is up, hosts take no user but root
            reason = str(error)
    raise Unavailable(f"the host was to boot, and is not back after {BOOT_S:g} s: {reason}")


async def _boot(host: SshHost) -> str:
    """Returns what is another after each boot. Errors: `Unavailable`."""
    said = await host.run(_BOOT)
    if said.status != 0 or not said.text.strip():
        raise Unavailable(f"the host does not say which boot it is: {said.said}")
    return said.text


async def _end(host: SshHost, verb: str, flag: str) -> None:
    """Errors: `Unavailable` where it does not do it, with what it says."""
    said = await host.run_root(_END.format(verb=verb, flag=flag))
    if said.status > 0:  # -1: the connection went with it
        raise Unavailable(f"the host does not {verb}: {said.said}")
