"""A directory of unix sockets, by paths that are short however deep it lies (unix(7) allows 107 bytes)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from skep.runtime.errors import Invalid


class SocketDir:
    """Errors: `Invalid` where the directory cannot be made. Only its owner may enter it."""

    def __init__(self, path: Path) -> None:
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
        self.remove(name)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(self.path(name))
            os.chmod(self.path(name), 0o600)
        except OSError as error:
            bound.close()
            raise Invalid(f"the state directory cannot be used: {error}") from error
        return bound

    def replace(self, name: str) -> socket.socket:
        """Returns a socket bound in here that listens, in place of one of before: there is one at any moment.
        Errors: `Invalid`."""
        fresh = f"{name}.new"
        bound = self.bind(fresh)
        try:
            bound.listen(socket.SOMAXCONN)
            os.rename(self.path(fresh), self.path(name))
        except OSError as error:
            bound.close()
            raise Invalid(f"the state directory cannot be used: {error}") from error
        return bound

    def remove(self, name: str) -> None:
        Path(self.path(name)).unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)
