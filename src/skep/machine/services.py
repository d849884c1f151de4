"""What runs on a host behind a machine's port, and what it complained of."""

from __future__ import annotations

from skep.machine.record import Machine
from skep.machine.remote_shell import last_lines
from skep.machine.ssh import SshHost

# By systemd: `unit`, and `tag` as its journal has it. Without: `pidfile` of who starts it, and `log`.
_RUNS = """
if [ -d /run/systemd/system ]; then systemctl is-active --quiet {unit}.service
else grep -qF {tag} "/proc/$(cat {pidfile})/cmdline" 2>/dev/null; fi  # numbers are given out again
"""
_WHY = """
if [ -d /run/systemd/system ]; then journalctl --no-pager --output cat -n 50 -u {unit}.service -t {tag}
else tail -n 50 {log}; fi 2>/dev/null |
    grep -v -e level=info | grep -i -e fail -e error -e unable -e skepd: | tail -n 3
"""
_ENGINE = {
    "unit": "docker",
    "tag": "dockerd",
    "pidfile": "/var/run/docker-ssd.pid",
    "log": "/var/log/docker.log",
}
_SKEPD = {"unit": "skepd", "tag": "skepd", "pidfile": "/run/skepd.pid", "log": "/var/log/skepd.log"}


def what_answers(machine: Machine) -> str:
    """Returns what is at the machine's port, as users are told of it."""
    return "skepd" if machine.skepd else "engine"


async def runs(host: SshHost, machine: Machine) -> bool:
    """False where the process that was started has ended. Errors: `Unavailable`."""
    return (await host.run_root(_RUNS.format(**_of(machine)))).status == 0


async def why_failing(host: SshHost, machine: Machine) -> str:
    """Returns the last of what it complained of; empty where it did not. Errors: `Unavailable`."""
    found = await host.run_root(_WHY.format(**_of(machine)))
    return last_lines(found.text)


def _of(machine: Machine) -> dict[str, str]:
    return _SKEPD if machine.skepd else _ENGINE
