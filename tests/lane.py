"""Lanes of tests beside each other (`-n 3`): most of the tests' time is waiting.

What a lane starts is in a network of the lane's own: ports, networks of engines and rules of one are not there
for the others, and end with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
from pathlib import Path
from typing import TextIO

_CLONE_NEWNET = 0x40000000  # unshare(2); os.unshare() comes with Python 3.12


def own_network() -> None:
    """Moves this thread, and what it starts from now on, into a new network with nothing but a loopback.

    Raises OSError where that is not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a lane of tests could not have a network of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Machine:
    """What one test `alone` has, or one of each lane."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._room: TextIO | None = None

    def take(self, alone: bool) -> None:
        """Waits until it is free. Who has it all to itself keeps it."""
        if self._room is not None:
            return
        with (self._directory / "turn").open("w") as turn:
            # Who waits for the machine keeps the turn, so that other lanes' next tests wait behind it.
            fcntl.flock(turn, fcntl.LOCK_EX)
            self._room = (self._directory / "machine").open("w")
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)

    def give_back(self) -> None:
        assert self._room is not None
        self._room.close()  # gives up its lock
        self._room = None


def run_directory() -> Path | None:
    """Returns ./check's directory, which it sweeps in the end."""
    path = os.environ.get("SKEP_TEST_RUN")
    return None if path is None else Path(path)
