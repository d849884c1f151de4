"""A directory of unix sockets, by paths that are short however deep it lies (unix(7) allows 107 bytes)."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

from skep.runtime.errors import Invalid

MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
STACKED_MAX = 16  # mounts upon each other; there is one where somebody mounted over a socket

_libc = ctypes.CDLL(None, use_errno=True)


class SocketDir:
    """Errors: `Invalid` where the directory cannot be made. Only its owner may enter it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Invalid(f"the state directory cannot be used: {error}") from error

    def path(self, name: str) -> str:
        """Returns a path of this process's for a socket in here."""
        return f"/proc/self/fd/{self._fd}/{name}"

    def bind(self, name: str) -> socket.socket:
        """Returns a socket bound in here, in place of one that was left. Errors: `Invalid`."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._make_way(name)
            self.remove(name)
            bound.bind(self.path(name))
            os.chmod(self.path(name), 0o600)
        except OSError as error:
            bound.close()
            raise self._unusable(name, error) from error
        return bound

    def replace(self, name: str) -> socket.socket:
        """Returns a socket bound in here that listens, in place of one of before: there is one at any moment.
        Errors: `Invalid`."""
        fresh = f"{name}.new"
        bound = self.bind(fresh)
        try:
            bound.listen(socket.SOMAXCONN)
            self._make_way(name)
            os.rename(self.path(fresh), self.path(name))
        except OSError as error:
            bound.close()
            raise self._unusable(name, error) from error
        return bound

    def remove(self, name: str) -> None:
        Path(self.path(name)).unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)

    def _make_way(self, name: str) -> None:
        """Takes away what is no file of the directory's own: a mount, or an empty directory, as an engine
        makes where the source of a bind is missing. Errors: `OSError`, for one that is not empty."""
        for _ in range(STACKED_MAX):
            if _libc.umount2(os.fsencode(self.path(name)), MNT_DETACH | UMOUNT_NOFOLLOW) != 0:
                break  # no mount, or no right to take it away
        path = Path(self.path(name))
        if path.is_dir() and not path.is_symlink():
            path.rmdir()

    def _unusable(self, name: str, error: OSError) -> Invalid:
        # The error's own text has the path by which this process has the directory open.
        return Invalid(f"no socket can be made at {self._path / name}: {error.strerror or error}")
