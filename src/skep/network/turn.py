"""One skepd per network of a host programs it: others that share the host's network leave it to that one.

Who does has a file locked that is named after the network's namespace, in a directory that is root's: nobody
else takes the lock. The kernel lets go of it when the process ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from skep.runtime.errors import Unavailable

DIRECTORY = Path("/run/skep-mesh")
_NAMESPACE = Path("/proc/thread-self/ns/net")
OF_ANOTHER_SWARM = (
    "another skepd on this host, of another swarm, has the routing mesh: ports that this swarm publishes do"
    " not answer here, and its overlay networks end at this host. Give each swarm hosts (or network"
    " namespaces) of its own"
)


class Turn:
    """See the module's text."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._path = Path()
        self._swarm_id: str | None = None

    def take(self, swarm_id: str) -> str | None:
        """Returns None where this process is the one; else what is wrong with that: an empty text where
        another one of the same swarm does it for both. Errors: `Unavailable`, without the right to."""
        try:
            whose = self._take()
            if whose is None:
                self._write(swarm_id)
                return None
        except OSError as error:
            raise Unavailable(f"the routing mesh needs root, with a lock in {DIRECTORY}: {error}") from error
        return "" if whose in ("", swarm_id) else OF_ANOTHER_SWARM

    def give_back(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = self._swarm_id = None

    def _take(self) -> str | None:
        """Returns None once the lock is ours, else the id of the swarm for which another one has it; an
        empty text where it has not said so yet."""
        if self._file is not None:
            return None
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        path = DIRECTORY / str(_NAMESPACE.stat().st_ino)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = _is_at(file, path)
        except BlockingIOError:
            is_ours = False
        if is_ours:
            self._file, self._path = file, path
            return None
        try:
            return os.pread(file, 100, 0).decode(errors="replace")
        finally:
            os.close(file)

    def _write(self, swarm_id: str) -> None:
        if self._file is not None and swarm_id != self._swarm_id:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, swarm_id.encode(), 0)
            self._swarm_id = swarm_id


def _is_at(file: int, path: Path) -> bool:
    """True where the file has not been removed meanwhile, by one that has given the turn back."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
