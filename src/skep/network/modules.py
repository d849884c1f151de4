"""The kernel's modules that are not there by themselves, loaded where they can be. Blocking."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from pathlib import Path

_FILTER, BRIDGES = "br_netfilter", Path("/proc/sys/net/bridge")
# For all bridges of a host the module begins with these: those of virtual machines would have their packets
# dropped by engines' rules. Each of ours asks for it by itself (`objects.Filtered`).
_OF_ALL = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
_WAIT_S = 10  # a module is read and linked within a second


def filters_bridges() -> bool:
    """True where bridges can have rules asked for what goes from one port to another."""
    return BRIDGES.exists() or _load_filter()


def load(module: str) -> bool:
    """Returns whether the kernel has it now; one that is built in it has."""
    return _modprobe(module)


@functools.cache
def is_module(module: str) -> bool:
    """True where it could be loaded, or is: nothing is done."""
    return _modprobe("--dry-run", module)


@functools.cache
def _load_filter() -> bool:
    """Tries it once per process: a kernel that has no such module, or forbids it, goes on to."""
    if not load(_FILTER) or not BRIDGES.exists():
        return False
    leave_others_alone(BRIDGES)
    return True


def _modprobe(*arguments: str) -> bool:
    if shutil.which("modprobe") is None:
        return False
    try:
        done = subprocess.run(["modprobe", *arguments], check=False, capture_output=True, timeout=_WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def leave_others_alone(bridges: Path) -> None:
    """Has no bridge pass the rules that does not ask for it itself."""
    for name in _OF_ALL:
        with contextlib.suppress(OSError):
            (bridges / name).write_text("0")
