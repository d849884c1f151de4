"""Lanes of tests beside each other (`-n 3`): most of the tests' time is waiting.

What a lane starts is in a network of the lane's own: ports, networks of engines and rules of one are not there
for the others, and end with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # unshare(2); os.unshare() comes with Python 3.12


def own_network() -> None:
    """Moves this thread, and what it starts from now on, into a new network with nothing but a loopback.

    Raises OSError where that is not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a lane of tests could not have a network of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextlib.contextmanager
def machine(directory: Path, alone: bool) -> Iterator[None]:
    """Waits until the machine is free: for one test `alone`, or for one of each lane."""
    with (directory / "turn").open("w") as turn, (directory / "machine").open("w") as room:
        # Who waits for the machine keeps the turn, so that other lanes' next tests wait behind it.
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield  # closing a file gives up its lock


def run_directory() -> Path | None:
    """Returns ./check's directory, which it sweeps in the end."""
    path = os.environ.get("SKEP_TEST_RUN")
    return None if path is None else Path(path)
