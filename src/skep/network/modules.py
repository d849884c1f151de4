"""The kernel's modules that are not there by themselves, loaded where they can be. Blocking."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

_FILTER, _BRIDGES = "br_netfilter", Path("/proc/sys/net/bridge")
_WAIT_S = 10  # a module is read and linked within a second


def filters_bridges() -> bool:
    """True where bridges can have rules asked for what goes from one port to another."""
    return _BRIDGES.exists() or (_load(_FILTER) and _BRIDGES.exists())


@functools.cache
def _load(name: str) -> bool:
    """Tries it once per process: a kernel that has no such module, or forbids it, goes on to."""
    if shutil.which("modprobe") is None:
        return False
    try:
        done = subprocess.run(["modprobe", name], check=False, capture_output=True, timeout=_WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
